"""Likelihoods of tokens and of groups of them, each token's probability counted exactly once."""

import torch
from torch import Tensor

from tutelage.core.errors import ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs


def token_log_surprisals(logits: Tensor, targets: Tensor) -> Tensor:
    r"""The log of each token's surprisal, from the odds against it.

    .. math:: \log(-\log p_y) = \log \log \Big(1 + \frac{1 - p_y}{p_y}\Big)

    In this form probabilities of 1 - exp(-10000) and of exp(-10000) are both still numbers.

    Args:
        logits: ``(M, C)``, at least two classes: row i predicts targets[i], with no shift left.
        targets: Token numbers ``(M,)``.

    Returns:
        ``(M,)``.

    Example:
        >>> token_log_surprisals(torch.tensor([[1e4, 0.0], [0.0, 1e4]]), torch.tensor([0, 0]))
        tensor([-1.0000e+04,  9.2103e+00])
    """
    index = targets.unsqueeze(-1)
    own = logits.gather(-1, index).squeeze(-1)
    return _of_odds(logits.scatter(-1, index, -torch.inf).logsumexp(-1) - own)


def kept_log_surprisals(answer: SparseOutputs, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The same from an answer that keeps some tokens only, and whether it kept the targets.

    Args:
        answer: Of units ``(M,)``.
        targets: Token numbers ``(M,)``.

    Returns:
        ``(M,)`` of logs of surprisals, 0 where unknown; and ``(M,)`` of bool.
    """
    hit = answer.top == targets.unsqueeze(-1)
    kept = hit.any(-1)
    # Each number is kept once; where none was, the first stands in, and is not used.
    place = hit.int().argmax(-1, keepdim=True)
    log_p = answer.logits.gather(-1, place).squeeze(-1)
    if answer.top.shape[-1] == 1:
        log_rest = answer.log_tail
    else:
        others = answer.logits.scatter(-1, place, -torch.inf)
        log_rest = torch.logaddexp(others.logsumexp(-1), answer.log_tail)
    # A teacher that is entirely sure leaves nothing for the rest: as good as nothing.
    odds = (log_rest - log_p).clamp(min=-1e5, max=1e5)
    return torch.where(kept, _of_odds(odds), torch.zeros_like(odds)), kept


def text_answers(log_probabilities: Tensor, targets: Tensor) -> SparseOutputs:
    r"""Log-probabilities of a text's own tokens as a sparse answer: all a text server has to give.

    Args:
        log_probabilities: Of the token that each position predicts, ``(N, T)``; at most 0.
        targets: Numbers of those tokens ``(N, T)``, or any number, the same in the batch.

    Returns:
        An answer that keeps one token a position, and the mass of all others.

    Raises:
        ShapeMismatch: There is not one target for each.

    Example:
        >>> answer = text_answers(torch.tensor([[-0.6931]]), torch.tensor([[7]]))
        >>> answer.top.shape, round(answer.log_tail.item(), 3)
        (torch.Size([1, 1, 1]), -0.693)
    """
    if log_probabilities.shape != targets.shape:
        raise ShapeMismatch(
            f"got log-probabilities of shape {tuple(log_probabilities.shape)} for targets of shape "
            f"{tuple(targets.shape)}: one for each token is wanted."
        )
    log_p = log_probabilities.clamp(max=0)
    log_tail = torch.where(
        log_p > -0.693, torch.log(-torch.expm1(log_p)), torch.log1p(-torch.exp(log_p))
    )
    return SparseOutputs(log_p.unsqueeze(-1), top=targets.long().unsqueeze(-1), log_tail=log_tail)


def chunk_log_likelihoods(logits: Tensor, targets: Tensor, numbers: Tensor, count: int) -> Tensor:
    r"""Log-likelihood of each group, each token's probability given all before it counted once.

    .. math:: \log P_g = \sum_{i \in g} \log p(y_i \mid y_{<i})

    Args:
        logits: ``(M, C)``: row i predicts targets[i], so it has read what stands before that token
            and not the token itself.
        targets: Token numbers ``(M,)``.
        numbers: The group of each ``(M,)``, -1 for none.
        count: G.

    Returns:
        ``(G,)``, at most 0.

    Example:
        >>> even = torch.zeros(3, 4)  # a model that finds four tokens alike
        >>> chunk_log_likelihoods(even, torch.tensor([0, 1, 3]), torch.tensor([0, 0, 1]), 2).exp()
        tensor([0.0625, 0.2500])
    """
    kept = numbers >= 0
    surprisals = token_log_surprisals(logits[kept], targets[kept]).exp()
    return -surprisals.new_zeros(count).index_add(0, numbers[kept], surprisals)


def log_surprisals_of(answer: Outputs, places: Tensor, targets: Tensor, asker: str) -> Tensor:
    """Logs of surprisals of the tokens that some positions predict.

    Args:
        answer: Logits ``(N, ..., C)``, or a sparse answer.
        places: Positions, all dimensions but the last in one, ``(M,)``.
        targets: The tokens there ``(M,)``.
        asker: In whose name an answer that lacks one of them is refused.

    Returns:
        ``(M,)``.

    Raises:
        SparseAnswer: A token was not kept.
    """
    if not isinstance(answer, SparseOutputs):
        return token_log_surprisals(answer.logits.flatten(0, -2)[places], targets)
    rows = SparseOutputs(
        answer.logits.flatten(0, -2)[places],
        top=answer.top.flatten(0, -2)[places],
        log_tail=answer.log_tail.flatten()[places],
    )
    found, kept = kept_log_surprisals(rows, targets)
    if not bool(kept.all()):
        raise SparseAnswer(
            f"{asker} needs the probability of the text's own tokens, and this teacher's answers "
            f"lack {int((~kept).sum())} of {len(kept)}: keep those tokens too (one a position is "
            "enough), or set missing: leave_out."
        )
    return found


def _of_odds(log_odds: Tensor) -> Tensor:
    """Log of log(1 + e^x): the log-surprisal of a token against which the odds are e^x."""
    near = log_odds - log_odds.clamp(max=-15).exp() / 2
    bounded = log_odds.clamp(min=-15)
    usual = torch.logaddexp(bounded, torch.zeros_like(bounded)).log()
    return torch.where(log_odds < -15, near, usual)
