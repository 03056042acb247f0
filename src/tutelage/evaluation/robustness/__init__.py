"""How a model bears images that are worse than those it was made for, by chance or by malice."""

from tutelage.evaluation.robustness.attacks import Attacked as Attacked
from tutelage.evaluation.robustness.attacks import fgsm as fgsm
from tutelage.evaluation.robustness.attacks import noise as noise
from tutelage.evaluation.robustness.attacks import pgd as pgd
from tutelage.evaluation.robustness.auto import Auto as Auto
from tutelage.evaluation.robustness.auto import autoattack as autoattack
from tutelage.evaluation.robustness.corruptions import CORRUPTIONS as CORRUPTIONS
from tutelage.evaluation.robustness.corruptions import corrupt as corrupt
from tutelage.evaluation.robustness.degradation import kept as kept
from tutelage.evaluation.robustness.degradation import (
    mean_corruption_error as mean_corruption_error,
)
from tutelage.evaluation.robustness.degradation import (
    relative_corruption_error as relative_corruption_error,
)
from tutelage.evaluation.robustness.masking import signs as signs
