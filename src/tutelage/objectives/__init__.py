"""What a student can be asked to become: one file, one method."""

from tutelage.objectives import adapters as adapters
from tutelage.objectives.attention.distributions import (
    AttentionDistribution as AttentionDistribution,
)
from tutelage.objectives.attention.distributions import attention_divergence as attention_divergence
from tutelage.objectives.attention.heads import attention_scores as attention_scores
from tutelage.objectives.attention.heads import log_attention as log_attention
from tutelage.objectives.attention.minilm import MiniLM as MiniLM
from tutelage.objectives.attention.minilm import minilm as minilm
from tutelage.objectives.attention.minilm_v2 import MiniLMRelations as MiniLMRelations
from tutelage.objectives.attention.minilm_v2 import relation_divergence as relation_divergence
from tutelage.objectives.attention.scores import AttentionScores as AttentionScores
from tutelage.objectives.attention.scores import score_error as score_error
from tutelage.objectives.attention.transfer import Attention as Attention
from tutelage.objectives.attention.transfer import AttentionPaper as AttentionPaper
from tutelage.objectives.attention.transfer import attention_map as attention_map
from tutelage.objectives.attention.transfer import attention_transfer as attention_transfer
from tutelage.objectives.attention.transfer import (
    attention_transfer_paper as attention_transfer_paper,
)
from tutelage.objectives.base import AbstractLoss as AbstractLoss
from tutelage.objectives.base import AbstractObjective as AbstractObjective
from tutelage.objectives.base import AbstractUnitLoss as AbstractUnitLoss
from tutelage.objectives.base import AbstractWrapper as AbstractWrapper
from tutelage.objectives.base import Sum as Sum
from tutelage.objectives.base import Weighted as Weighted
from tutelage.objectives.contrastive.crd import Contrastive as Contrastive
from tutelage.objectives.contrastive.crd import noise_contrast as noise_contrast
from tutelage.objectives.contrastive.hsakd import AuxiliaryClassifier as AuxiliaryClassifier
from tutelage.objectives.contrastive.hsakd import SelfSupervisedAugmented as SelfSupervisedAugmented
from tutelage.objectives.contrastive.hsakd import joint_labels as joint_labels
from tutelage.objectives.contrastive.infonce import InfoNCE as InfoNCE
from tutelage.objectives.contrastive.infonce import info_nce as info_nce
from tutelage.objectives.contrastive.seed import Seed as Seed
from tutelage.objectives.contrastive.seed import similarity_distribution as similarity_distribution
from tutelage.objectives.contrastive.sskd import SelfSupervised as SelfSupervised
from tutelage.objectives.contrastive.sskd import TransformedSoftTarget as TransformedSoftTarget
from tutelage.objectives.contrastive.sskd import least_wrong as least_wrong
from tutelage.objectives.contrastive.sskd import self_supervision as self_supervision
from tutelage.objectives.conventions import CONVENTIONS as CONVENTIONS
from tutelage.objectives.conventions import Convention as Convention
from tutelage.objectives.conventions import convert as convert
from tutelage.objectives.crossed.alm import LikelihoodMatching as LikelihoodMatching
from tutelage.objectives.crossed.alm import chunk_divergence as chunk_divergence
from tutelage.objectives.crossed.coverage import coverage as coverage
from tutelage.objectives.crossed.coverage import overlap_mass as overlap_mass
from tutelage.objectives.crossed.likelihood import chunk_log_likelihoods as chunk_log_likelihoods
from tutelage.objectives.crossed.likelihood import text_answers as text_answers
from tutelage.objectives.crossed.overlap import VocabularyOverlap as VocabularyOverlap
from tutelage.objectives.crossed.overlap import overlap_divergence as overlap_divergence
from tutelage.objectives.crossed.uld import UniversalLogit as UniversalLogit
from tutelage.objectives.crossed.uld import universal_logit as universal_logit
from tutelage.objectives.crossed.vocabulary import one_family as one_family
from tutelage.objectives.crossed.vocabulary import shared_classes as shared_classes
from tutelage.objectives.crossed.vocabulary import token_map as token_map
from tutelage.objectives.dense.channel_wise import ChannelWise as ChannelWise
from tutelage.objectives.dense.channel_wise import channel_wise as channel_wise
from tutelage.objectives.dense.class_variation import ClassVariation as ClassVariation
from tutelage.objectives.dense.class_variation import class_variation as class_variation
from tutelage.objectives.dense.class_variation import (
    class_variations_apart as class_variations_apart,
)
from tutelage.objectives.dense.cross_head import CrossHead as CrossHead
from tutelage.objectives.dense.cross_head import predictions_apart as predictions_apart
from tutelage.objectives.dense.cross_head import quality_focal as quality_focal
from tutelage.objectives.dense.cross_image import CrossImage as CrossImage
from tutelage.objectives.dense.cross_image import cross_image as cross_image
from tutelage.objectives.dense.cross_image import pixel_relations as pixel_relations
from tutelage.objectives.dense.cross_image_memory import CrossImageMemory as CrossImageMemory
from tutelage.objectives.dense.cross_image_memory import memory_relations as memory_relations
from tutelage.objectives.dense.focal_global import FocalGlobal as FocalGlobal
from tutelage.objectives.dense.focal_global import box_scales as box_scales
from tutelage.objectives.dense.focal_global import focal as focal
from tutelage.objectives.dense.focal_global import focal_attention as focal_attention
from tutelage.objectives.dense.localization import Localization as Localization
from tutelage.objectives.dense.localization import localization as localization
from tutelage.objectives.dense.pairwise import Pairwise as Pairwise
from tutelage.objectives.dense.pairwise import node_similarities as node_similarities
from tutelage.objectives.dense.pairwise import pairwise as pairwise
from tutelage.objectives.dense.score_weighted import ScoreWeighted as ScoreWeighted
from tutelage.objectives.dense.score_weighted import score_weighted as score_weighted
from tutelage.objectives.feature.ab import ActivationBoundary as ActivationBoundary
from tutelage.objectives.feature.ab import activation_boundary as activation_boundary
from tutelage.objectives.feature.cat_kd import CATKD as CATKD
from tutelage.objectives.feature.cat_kd import cat_kd as cat_kd
from tutelage.objectives.feature.cat_kd import class_maps as class_maps
from tutelage.objectives.feature.diffkd import DiffKD as DiffKD
from tutelage.objectives.feature.diffkd import denoise as denoise
from tutelage.objectives.feature.foundation import QueueKD as QueueKD
from tutelage.objectives.feature.foundation import TokenSimilarity as TokenSimilarity
from tutelage.objectives.feature.foundation import queue_kd as queue_kd
from tutelage.objectives.feature.foundation import token_similarity as token_similarity
from tutelage.objectives.feature.ft import FactorTransfer as FactorTransfer
from tutelage.objectives.feature.ft import factor_distance as factor_distance
from tutelage.objectives.feature.itrd import ITRD as ITRD
from tutelage.objectives.feature.itrd import itrd_correlation as itrd_correlation
from tutelage.objectives.feature.itrd import itrd_mutual as itrd_mutual
from tutelage.objectives.feature.mgd import MaskedGeneration as MaskedGeneration
from tutelage.objectives.feature.mgd import generated_error as generated_error
from tutelage.objectives.feature.mgd import masked_feature as masked_feature
from tutelage.objectives.feature.norm import NToOne as NToOne
from tutelage.objectives.feature.norm import segments_error as segments_error
from tutelage.objectives.feature.ofd import Overhaul as Overhaul
from tutelage.objectives.feature.ofd import margin_of_norm as margin_of_norm
from tutelage.objectives.feature.ofd import margin_of_probe as margin_of_probe
from tutelage.objectives.feature.ofd import partial_squared_error as partial_squared_error
from tutelage.objectives.feature.phi_s import PhiS as PhiS
from tutelage.objectives.feature.phi_s import phi_s as phi_s
from tutelage.objectives.feature.phi_s import phi_s_matrix as phi_s_matrix
from tutelage.objectives.feature.pkd import PKD as PKD
from tutelage.objectives.feature.pkd import pkd as pkd
from tutelage.objectives.feature.reviewkd import KnowledgeReview as KnowledgeReview
from tutelage.objectives.feature.reviewkd import hierarchical_context as hierarchical_context
from tutelage.objectives.feature.scalekd import ScaleKD as ScaleKD
from tutelage.objectives.feature.scalekd import frequency_view as frequency_view
from tutelage.objectives.feature.scalekd import spatial_view as spatial_view
from tutelage.objectives.feature.simkd import ReusedClassifier as ReusedClassifier
from tutelage.objectives.feature.simkd import projected_error as projected_error
from tutelage.objectives.feature.srd import SRD as SRD
from tutelage.objectives.feature.srd import srd as srd
from tutelage.objectives.feature.srrl import SoftmaxRegression as SoftmaxRegression
from tutelage.objectives.feature.srrl import regression_error as regression_error
from tutelage.objectives.feature.vid import VariationalInformation as VariationalInformation
from tutelage.objectives.feature.vid import gaussian_surprise as gaussian_surprise
from tutelage.objectives.feature.vitkd import ViTKD as ViTKD
from tutelage.objectives.feature.vitkd import masked_squares as masked_squares
from tutelage.objectives.feature.vkd import VkD as VkD
from tutelage.objectives.feature.vkd import vkd as vkd
from tutelage.objectives.feature.wkd_f import WassersteinFeatures as WassersteinFeatures
from tutelage.objectives.feature.wkd_f import wasserstein_features as wasserstein_features
from tutelage.objectives.hidden.bert_emd import BertEMD as BertEMD
from tutelage.objectives.hidden.cross_model import cross_attention as cross_attention
from tutelage.objectives.hidden.distilbert import DistilBERTCosine as DistilBERTCosine
from tutelage.objectives.hidden.dskd import DualSpace as DualSpace
from tutelage.objectives.hidden.dskd import projector_between as projector_between
from tutelage.objectives.hidden.embed_distill import EmbedDistill as EmbedDistill
from tutelage.objectives.hidden.embed_distill import embedding_distance as embedding_distance
from tutelage.objectives.hidden.jasper import PairwiseCosines as PairwiseCosines
from tutelage.objectives.hidden.jasper import cosine_error as cosine_error
from tutelage.objectives.hidden.margin_mse import EmbeddingMargins as EmbeddingMargins
from tutelage.objectives.hidden.margin_mse import MarginMSE as MarginMSE
from tutelage.objectives.hidden.margin_mse import margin_mse as margin_mse
from tutelage.objectives.hidden.margin_mse import triple_margins as triple_margins
from tutelage.objectives.hidden.matryoshka import Matryoshka as Matryoshka
from tutelage.objectives.hidden.matryoshka import first_numbers as first_numbers
from tutelage.objectives.hidden.mobilebert import FeatureMaps as FeatureMaps
from tutelage.objectives.hidden.mobilebert import MobileBERT as MobileBERT
from tutelage.objectives.hidden.patient import PatientStates as PatientStates
from tutelage.objectives.hidden.patient import patient_distance as patient_distance
from tutelage.objectives.hidden.rank_cse import RankedSimilarities as RankedSimilarities
from tutelage.objectives.hidden.rank_cse import ranked_similarities as ranked_similarities
from tutelage.objectives.hidden.states import AbstractStates as AbstractStates
from tutelage.objectives.hidden.states import state_error as state_error
from tutelage.objectives.hidden.tinybert import TinyBERT as TinyBERT
from tutelage.objectives.hidden.tinybert import TinyBERTStates as TinyBERTStates
from tutelage.objectives.inner import Inner as Inner
from tutelage.objectives.language.divergences import DIVERGENCES as DIVERGENCES
from tutelage.objectives.language.heads import LinearHead as LinearHead
from tutelage.objectives.language.linear_head import linear_divergence as linear_divergence
from tutelage.objectives.language.linear_head import mass_beyond as mass_beyond
from tutelage.objectives.language.sparse import (
    sparse_linear_divergence as sparse_linear_divergence,
)
from tutelage.objectives.matching.abstract import AbstractMatch as AbstractMatch
from tutelage.objectives.matching.abstract import matched as matched
from tutelage.objectives.matching.blockwise import Blockwise as Blockwise
from tutelage.objectives.matching.blockwise import relative_error as relative_error
from tutelage.objectives.matching.distances import attention_distance as attention_distance
from tutelage.objectives.matching.distances import cosine_distance as cosine_distance
from tutelage.objectives.matching.distances import smooth_error as smooth_error
from tutelage.objectives.matching.distances import squared_error as squared_error
from tutelage.objectives.matching.layers import MatchLayers as MatchLayers
from tutelage.objectives.matching.layers import layer_pairs as layer_pairs
from tutelage.objectives.matching.links import AttentionLinks as AttentionLinks
from tutelage.objectives.matching.links import link_strengths as link_strengths
from tutelage.objectives.matching.links import map_distances as map_distances
from tutelage.objectives.matching.match import Match as Match
from tutelage.objectives.matching.semantic import SemanticMatch as SemanticMatch
from tutelage.objectives.matching.semantic import layer_attention as layer_attention
from tutelage.objectives.matching.transport import MatchTransport as MatchTransport
from tutelage.objectives.matching.transport import cost_attention as cost_attention
from tutelage.objectives.matching.transport import moved_weights as moved_weights
from tutelage.objectives.matching.transport import transport_plan as transport_plan
from tutelage.objectives.matching.tutor import MatchTutor as MatchTutor
from tutelage.objectives.matching.tutor import tutor_shares as tutor_shares
from tutelage.objectives.paired import AbstractPaired as AbstractPaired
from tutelage.objectives.preference.chosen import ChosenAnswer as ChosenAnswer
from tutelage.objectives.preference.contrastive_skew import ContrastiveSkew as ContrastiveSkew
from tutelage.objectives.preference.dpo import DPO as DPO
from tutelage.objectives.preference.dpo import preference_gap as preference_gap
from tutelage.objectives.preference.dpo import preference_loss as preference_loss
from tutelage.objectives.preference.ranked import RankedAnswers as RankedAnswers
from tutelage.objectives.preference.ranked import rank_by_list as rank_by_list
from tutelage.objectives.preference.ranked import rank_by_pairs as rank_by_pairs
from tutelage.objectives.preference.ranked import rank_softly as rank_softly
from tutelage.objectives.preference.sequences import sequence_log_probs as sequence_log_probs
from tutelage.objectives.preference.simpo import SimPO as SimPO
from tutelage.objectives.preference.simpo import simpo as simpo
from tutelage.objectives.relation.abstract import AbstractRelation as AbstractRelation
from tutelage.objectives.relation.affinity import Affinity as Affinity
from tutelage.objectives.relation.affinity import channel_affinity as channel_affinity
from tutelage.objectives.relation.affinity import position_affinity as position_affinity
from tutelage.objectives.relation.alignment import KernelAlignment as KernelAlignment
from tutelage.objectives.relation.alignment import kernel_alignment as kernel_alignment
from tutelage.objectives.relation.channels import ChannelCorrelation as ChannelCorrelation
from tutelage.objectives.relation.channels import channel_correlation as channel_correlation
from tutelage.objectives.relation.channels import channel_correlations as channel_correlations
from tutelage.objectives.relation.correlation import Correlation as Correlation
from tutelage.objectives.relation.correlation import CorrelationAdjacent as CorrelationAdjacent
from tutelage.objectives.relation.correlation import correlation_adjacent as correlation_adjacent
from tutelage.objectives.relation.correlation import (
    correlation_congruence as correlation_congruence,
)
from tutelage.objectives.relation.correlation import taylor_correlations as taylor_correlations
from tutelage.objectives.relation.flow import Flow as Flow
from tutelage.objectives.relation.flow import flow_matrix as flow_matrix
from tutelage.objectives.relation.flow import solution_flow as solution_flow
from tutelage.objectives.relation.graph import RelationshipGraph as RelationshipGraph
from tutelage.objectives.relation.graph import instance_edges as instance_edges
from tutelage.objectives.relation.graph import instance_movements as instance_movements
from tutelage.objectives.relation.probabilistic import Probabilistic as Probabilistic
from tutelage.objectives.relation.probabilistic import (
    neighbour_probabilities as neighbour_probabilities,
)
from tutelage.objectives.relation.probabilistic import (
    probabilistic_transfer as probabilistic_transfer,
)
from tutelage.objectives.relation.relational import RelationAngle as RelationAngle
from tutelage.objectives.relation.relational import RelationDistance as RelationDistance
from tutelage.objectives.relation.relational import angles as angles
from tutelage.objectives.relation.relational import relation_angle as relation_angle
from tutelage.objectives.relation.relational import relation_distance as relation_distance
from tutelage.objectives.relation.relational import relative_distances as relative_distances
from tutelage.objectives.relation.selectivity import NeuronSelectivity as NeuronSelectivity
from tutelage.objectives.relation.selectivity import neuron_selectivity as neuron_selectivity
from tutelage.objectives.relation.similarity import Similarity as Similarity
from tutelage.objectives.relation.similarity import similarities as similarities
from tutelage.objectives.relation.similarity import similarity as similarity
from tutelage.objectives.relation.singular import SingularVectors as SingularVectors
from tutelage.objectives.relation.singular import aligned_vectors as aligned_vectors
from tutelage.objectives.relation.singular import singular_relation as singular_relation
from tutelage.objectives.relation.singular import singular_vectors as singular_vectors
from tutelage.objectives.response.adaptive_kl import AdaptiveKL as AdaptiveKL
from tutelage.objectives.response.adaptive_kl import adaptive_kl as adaptive_kl
from tutelage.objectives.response.alpha_beta import AlphaBeta as AlphaBeta
from tutelage.objectives.response.alpha_beta import alpha_beta as alpha_beta
from tutelage.objectives.response.binary import BinaryCrossEntropy as BinaryCrossEntropy
from tutelage.objectives.response.binary import BinarySoftTarget as BinarySoftTarget
from tutelage.objectives.response.binary import binary_cross_entropy as binary_cross_entropy
from tutelage.objectives.response.binary import binary_soft_target as binary_soft_target
from tutelage.objectives.response.corrected_teacher import CorrectedTeacher as CorrectedTeacher
from tutelage.objectives.response.corrected_teacher import (
    corrected_probabilities as corrected_probabilities,
)
from tutelage.objectives.response.corrected_teacher import corrected_teacher as corrected_teacher
from tutelage.objectives.response.cross_entropy import CrossEntropy as CrossEntropy
from tutelage.objectives.response.cross_entropy import cross_entropy as cross_entropy
from tutelage.objectives.response.curriculum_temperature import (
    CurriculumTemperature as CurriculumTemperature,
)
from tutelage.objectives.response.curriculum_temperature import (
    reversed_gradient as reversed_gradient,
)
from tutelage.objectives.response.curriculum_temperature import tempered_target as tempered_target
from tutelage.objectives.response.customized import CustomizedLabel as CustomizedLabel
from tutelage.objectives.response.customized import customized_label as customized_label
from tutelage.objectives.response.customized import zipf_shares as zipf_shares
from tutelage.objectives.response.decoupled import Decoupled as Decoupled
from tutelage.objectives.response.decoupled import decoupled as decoupled
from tutelage.objectives.response.decoupled_kl import DecoupledKL as DecoupledKL
from tutelage.objectives.response.decoupled_kl import ImprovedKL as ImprovedKL
from tutelage.objectives.response.decoupled_kl import decoupled_kl as decoupled_kl
from tutelage.objectives.response.decoupled_kl import difference_spread as difference_spread
from tutelage.objectives.response.decoupled_kl import improved_kl as improved_kl
from tutelage.objectives.response.decoupled_parts import OthersPart as OthersPart
from tutelage.objectives.response.decoupled_parts import TargetPart as TargetPart
from tutelage.objectives.response.decoupled_parts import top_others as top_others
from tutelage.objectives.response.dist import Dist as Dist
from tutelage.objectives.response.dist import dist as dist
from tutelage.objectives.response.dist import pearson as pearson
from tutelage.objectives.response.distillation_token import DistillationToken as DistillationToken
from tutelage.objectives.response.distillation_token import HardTarget as HardTarget
from tutelage.objectives.response.distillation_token import hard_target as hard_target
from tutelage.objectives.response.jensen_shannon import JensenShannon as JensenShannon
from tutelage.objectives.response.jensen_shannon import jensen_shannon as jensen_shannon
from tutelage.objectives.response.logit_mse import LogitMSE as LogitMSE
from tutelage.objectives.response.logit_mse import logit_mse as logit_mse
from tutelage.objectives.response.logit_standardization import (
    StandardizedSoftTarget as StandardizedSoftTarget,
)
from tutelage.objectives.response.logit_standardization import (
    standardize_logits as standardize_logits,
)
from tutelage.objectives.response.logit_standardization import (
    standardized_soft_target as standardized_soft_target,
)
from tutelage.objectives.response.multi_level import MultiLevel as MultiLevel
from tutelage.objectives.response.multi_level import multi_level as multi_level
from tutelage.objectives.response.multi_level import unsure as unsure
from tutelage.objectives.response.normalized import NormalizedTarget as NormalizedTarget
from tutelage.objectives.response.normalized import normalized_target as normalized_target
from tutelage.objectives.response.one_for_all import OneForAll as OneForAll
from tutelage.objectives.response.one_for_all import enhanced_target as enhanced_target
from tutelage.objectives.response.refined import Refined as Refined
from tutelage.objectives.response.refined import masked_correlation as masked_correlation
from tutelage.objectives.response.refined import sample_confidence as sample_confidence
from tutelage.objectives.response.regression import GaussianTarget as GaussianTarget
from tutelage.objectives.response.regression import RegressionTarget as RegressionTarget
from tutelage.objectives.response.regression import gaussian_kl as gaussian_kl
from tutelage.objectives.response.regression import regression_target as regression_target
from tutelage.objectives.response.reverse_kl import ReverseKL as ReverseKL
from tutelage.objectives.response.reverse_kl import reverse_kl as reverse_kl
from tutelage.objectives.response.scale_decoupled import ScaleDecoupled as ScaleDecoupled
from tutelage.objectives.response.scale_decoupled import region_logits as region_logits
from tutelage.objectives.response.scale_decoupled import region_weights as region_weights
from tutelage.objectives.response.skewed import SkewKL as SkewKL
from tutelage.objectives.response.skewed import SkewReverseKL as SkewReverseKL
from tutelage.objectives.response.skewed import skew_kl as skew_kl
from tutelage.objectives.response.skewed import skew_reverse_kl as skew_reverse_kl
from tutelage.objectives.response.soft_target import SoftTarget as SoftTarget
from tutelage.objectives.response.soft_target import sampled_soft_target as sampled_soft_target
from tutelage.objectives.response.soft_target import soft_target as soft_target
from tutelage.objectives.response.soft_target import sparse_soft_target as sparse_soft_target
from tutelage.objectives.response.standardized import Standardized as Standardized
from tutelage.objectives.response.streamlined import Streamlined as Streamlined
from tutelage.objectives.response.streamlined import direction_distance as direction_distance
from tutelage.objectives.response.top_target import TopTarget as TopTarget
from tutelage.objectives.response.top_target import top_target as top_target
from tutelage.objectives.response.total_variation import TotalVariation as TotalVariation
from tutelage.objectives.response.total_variation import total_variation as total_variation
from tutelage.objectives.response.transformed_teacher import (
    TransformedTeacher as TransformedTeacher,
)
from tutelage.objectives.response.transformed_teacher import (
    WeightedTransformedTeacher as WeightedTransformedTeacher,
)
from tutelage.objectives.response.transformed_teacher import power_sum as power_sum
from tutelage.objectives.response.transformed_teacher import (
    transformed_teacher as transformed_teacher,
)
from tutelage.objectives.response.virtual_teacher import VirtualTeacher as VirtualTeacher
from tutelage.objectives.response.virtual_teacher import virtual_teacher as virtual_teacher
from tutelage.objectives.response.wasserstein import WassersteinLogits as WassersteinLogits
from tutelage.objectives.response.wasserstein import class_costs as class_costs
from tutelage.objectives.response.wasserstein import transport_cost as transport_cost
from tutelage.objectives.response.wasserstein import wasserstein_logits as wasserstein_logits
from tutelage.objectives.response.weighted_soft_label import WeightedSoftLabel as WeightedSoftLabel
from tutelage.objectives.response.weighted_soft_label import (
    weighted_soft_label as weighted_soft_label,
)
from tutelage.objectives.several.agreement import GradientAgreement as GradientAgreement
from tutelage.objectives.several.agreement import least_norm_weights as least_norm_weights
from tutelage.objectives.several.average import MemberTarget as MemberTarget
from tutelage.objectives.several.confidence import ConfidenceAware as ConfidenceAware
from tutelage.objectives.several.confidence import confidence_weights as confidence_weights
from tutelage.objectives.several.entropy import EntropyWeighted as EntropyWeighted
from tutelage.objectives.several.entropy import entropy_weights as entropy_weights
from tutelage.objectives.several.members import AbstractMembers as AbstractMembers
from tutelage.objectives.several.unic import Unic as Unic
from tutelage.objectives.several.unic import cosine_and_smooth as cosine_and_smooth
from tutelage.objectives.weighting.abstract import AbstractWeighting as AbstractWeighting
from tutelage.objectives.weighting.only import Only as Only
from tutelage.objectives.weighting.per_sequence import PerSequence as PerSequence
from tutelage.objectives.weighting.ramp import Ramp as Ramp
from tutelage.objectives.weighting.ramp import ramped as ramped
from tutelage.objectives.weighting.reweighted import Reweighted as Reweighted
from tutelage.objectives.weighting.teacher_max import TeacherMax as TeacherMax
from tutelage.objectives.weighting.weightings import ByGroup as ByGroup
from tutelage.objectives.weighting.weightings import Focal as Focal
from tutelage.objectives.weighting.weightings import StudentUnsure as StudentUnsure
from tutelage.objectives.weighting.weightings import TeacherRight as TeacherRight
from tutelage.objectives.weighting.weightings import TeacherSure as TeacherSure
from tutelage.objectives.weighting.weightings import sureness as sureness
