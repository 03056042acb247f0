"""DistilBERT: the last layer's states point where the teacher's do.

Sanh, Debut, Chaumond, Wolf: DistilBERT, a distilled version of BERT: smaller, faster, cheaper and
lighter, 2019, arXiv:1910.01108.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.registry import register
from tutelage.objectives.hidden.states import AbstractStates, paired_states
from tutelage.objectives.matching.distances import cosine_distance


@register("objective", "distilbert_cosine")
class DistilBERTCosine(AbstractStates):
    r"""DistilBERT's cosine loss: each token's state points where the teacher's does.

    .. math:: \sum_{pairs} \lambda \Big(1 - \cos \angle \big(H^s_i W, H^t_i\big)\Big),
        \quad \text{mean over tokens } i

    Neighbours: `TinyBERTStates` compares lengths too; `PatientStates` the class token alone;
    `MatchLayers` every position, padded ones too where no mask of tokens leaves them out.

    Suggested weight: 1 on the last layer, beside 5 of soft targets at T = 2 and 2 of masked
    language modelling (the authors' code).

    Scale: the authors' code: a mean over all real tokens of the batch.

    Args:
        pairs: Student state to teacher state, ``(N, T, D)`` or ``(N, D)``; ``*`` for the number of
            a layer.
        layers: How many layers student and teacher have, where pairs have a ``*``.
        order: Which layers meet there: ``skip`` spreads them evenly, ``last``, ``end`` (the paper).
        adapter: The projection W, which the paper does not need: its student is as wide as its
            teacher, and None compares those as they are.
        shared: Whether pairs of the same widths share one W.
        weights: One number at least 0 for each pair, in their order; 1 where left out.
        units: ``counted`` tokens, as the mask says, or all ``real`` ones (see
            `tutelage.objectives.hidden.tokens`).
    """

    name = "distilbert_cosine"

    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
        """One less the cosine at each token."""
        return cosine_distance(*paired_states(student, teacher, self.name))
