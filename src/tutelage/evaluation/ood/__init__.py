"""Out of distribution: does a model notice what it was never meant for?"""

from tutelage.evaluation.ood.outside import gaussian_noise as gaussian_noise
from tutelage.evaluation.ood.outside import leave_out as leave_out
from tutelage.evaluation.ood.outside import shuffled as shuffled
from tutelage.evaluation.ood.outside import uniform_noise as uniform_noise
from tutelage.evaluation.ood.scores import energy as energy
from tutelage.evaluation.ood.scores import max_logit as max_logit
from tutelage.evaluation.ood.scores import max_probability as max_probability
from tutelage.evaluation.ood.scores import nearest_neighbour as nearest_neighbour
