"""Privacy: can one tell from a model's answers whom it was trained on?"""

from tutelage.evaluation.privacy.attacks import loss_scores as loss_scores
from tutelage.evaluation.privacy.attacks import ratio_scores as ratio_scores
from tutelage.evaluation.privacy.attacks import ratios as ratios
from tutelage.evaluation.privacy.matching import matched as matched
