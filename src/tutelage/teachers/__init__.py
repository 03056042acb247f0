"""How a batch is answered: several teachers as one."""

from tutelage.teachers.ensemble import Ensemble as Ensemble
from tutelage.teachers.ensemble import mean_of_logits as mean_of_logits
from tutelage.teachers.ensemble import mean_of_probabilities as mean_of_probabilities
