"""What a student can be asked to become: one file, one method."""

from tutelage.objectives import adapters as adapters
from tutelage.objectives.attention import Attention as Attention
from tutelage.objectives.attention import AttentionPaper as AttentionPaper
from tutelage.objectives.attention import attention_map as attention_map
from tutelage.objectives.attention import attention_transfer as attention_transfer
from tutelage.objectives.attention import attention_transfer_paper as attention_transfer_paper
from tutelage.objectives.base import AbstractLoss as AbstractLoss
from tutelage.objectives.base import AbstractObjective as AbstractObjective
from tutelage.objectives.base import Sum as Sum
from tutelage.objectives.base import Weighted as Weighted
from tutelage.objectives.cross_entropy import CrossEntropy as CrossEntropy
from tutelage.objectives.cross_entropy import cross_entropy as cross_entropy
from tutelage.objectives.decoupled import Decoupled as Decoupled
from tutelage.objectives.decoupled import decoupled as decoupled
from tutelage.objectives.dist import Dist as Dist
from tutelage.objectives.dist import dist as dist
from tutelage.objectives.dist import pearson as pearson
from tutelage.objectives.logit_standardization import (
    StandardizedSoftTarget as StandardizedSoftTarget,
)
from tutelage.objectives.logit_standardization import standardize_logits as standardize_logits
from tutelage.objectives.logit_standardization import (
    standardized_soft_target as standardized_soft_target,
)
from tutelage.objectives.match import Match as Match
from tutelage.objectives.match import squared_error as squared_error
from tutelage.objectives.relational import RelationAngle as RelationAngle
from tutelage.objectives.relational import RelationDistance as RelationDistance
from tutelage.objectives.relational import angles as angles
from tutelage.objectives.relational import relation_angle as relation_angle
from tutelage.objectives.relational import relation_distance as relation_distance
from tutelage.objectives.relational import relative_distances as relative_distances
from tutelage.objectives.similarity import Similarity as Similarity
from tutelage.objectives.similarity import similarities as similarities
from tutelage.objectives.similarity import similarity as similarity
from tutelage.objectives.soft_target import SoftTarget as SoftTarget
from tutelage.objectives.soft_target import soft_target as soft_target
from tutelage.objectives.soft_target import sparse_soft_target as sparse_soft_target
