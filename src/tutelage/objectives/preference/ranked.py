"""Answers ranked as the teacher ranks them.

Song, Yu, Li, Yu, Huang, Li, Wang: Preference Ranking Optimization for Human Alignment, 2023,
arXiv:2306.17492.
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


def rank_by_list(student: Tensor, teacher: Tensor, same: Tensor) -> Tensor:
    r"""Plackett-Luce: take the answers of a question one by one, in the teacher's order.

    .. math:: -\log \frac{e^{s_i}}{\sum_{j : t_j \le t_i} e^{s_j}}
        \quad \text{for every i that is above another one}

    Args:
        student: Scores s, ``(M,)``.
        teacher: Scores t, of the same shape; ties are on one step.
        same: Which answers are to the same question, ``(M, M)`` of bool.

    Returns:
        One value for each answer that some other one is ranked below, ``(K,)``.

    Example:
        >>> one = torch.ones(3, 3).bool()
        >>> rank_by_list(torch.zeros(3), torch.tensor([3.0, 1.0, 2.0]), one)
        tensor([1.0986, 0.6931])
    """
    below = same & (teacher[:, None] > teacher)
    rest = same & (teacher[:, None] >= teacher)
    scores = student.expand(len(student), -1).masked_fill(~rest, -torch.inf)
    above = below.any(1)
    return scores[above].logsumexp(1) - student[above]


def rank_by_pairs(student: Tensor, teacher: Tensor, same: Tensor) -> Tensor:
    r"""Every pair of answers to one question, in the teacher's order.

    .. math:: -\log \sigma(s_i - s_j) \quad \text{for every pair with } t_i > t_j

    Args:
        student: Scores s, ``(M,)``.
        teacher: Scores t, of the same shape; ties are no pairs.
        same: Which answers are to the same question, ``(M, M)`` of bool.

    Returns:
        One value a pair, ``(P,)``.

    Example:
        >>> one = torch.ones(2, 2).bool()
        >>> rank_by_pairs(torch.zeros(2), torch.tensor([3.0, 1.0]), one)
        tensor([0.6931])
    """
    better, worse = (same & (teacher[:, None] > teacher)).nonzero().unbind(1)
    return -F.logsigmoid(student[better] - student[worse])


def rank_softly(student: Tensor, teacher: Tensor, same: Tensor) -> Tensor:
    r"""KL divergence of the softmaxes over the answers to one question (ListNet).

    .. math:: \sum_i p_i \log \frac{p_i}{q_i}, \quad p = \sigma(t), \; q = \sigma(s)

    Args:
        student: Scores s, ``(M,)``.
        teacher: Scores t, of the same shape.
        same: Which answers are to the same question, ``(M, M)`` of bool.

    Returns:
        ``(M,)``: of each answer, the divergence of its question; 0 where both agree.

    Example:
        >>> one = torch.ones(2, 2).bool()
        >>> rank_softly(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 50.0]), one)
        tensor([0.6931, 0.6931])
    """
    if not len(student):
        return student
    log_q = _within(student, same)
    log_p = _within(teacher, same)
    each = F.kl_div(log_q, log_p, reduction="none", log_target=True)
    return torch.where(same, each, 0.0).sum(1)


def _within(scores: Tensor, same: Tensor) -> Tensor:
    """Log-softmax over the answers of each one's question, ``(M, M)``; 0 elsewhere."""
    rows = scores.expand(len(scores), -1)
    whole = rows.masked_fill(~same, -torch.inf).logsumexp(1, keepdim=True)
    return torch.where(same, rows - whole, 0.0)


_WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "list": rank_by_list,
    "pairs": rank_by_pairs,
    "soft": rank_softly,
}


@register("objective", "ranked_answers")
class RankedAnswers(AbstractLoss):
    r"""Ranking distillation: the student ranks answers as the teacher does.

    .. math:: s_i = \frac{\beta}{|y_i|} \log q(y_i | x), \quad
        t_i = \frac{\beta}{|y_i|} \log p(y_i | x)

    of the student and of the teacher, compared within each question ``by`` the whole list
    (`rank_by_list`), every pair (`rank_by_pairs`), or softly (`rank_softly`: how much likelier
    one is than another is handed on as well).

    Neighbours: `DPO` and `SimPO` are told which answer is better. `SoftTarget` compares tokens,
    not answers.

    Suggested weight: 1 alone with beta = 1 (no published setting has this very form), or beside
    `ChosenAnswer`, as PRO has cross entropy on the best answer.

    Scale: mean over steps of the lists, over pairs, or over answers.

    Deviations: PRO's order is that of a reward model, here it is the teacher's own
    log-probability per token; PRO tempers negatives by the gap of rewards, which is left out, and
    adds up the steps of a list, of which this is the mean.

    Traps: as of `DPO`, where a batch is cut. Rows of one id are answers to one question, whatever
    their variants are.

    Args:
        by: ``list``, ``pairs`` or ``soft``.
        beta: Scale of mean log-probabilities, above 0.

    Raises:
        RecipeError: An option is out of range.
    """

    name = "ranked_answers"
    batchwise = True
    needs_targets = True
    needs_ids = True
    needs_variants = True

    def __init__(self, by: str = "list", beta: float = 1.0):
        super().__init__()
        if by not in _WAYS:
            raise RecipeError(f"{self.name} knows no by {by!r}. {suggest(str(by), _WAYS)}")
        self.by, self.beta = by, number(beta, "beta", self.name, above=0)
        self.divergence = by == "soft"

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Mean over what is compared."""
        answers = answers_of(batch, student.logits, self.name)
        ours = self.beta * answers.of(student.logits, self.name, per_token=True)
        with torch.no_grad():
            logits = dense(teacher, self.name)
            theirs = self.beta * answers.of(logits, self.name, per_token=True)
        same = answers.ids[:, None] == answers.ids
        return mean_of(_WAYS[self.by](ours, theirs, same))
