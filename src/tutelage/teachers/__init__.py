"""How a batch is answered: several teachers as one, or from a cache."""

from tutelage.teachers.cache import Cached as Cached
from tutelage.teachers.cache import Filled as Filled
from tutelage.teachers.cache import Form as Form
from tutelage.teachers.cache import Views as Views
from tutelage.teachers.cache import as_kept as as_kept
from tutelage.teachers.cache import teacher_hash as teacher_hash
from tutelage.teachers.ema import MovingAverage as MovingAverage
from tutelage.teachers.ensemble import Ensemble as Ensemble
from tutelage.teachers.ensemble import mean_of_logits as mean_of_logits
from tutelage.teachers.ensemble import mean_of_probabilities as mean_of_probabilities
from tutelage.teachers.permuted import Permuted as Permuted
from tutelage.teachers.permuted import permuted as permuted
from tutelage.teachers.sparse import sparse_answers as sparse_answers
