"""What the tests of sparse answers share: answers, and equations over the buckets in numpy."""

from collections.abc import Callable

import numpy as np
import torch
from objectives_shared import Array, kl, noise, softmax
from torch import Tensor

from tutelage import objectives as o
from tutelage.core.outputs import SparseOutputs
from tutelage.objectives import AbstractObjective

N, C = 6, 9
S, T = 2 * noise(N, C, seed=1), 3 * noise(N, C, seed=2)


def sparse_of(teacher: Array, k: int) -> SparseOutputs:
    """The k likeliest classes with their tail, by plain loops, in fp64."""
    log_p, top, tail = [], [], []
    for row in teacher:
        p = softmax(row)
        order = sorted(range(len(p)), key=lambda c: -p[c])
        top.append(order[:k])
        log_p.append([np.log(p[c]) for c in order[:k]])
        rest = sum(p[c] for c in order[k:])
        tail.append(np.log(rest) if rest > 0 else -np.inf)
    return SparseOutputs(torch.tensor(log_p).double(), top=torch.tensor(top), log_tail=tensor(tail))


def tensor(numbers: object) -> Tensor:
    return torch.from_numpy(np.asarray(numbers, dtype=np.float64))


def buckets(row: Array, top: list[int]) -> Array:
    """A distribution of k + 1 buckets."""
    p = softmax(row)
    rest = [p[c] for c in range(len(p)) if c not in top]
    return np.array([*(p[c] for c in top), *([sum(rest)] if rest else [])])


def alpha_beta(p: Array, q: Array, a: float, b: float) -> float:
    both = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
    return float(-both.sum() / (a * b))


def js(p: Array, q: Array, beta: float) -> float:
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def adaptive(p: Array, q: Array, kept: int) -> float:
    """Wu et al. 2024: the tail's bucket, behind the first ``kept``, is never of the head."""
    order = sorted(range(kept), key=lambda c: -p[c])
    head, mass = [order[0]], p[order[0]]
    for c in order[1:]:
        mass += p[c]
        if mass > 0.5:
            break
        head.append(c)
    errors = [abs(p[c] - q[c]) for c in range(len(p))]
    inside = sum(errors[c] for c in head)
    outside = sum(errors) - inside
    return float((inside * kl(p, q) + outside * kl(q, p)) / (inside + outside))


EQUATIONS: dict[str, tuple[AbstractObjective, Callable[[Array, Array, int], float]]] = {
    "kd": (o.SoftTarget(1.0), lambda p, q, k: kl(p, q)),
    "reverse_kl": (o.ReverseKL(), lambda p, q, k: kl(q, p)),
    "js": (o.JensenShannon(0.3), lambda p, q, k: js(p, q, 0.3)),
    "skew_kl": (o.SkewKL(0.2), lambda p, q, k: kl(p, 0.2 * p + 0.8 * q)),
    "skew_reverse_kl": (o.SkewReverseKL(0.2), lambda p, q, k: kl(q, 0.2 * q + 0.8 * p)),
    "alpha_beta": (o.AlphaBeta(0.7, 0.4, 1.0), lambda p, q, k: alpha_beta(p, q, 0.7, 0.4)),
    "tvd": (o.TotalVariation(), lambda p, q, k: abs(p - q).sum() / 2),
    "adaptive_kl": (o.AdaptiveKL(), adaptive),
}
"""Every objective that takes sparse answers, and its value of one unit's buckets."""
