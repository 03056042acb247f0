"""What each model said of each token: a few numbers a token, never all logits."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Beside:
    """One model beside another, token by token.

    Attributes:
        kl: KL(first ‖ second) in nats, ``(M,)``; the first is the reference.
        same: Whether both hold the same token for the likeliest, ``(M,)`` of bool.
    """

    kl: Tensor
    same: Tensor


@dataclass(frozen=True)
class TokenTable:
    """One model's answers to the M tokens of a text set that count.

    Attributes:
        nll: Negative log-likelihood of the token that came, ``(M,)`` of float64, nats.
        right: Whether it was the likeliest, ``(M,)`` of bool.
        confidence: Probability of the likeliest, ``(M,)``.
        entropy: Of the distribution, nats, ``(M,)``.
        targets: The tokens that came, ``(M,)`` of int64.
        rows: Which row of the set each is in, ``(M,)`` of int64: intervals resample rows.
        places: Its position in the row, ``(M,)`` of int64.
    """

    nll: Tensor
    right: Tensor
    confidence: Tensor
    entropy: Tensor
    targets: Tensor
    rows: Tensor
    places: Tensor

    def __len__(self) -> int:
        return len(self.nll)
