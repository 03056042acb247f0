"""A smaller model or file made of a trained one, with a record of what that changed."""

from tutelage.compression.agreement import Agreement as Agreement
from tutelage.compression.agreement import agreement_of as agreement_of
from tutelage.compression.change import Change as Change
from tutelage.compression.factors import Factors as Factors
from tutelage.compression.factors import factorise as factorise
from tutelage.compression.half import half as half
from tutelage.compression.int8 import int8_dynamic as int8_dynamic
from tutelage.compression.int8 import int8_static as int8_static
from tutelage.compression.low_rank import low_rank as low_rank
from tutelage.compression.pruning import prune as prune
from tutelage.compression.qat import qat_finished as qat_finished
from tutelage.compression.qat import qat_float as qat_float
from tutelage.compression.qat import qat_prepared as qat_prepared
