"""From tables of tokens to figures: perplexity, accuracy, calibration, what was kept and lost."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.core.seeds import generator
from tutelage.evaluation.intervals import Interval
from tutelage.evaluation.language.table import Beside, TokenTable
from tutelage.evaluation.metrics import bin_places

_BINS = 15
_RESAMPLES = 2000


@dataclass(frozen=True)
class TokenFigures:
    """One model on one text.

    Attributes:
        tokens: How many counted.
        nll: Nats a token.
        perplexity: ``exp(nll)``.
        bits_per_byte: ``nll · tokens / (bytes · ln 2)``: comparable over tokenizers; None where
            the bytes of the text are not known.
        accuracy: Share of tokens that were held for the likeliest.
        ece: Expected calibration error of the likeliest token, 15 bins of equal width.
        entropy: Of its distributions, nats.
        interval: Of ``nll``, by resampling rows.
    """

    tokens: int
    nll: float
    perplexity: float
    bits_per_byte: float | None
    accuracy: float
    ece: float
    entropy: float
    interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def figures_of(
    table: TokenTable, *, text_bytes: int | None = None, seed: int = 0, level: float = 0.95
) -> TokenFigures:
    r"""Figures of one model.

    .. math:: \mathrm{PPL} = \exp\Big(\frac{1}{M} \sum_i -\log q_i(y_i)\Big)

    Args:
        table: From `read_tokens`.
        text_bytes: Bytes of text that the tokens stand for.
        seed: Of the interval.
        level: Its confidence.

    Example:
        >>> half = torch.full((4,), 0.5)
        >>> table = TokenTable(
        ...     half.double().log().neg(), half > 0, half, half, *torch.arange(12).view(3, 4)
        ... )
        >>> round(figures_of(table).perplexity, 3)
        2.0
    """
    nll = table.nll.mean().item()
    return TokenFigures(
        tokens=len(table),
        nll=nll,
        perplexity=math.exp(min(nll, 700.0)),
        bits_per_byte=None if not text_bytes else nll * len(table) / (text_bytes * math.log(2)),
        accuracy=table.right.double().mean().item(),
        ece=_calibration_error(table.confidence, table.right),
        entropy=table.entropy.double().mean().item(),
        interval=by_rows(table.nll, table.rows, seed=seed, level=level),
    )


def beside(
    first: TokenTable, second: TokenTable, apart: Beside | None, *, seed: int = 0
) -> dict[str, Any]:
    """What changed from one model to another on the same tokens.

    Args:
        first: The reference.
        second: The other model.
        apart: Of the pair, from `read_tokens`; None leaves the divergence and agreement out.
        seed: Of the intervals.

    Returns:
        ``nll_change`` (second minus first) and ``accuracy_change`` with their intervals,
        ``negative_flip_rate`` and ``positive_flip_rate``; with ``apart`` also ``agreement`` and
        ``predictive_kl``, nats a token.
    """
    lost, won = first.right & ~second.right, ~first.right & second.right
    change = second.right.double() - first.right.double()
    found: dict[str, Any] = {
        "nll_change": by_rows(second.nll - first.nll, first.rows, seed=seed).as_dict(),
        "accuracy_change": by_rows(change, first.rows, seed=seed).as_dict(),
        "negative_flip_rate": lost.double().mean().item(),
        "positive_flip_rate": won.double().mean().item(),
        "agreement": None,
        "predictive_kl": None,
    }
    if apart is not None:
        found["agreement"] = apart.same.double().mean().item()
        found["predictive_kl"] = apart.kl.mean().item()
    return found


def by_rows(values: Tensor, rows: Tensor, *, seed: int = 0, level: float = 0.95) -> Interval:
    """Interval of a mean over tokens; neighbours are alike, so whole rows are drawn anew.

    Args:
        values: One a token, ``(M,)``.
        rows: Which row each is in, ``(M,)``.
        seed: Of the draws.
        level: Confidence.

    Paper: Efron, Annals of Statistics 1979; by clusters: Field and Welsh, JRSS B 69:369, 2007.
    """
    found, inverse = np.unique(rows.numpy(), return_inverse=True)
    count, places = len(found), torch.from_numpy(inverse)
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, places, values.double())
    sizes = torch.bincount(places, minlength=count).double()
    dice = generator(seed, "rows bootstrap")
    means = _resampled(sums, sizes, lambda n: torch.randint(count, (n, count), generator=dice))
    outside = (1 - level) / 2
    low, high = means.quantile(torch.tensor([outside, 1 - outside], dtype=torch.float64)).tolist()
    return Interval(values.double().mean().item(), low, high, level, "bootstrap over rows of text")


def _resampled(sums: Tensor, sizes: Tensor, draw: Callable[[int], Tensor]) -> Tensor:
    at_once = max(1, 2_000_000 // len(sums))
    parts = []
    for left in range(_RESAMPLES, 0, -at_once):
        drawn = draw(min(at_once, left))
        parts.append(sums[drawn].sum(-1) / sizes[drawn].sum(-1))
    return torch.cat(parts)


def _calibration_error(confidence: Tensor, right: Tensor) -> float:
    confidence = confidence.double()
    place = bin_places(confidence, _BINS)
    gaps = torch.bincount(place, confidence - right.double(), minlength=_BINS)
    return (gaps.abs().sum() / len(right)).item()
