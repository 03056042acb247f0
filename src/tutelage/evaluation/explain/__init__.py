"""Where a model looks: maps of importance, and what they are worth."""

from tutelage.evaluation.explain.attention import attention_rollout as attention_rollout
from tutelage.evaluation.explain.cam import grad_cam as grad_cam
from tutelage.evaluation.explain.deletion import area as area
from tutelage.evaluation.explain.deletion import chance as chance
from tutelage.evaluation.explain.deletion import deletion_curve as deletion_curve
from tutelage.evaluation.explain.deletion import hidden_cells as hidden_cells
from tutelage.evaluation.explain.integrated import integrated_gradients as integrated_gradients
from tutelage.evaluation.explain.maps import cells as cells
from tutelage.evaluation.explain.maps import cosine as cosine
from tutelage.evaluation.explain.maps import gini as gini
from tutelage.evaluation.explain.maps import rank_correlation as rank_correlation
from tutelage.evaluation.explain.maps import resized as resized
from tutelage.evaluation.explain.maps import spread as spread
from tutelage.evaluation.explain.randomised import unlearned as unlearned
