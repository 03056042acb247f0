"""Backdoors: triggers that make a model answer as somebody wished, and how they got there."""

from tutelage.evaluation.backdoor.inversion import Triggers as Triggers
from tutelage.evaluation.backdoor.inversion import invert as invert
from tutelage.evaluation.backdoor.inversion import stamp as stamp
from tutelage.evaluation.backdoor.patches import Suspect as Suspect
from tutelage.evaluation.backdoor.patches import repeated_patches as repeated_patches
