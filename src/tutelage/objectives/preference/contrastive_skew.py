"""One divergence on the teacher's answers, another on the student's.

Ko, Chen, Kim, Ding, Liang, Zharkov, Yun: DistiLLM-2: A Contrastive Approach Boosts the
Distillation of LLMs, 2025, arXiv:2503.07067.
"""

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractUnitLoss
from tutelage.objectives.preference.sequences import variants_of
from tutelage.objectives.response.skewed import skew_kl, skew_reverse_kl
from tutelage.objectives.units import number


@register("objective", "contrastive_skew")
class ContrastiveSkew(AbstractUnitLoss):
    r"""DistiLLM-2: skewed forward KL on the teacher's answers, skewed reverse KL on the student's.

    .. math:: (1 - \beta) \, KL\big(p \,\|\, \alpha p + (1 - \alpha) q\big)
        \; \text{on } y_{teacher}, \quad
        \beta \, KL\big(q \,\|\, (1 - \alpha) p + \alpha q\big) \; \text{on } y_{student}

    and twice that, as a mean over the tokens of both. Rows of variant 0 were written by the
    teacher, those of any other variant by the student: the first pulls what the teacher writes
    up, the second pushes what the student writes, and the teacher would not, down.

    Neighbours: `SkewKL` and `SkewReverseKL` are its two halves.

    Suggested weight: 1 alone with alpha = 0.1 and beta = 0.5 (the authors).

    Scale: sum over classes, mean over units; at beta = 0.5 each unit counts once.

    Deviations: the authors' alpha changes with each answer and their beta grows in training; here
    both are fixed. Their means are over answers, ours over tokens.

    Args:
        alpha: Share of the own side in each mixture, from 0 to below 1.
        beta: Share of the student's answers in the loss, from 0 to 1.

    Raises:
        RecipeError: An option is out of range.
    """

    name = "contrastive_skew"
    divergence = True
    needs_variants = True

    def __init__(self, alpha: float = 0.1, beta: float = 0.5):
        super().__init__()
        self.alpha = number(alpha, "alpha", self.name, least=0)
        self.beta = number(beta, "beta", self.name, least=0)
        if self.alpha >= 1 or self.beta > 1:
            raise RecipeError(
                f"{self.name}: alpha must be below 1 and beta at most 1, got alpha {alpha!r} and "
                f"beta {beta!r}."
            )

    def values(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value a unit."""
        logits = dense(teacher, self.name)
        written = variants_of(batch, self.name) > 0
        forward = skew_kl(student.logits, logits, self.alpha)
        reverse = skew_reverse_kl(student.logits, logits, self.alpha)
        own = written.view(-1, *[1] * (forward.ndim - 1))
        return 2 * torch.where(own, self.beta * reverse, (1 - self.beta) * forward)
