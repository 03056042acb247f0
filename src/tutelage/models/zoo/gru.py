"""Recurrent networks that read step by step.

Learning Phrase Representations using RNN Encoder-Decoder, Cho et al., 2014 (arXiv 1406.1078).
"""

import torch
from torch import Tensor, nn

from tutelage.core.registry import register
from tutelage.models.zoo.parts import Network, fraction, whole


class _Steps(nn.Module):
    """Sequences ``(N, T, D)`` as they are, images ``(N, C, H, W)`` row by row ``(N, H, C W)``."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.transpose(1, 2).flatten(2) if inputs.ndim == 4 else inputs


class _Last(nn.Module):
    """The state after the last step of the top layer, both ways side by side: ``(N, D)``."""

    def __init__(self, ways: int):
        super().__init__()
        self.ways = ways

    def forward(self, answer: tuple[Tensor, Tensor]) -> Tensor:
        _, states = answer  # (layers * ways, N, hidden), the top layer last
        return torch.cat(list(states[-self.ways :]), dim=-1)


@register("model", "gru")
def gru(
    *,
    row: int,
    classes: int,
    channels: int = 1,
    hidden: int = 128,
    layers: int = 1,
    both_ways: bool = False,
    dropout: float = 0.0,
) -> Network:
    """Gated recurrent units over a sequence, or over the rows of an image.

    Feature points: ``gru`` ``(N, T, D)``, the top layer's state after every step, with ``D`` of
    ``hidden``, twice that both ways; ``gru:out.1`` ``(layers * ways, N, hidden)`` the states at
    the end (batch second); ``pool`` ``(N, D)``.

    Args:
        row: Numbers read at each step: D of ``(N, T, D)``, all channels of an image's row.
        classes: Number of logits.
        channels: Of no effect: they are counted in ``row``.
        hidden: Numbers in a state.
        layers: Layers of units.
        both_ways: Also read from the end to the beginning.
        dropout: Share of values dropped between layers.

    Returns:
        A model from ``(N, T, row)`` or ``(N, channels, H, row / channels)`` to ``(N, classes)``.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> net = gru(row=28, classes=10, hidden=16)
        >>> net(torch.zeros(5, 1, 28, 28)).shape, net(torch.zeros(5, 7, 28)).shape
        (torch.Size([5, 10]), torch.Size([5, 10]))
    """
    ways = 2 if both_ways else 1
    rate = fraction("dropout", dropout)
    units = nn.GRU(
        whole("row", row),
        whole("hidden", hidden),
        whole("layers", layers),
        batch_first=True,
        dropout=rate if layers > 1 else 0.0,
        bidirectional=both_ways,
    )
    modules = {
        "steps": _Steps(),
        "gru": units,
        "pool": _Last(ways),
        "linear": nn.Linear(ways * hidden, whole("classes", classes)),
    }
    return Network(modules, ("gru", "pool"))
