"""Scores of how much an example looks like what a model knows: higher is more familiar."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tutelage.core.errors import DataError


def max_probability(logits: Tensor) -> Tensor:
    """The largest class probability: how sure the model is, ``max_c softmax(z)_c``.

    Computed and compared in log space, where probabilities close to 1 stay apart; ranks, and so
    AUROC and FPR95, are those of the probability itself.

    Args:
        logits: ``(N, C)``.

    Returns:
        Its logarithm ``(N,)`` of float64, at most 0.

    Example:
        >>> round(max_probability(torch.tensor([[0.0, 0.0]])).exp().item(), 3)
        0.5

    Paper: Hendrycks and Gimpel, arXiv 1610.02136.
    """
    # max(z) - logsumexp(z), without cancelling: -log(1 + the sum of all others' odds).
    z = _checked(logits)
    odds = z - z.max(-1, keepdim=True).values
    first = odds.argmax(-1, keepdim=True)
    return -odds.exp().scatter(-1, first, 0.0).sum(-1).log1p()


def max_logit(logits: Tensor) -> Tensor:
    """The largest logit, ``max_c z_c``, ``(N,)`` of float64.

    Example:
        >>> max_logit(torch.tensor([[1.0, 3.0]])).tolist()
        [3.0]

    Paper: Hendrycks et al., arXiv 1911.11132.
    """
    return _checked(logits).max(-1).values


def energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Minus the free energy, ``T log sum_c exp(z_c / T)``, ``(N,)`` of float64.

    Args:
        logits: ``(N, C)``.
        temperature: T, above 0.

    Example:
        >>> round(energy(torch.tensor([[0.0, 0.0]])).item(), 4)
        0.6931

    Paper: Liu et al., arXiv 2010.03759.
    """
    if temperature <= 0:
        raise DataError(f"the temperature is {temperature}: give one above 0.")
    return temperature * (_checked(logits) / temperature).logsumexp(-1)


def nearest_neighbour(features: Tensor, bank: Tensor, k: int) -> Tensor:
    """Minus the distance to the k-th nearest known example, features scaled to length 1.

    ``-|| f/|f| - b_(k) ||`` over the rows b of the bank.

    Args:
        features: Of the examples asked about ``(N, D)``.
        bank: Of known examples, from training ``(M, D)``.
        k: Which neighbour, from 1 to M.

    Returns:
        ``(N,)`` of float64, from -2 to 0.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> nearest_neighbour(torch.tensor([[2.0, 0.0]]), bank, 1).abs().item()
        0.0

    Paper: Sun et al., arXiv 2204.06507.
    """
    if features.ndim != 2 or bank.ndim != 2 or features.shape[1] != bank.shape[1]:
        raise DataError(
            f"features {tuple(features.shape)} and a bank {tuple(bank.shape)} were given: "
            "(N, D) and (M, D) are needed."
        )
    if not 1 <= k <= len(bank):
        raise DataError(f"neighbour {k} of {len(bank)} was asked for: count from 1 to as many.")
    known = normalize(bank.double(), dim=-1)
    found = []
    for some in torch.split(normalize(features.double(), dim=-1), 1024):
        # |a - b|² of unit vectors is 2 - 2 a·b; a row of zeros keeps its length of 0.
        squares = some.square().sum(-1, keepdim=True) + known.square().sum(-1)
        squares = (squares - 2 * some @ known.T).clamp(min=0)
        found.append(-squares.kthvalue(k, dim=-1).values.sqrt())
    return torch.cat(found)


def neighbours_for(bank: int) -> int:
    """Which neighbour to look at, chosen by the size of the bank alone: 1 % of it, 1 to 50.

    The paper takes 50 of 50,000 on CIFAR-10 and more for more classes, by trials on outliers; no
    outside data may choose anything here.

    >>> neighbours_for(40), neighbours_for(1000), neighbours_for(100_000)
    (1, 10, 50)
    """
    return min(max(bank // 100, 1), 50)


def _checked(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or not logits.shape[1]:
        raise DataError(f"logits of shape {tuple(logits.shape)} were given: (N, C) is needed.")
    if not bool(logits.isfinite().all()):
        raise DataError("some logits are NaN or infinite: they have no score.")
    return logits.detach().cpu().double()
