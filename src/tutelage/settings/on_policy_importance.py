"""(No situation) Weights for text that an older student wrote."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.units import number, raised
from tutelage.objectives.weighting.abstract import AbstractWeighting
from tutelage.settings.rollouts import apart


def prefix_importance(now: Tensor, then: Tensor, written: Tensor, most: float) -> Tensor:
    r"""How much likelier the text before each token is now than when it was written.

    .. math:: w_t = \min\left(c, \prod_{s < t} \frac{q_{now}(y_s)}{q_{then}(y_s)}\right)

    Args:
        now: Log-probabilities of the written tokens under the student of now, ``(N, T)``.
        then: Those with which they were drawn.
        written: Which tokens were written, ``(N, T)`` of bool.
        most: c, the largest weight.

    Returns:
        ``(N, T)``; 1 where nothing was written before.

    Example:
        >>> now, then = torch.tensor([[4.0, 2.0, 2.0]]), torch.tensor([[2.0, 2.0, 2.0]])
        >>> prefix_importance(now.log(), then.log(), torch.ones(1, 3).bool(), 10.0)
        tensor([[1., 2., 2.]])
    """
    gaps = torch.where(written, now - then, 0.0)
    before = F.pad(gaps.cumsum(1), (1, -1))
    return before.exp().clamp(max=most)


@register("weighting", "importance")
class Importance(AbstractWeighting):
    r"""Own text counts as much more as the student of now is likelier to have begun it so.

    .. math:: w_t = \min\left(c, \prod_{s < t} \frac{q_{now}(y_s)}{q_{then}(y_s)}\right)

    With it, and without the bound c, the divergence at the tokens of stale text has the mean that
    it would have on fresh text (importance sampling by decisions: Precup, Sutton, Singh, 2000).
    For `tutelage.settings.OnPolicy` with ``write_for`` above 1; the data's answers weigh 1. It
    holds for plain draws: temperature 1, all tokens.

    Args:
        most: c, the largest weight, at least 1.
    """

    def __init__(self, most: float = 2.0):
        self.most = number(most, "most", "importance", least=1)

    def weights(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One weight a token, ``(N, T)``."""
        logits = raised(student.logits)
        notes = {} if isinstance(batch.inputs, Tensor) else apart(batch)[1]
        if "tokens" not in notes:
            return torch.ones(logits.shape[:-1], device=logits.device)
        tokens = notes["tokens"]
        chosen = tokens.clamp(min=0).unsqueeze(-1)
        now = F.log_softmax(logits, dim=-1).gather(-1, chosen).squeeze(-1)
        return prefix_importance(now, notes["log_probs"], tokens >= 0, self.most)
