"""DPO: of two answers, the better one becomes more likely than it was, against the other.

Rafailov, Sharma, Mitchell, Ermon, Manning, Finn: Direct Preference Optimization: Your Language
Model is Secretly a Reward Model, 2023, arXiv:2305.18290.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.core.outputs import Outputs, dense
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.preference.sequences import answers_of, mean_of
from tutelage.objectives.units import number


def _sigmoid(gap: Tensor, beta: float) -> Tensor:
    return -F.logsigmoid(beta * gap)


def _ipo(gap: Tensor, beta: float) -> Tensor:
    return (gap - 1 / (2 * beta)).square()


def _hinge(gap: Tensor, beta: float) -> Tensor:
    return F.relu(1 - beta * gap)


_FORMS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "sigmoid": _sigmoid,
    "ipo": _ipo,
    "hinge": _hinge,
}


def preference_gap(
    chosen: Tensor, rejected: Tensor, chosen_before: Tensor, rejected_before: Tensor
) -> Tensor:
    r"""How much more the odds of the chosen answer have grown than those of the rejected one.

    .. math:: h = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)} - \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    Args:
        chosen: Log-probabilities of chosen answers under the student, ``(P,)``.
        rejected: Those of the rejected ones.
        chosen_before: Those of chosen answers under the reference.
        rejected_before: Those of the rejected ones.

    Returns:
        ``(P,)``, in nats; 0 where the student is the reference.

    Example:
        >>> one = torch.tensor([-1.0])
        >>> preference_gap(one, 3 * one, 2 * one, 2 * one)
        tensor([2.])
    """
    return (chosen - chosen_before) - (rejected - rejected_before)


def preference_loss(gap: Tensor, beta: float = 0.1, form: str = "sigmoid") -> Tensor:
    r"""What a gap of log-odds costs.

    .. math:: -\log \sigma(\beta h) \; (sigmoid), \quad
        \big(h - \tfrac{1}{2 \beta}\big)^2 \; (ipo), \quad \max(0, 1 - \beta h) \; (hinge)

    Args:
        gap: h of each pair, ``(P,)``.
        beta: How fast a gap is enough, above 0.
        form: ``sigmoid`` (DPO), ``ipo`` (arXiv:2310.12036) or ``hinge`` (SLiC, arXiv:2305.10425).

    Returns:
        ``(P,)``, at least 0.

    Example:
        >>> preference_loss(torch.tensor([0.0, 5.0]), beta=0.1, form="ipo")
        tensor([25.,  0.])
    """
    return _FORMS[form](gap, beta)


@register("objective", "dpo")
class DPO(AbstractLoss):
    r"""DPO: the chosen answer gains on the rejected one, by odds against a frozen reference.

    .. math:: -\log \sigma\left(\beta \left[\log \frac{\pi(y_w | x)}{\pi_{ref}(y_w | x)} -
        \log \frac{\pi(y_l | x)}{\pi_{ref}(y_l | x)}\right]\right) \quad (preference\_loss),
        \quad \text{mean over pairs}

    The reference is whoever teaches: the student as it was at first (the published form, and what
    `tutelage.settings.Preference` takes by itself), or a teacher. Rows of one id answer one
    question; variant 0 is the chosen answer, each other one is a rejected one. Log-probabilities
    are sums over the answer's tokens: targets are negative elsewhere, or masked.

    Neighbours: `SimPO` needs no reference, and takes means over tokens. `RankedAnswers` asks the
    teacher which answer is better. `ChosenAnswer` keeps the chosen answer likely, which DPO alone
    does not: both answers of a pair may become less likely together.

    Suggested weight: 1 alone with beta = 0.1 (the paper); with ``per_token`` beta must be larger
    by about the length of an answer.

    Scale: mean over pairs; no pair, no loss.

    Deviations: SLiC's hinge has no reference; held against one it is that of RSO
    (arXiv:2309.06657). No paper of the three divides by lengths: ``per_token``.

    Traps: cutting a batch tears pairs apart: under accumulation, or in several processes, use
    `tutelage.settings.Preference`, which cuts between questions. Rounding of log-probabilities
    summed in half precision is as large as the gap itself: sums here are of fp32.

    Args:
        beta: Inverse strength of the pull to the reference, above 0.
        form: ``sigmoid``, ``ipo`` (arXiv:2310.12036), or ``hinge`` (SLiC, arXiv:2305.10425).
        per_token: Divide log-probabilities by the answers' lengths.

    Raises:
        RecipeError: An option is out of range.
    """

    name = "dpo"
    batchwise = True
    needs_targets = True
    needs_ids = True
    needs_variants = True

    def __init__(self, beta: float = 0.1, form: str = "sigmoid", per_token: bool = False):
        super().__init__()
        self.beta = number(beta, "beta", self.name, above=0)
        if form not in _FORMS:
            raise RecipeError(f"{self.name} knows no form {form!r}. {suggest(str(form), _FORMS)}")
        self.form, self.per_token = form, bool(per_token)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Mean over pairs."""
        answers = answers_of(batch, student.logits, self.name)
        chosen, rejected = answers.pairs()
        now = answers.of(student.logits, self.name, per_token=self.per_token)
        with torch.no_grad():
            logits = dense(teacher, self.name)
            before = answers.of(logits, self.name, per_token=self.per_token)
        gap = preference_gap(now[chosen], now[rejected], before[chosen], before[rejected])
        return mean_of(preference_loss(gap, self.beta, self.form))
