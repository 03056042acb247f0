"""Sparse teacher answers beside tiles of the student's logits."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.outputs import SparseOutputs
from tutelage.objectives.language.divergences import Parts
from tutelage.objectives.language.tiles import column_blocks
from tutelage.objectives.response.buckets import log_kept


@dataclass(frozen=True)
class Kept:
    """The teacher's answers to the units that count.

    Attributes:
        log_p: Log-probabilities of the buckets, ``(M, k + 1)``, or ``(M, C)`` of all classes.
        top: Kept classes ``(M, k)``.
        drawn: Draws from the tail ``(M, m)``; None where buckets are compared.
        tail_mean: Mean log-probability of a draw ``(M, 1)``, there with draws.
    """

    log_p: Tensor
    top: Tensor
    drawn: Tensor | None
    tail_mean: Tensor | None

    def rows(self, those: slice) -> "Kept":
        """Some of them."""
        drawn = None if self.drawn is None else self.drawn[those]
        mean = None if self.tail_mean is None else self.tail_mean[those]
        return Kept(self.log_p[those], self.top[those], drawn, mean)

    def compare_(
        self, log_q: Tensor, parts: Parts, share: Tensor, hard: Tensor, *, slopes: bool
    ) -> Tensor:
        """The share of a tile in the loss; writes over the tile.

        Args:
            log_q: The student's log-probabilities, ``(R, C)``. With ``slopes`` it becomes the
                gradient for the student's logits, less that of the labels' own classes.
            parts: Values and slopes of the divergence.
            share: What each row's value is multiplied by, ``(R, 1)``.
            hard: Weight of the labels' term, ``(R, 1)``.
            slopes: Whether a gradient is wanted.
        """
        if self.drawn is not None:
            return self._estimate_(log_q, share, hard, slopes)
        k, chosen = self.top.shape[1], log_q.gather(1, self.top)
        if self.log_p.shape[1] == k:  # all classes: no tail
            values, slope = parts(chosen, self.log_p)
            if slopes:
                pull = hard - slope.sum(1, keepdim=True) * share
                log_q.scatter_(1, self.top, chosen.exp() * pull + slope * share)
            return (values.sum(1, keepdim=True) * share).sum()
        log_q.scatter_(1, self.top, -torch.inf)
        most, mass = _shifted_(log_q)
        tail = most + mass.log()
        values, slope = parts(torch.cat([chosen, tail], 1), self.log_p)
        if slopes:
            pull = hard - slope.sum(1, keepdim=True) * share
            # q_c is q_tail times a share of at most 1: nothing overflows, however small q_tail is.
            log_q.mul_((tail.exp() * pull + slope[:, k:] * share) / mass)
            log_q.scatter_(1, self.top, chosen.exp() * pull + slope[:, :k] * share)
        return (values.sum(1, keepdim=True) * share).sum()

    def _estimate_(self, log_q: Tensor, share: Tensor, hard: Tensor, slopes: bool) -> Tensor:
        """Forward KL with draws from the tail; see `sampled_soft_target`."""
        assert self.drawn is not None
        assert self.tail_mean is not None
        k = self.top.shape[1]
        p = self.log_p.exp()
        head, tail = p[:, :k], p[:, k:].sum(1, keepdim=True)
        chosen, drawn = log_q.gather(1, self.top), log_q.gather(1, self.drawn)
        value = (head * (self.log_p[:, :k] - chosen)).sum(1, keepdim=True)
        value += tail * (self.tail_mean - drawn.mean(1, keepdim=True))
        if slopes:
            log_q.exp_().mul_(hard + p.sum(1, keepdim=True) * share)
            log_q.scatter_add_(1, self.top, -head * share)
            each = (-tail / self.drawn.shape[1] * share).expand_as(drawn)
            log_q.scatter_add_(1, self.drawn, each)
        return (value * share).sum()


def kept_of(
    answers: SparseOutputs, rows: Tensor, classes: int, dtype: torch.dtype, *, draws: bool
) -> Kept:
    """The answers to units ``rows`` ``(M,)``, flattened; their draws where they are used."""

    def some(t: Tensor, width: int) -> Tensor:
        return t.detach().reshape(-1, width).index_select(0, rows)

    k = answers.top.shape[-1]
    log_p = log_kept(answers, classes)
    log_p = some(log_p, log_p.shape[-1]).to(dtype)
    top = some(answers.top, k)
    if not draws or answers.drawn is None or answers.tail_mean is None:
        return Kept(log_p, top, None, None)
    drawn = some(answers.drawn, answers.drawn.shape[-1])
    return Kept(log_p, top, drawn, some(answers.tail_mean, 1).to(dtype))


def _shifted_(log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Exponentials over each row's largest, in place; the largest and their sum, ``(R, 1)``."""
    most = log_q.amax(1, keepdim=True)
    most.masked_fill_(torch.isneginf(most), 0.0)
    mass = torch.zeros_like(most)
    for block in column_blocks(log_q.shape[1]):
        mass += log_q[:, block].sub_(most).exp_().sum(1, keepdim=True)
    return most, mass
