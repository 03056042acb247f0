"""The student changes: the one loop and what it needs."""

from tutelage.engine.batchwise import BatchwiseWarning as BatchwiseWarning
from tutelage.engine.checkpoint import Keep as Keep
from tutelage.engine.fit import Fitted as Fitted
from tutelage.engine.fit import fit as fit
from tutelage.engine.hooks import Hook as Hook
from tutelage.engine.hooks import LogFile as LogFile
from tutelage.engine.hooks import ProgressBar as ProgressBar
from tutelage.engine.hooks import Record as Record
from tutelage.engine.learner import Learner as Learner
from tutelage.engine.machine import Machine as Machine
from tutelage.engine.optimizers import adamw as adamw
from tutelage.engine.optimizers import sgd as sgd
from tutelage.engine.schedules import constant as constant
from tutelage.engine.schedules import cosine as cosine
from tutelage.engine.schedules import multi_step as multi_step
from tutelage.engine.schedules import one_cycle as one_cycle
from tutelage.engine.setting import AbstractSetting as AbstractSetting
from tutelage.engine.setting import Update as Update
from tutelage.engine.validation import Validation as Validation
