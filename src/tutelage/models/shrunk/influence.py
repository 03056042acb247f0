"""How much a block changes what goes through it.

Men, Xu, Zhang, Wang, Lin, Lu, Han, Chen: ShortGPT: Layers in Large Language Models are More
Redundant Than You Expect, 2024, arXiv:2403.03853.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk.calibration import (
    Look,
    asking,
    calibration,
    hidden_in,
    hidden_out,
    real_tokens,
)
from tutelage.models.shrunk.pretrained import described_in
from tutelage.models.shrunk.stacks import is_decoder, stacks_of


def block_influence(model: nn.Module, batches: Iterable[Batch] | None) -> dict[str, Tensor]:
    r"""Block influence of every block: how far its output turns away from its input.

    .. math:: BI_i = 1 - \mathbb{E}_{X, t} \frac{X_{i,t}^\top X_{i+1,t}}
        {\|X_{i,t}\|_2 \, \|X_{i+1,t}\|_2}

    The mean is over all tokens that are no padding, whatever batches they are cut into.

    Args:
        model: Any model with equal blocks (`stacks_of`); it stays as it is.
        batches: What it is asked.

    Returns:
        For each stack of blocks, by path, ``(L,)`` of float64, each from 0 to 2.

    Raises:
        ModelError: There are no such blocks, or a block answers in another shape than it is asked.
        DataError: There are no batches.

    Example:
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.blocks = nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(2)])
        ...         self.blocks[0].weight.data = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        ...         self.blocks[1].weight.data = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
        ...     def forward(self, x):
        ...         for block in self.blocks:
        ...             x = block(x)
        ...         return x
        >>> block_influence(Net(), [Batch(torch.ones(3, 2))])["blocks"].round(decimals=6)
        tensor([0., 1.], dtype=torch.float64)
    """
    found = calibration(batches, "importance")
    inner = described_in(model)
    stacks = stacks_of(model if inner is None else inner)
    sums = {path: torch.zeros(len(each), 2).double() for path, each in stacks.items()}
    asked: list[Batch] = []

    def look(path: str, number: int) -> Look:
        def seen(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            cosines = _cosines(hidden_in(args, kwargs), hidden_out(output), path)
            tokens = real_tokens(asked[-1], cosines[..., None], decoder=is_decoder(path))
            sums[path][number, 0] += cosines[tokens].sum().cpu()
            sums[path][number, 1] += tokens.sum().cpu()

        return seen

    looks = {
        block: look(path, number)
        for path, blocks in stacks.items()
        for number, block in enumerate(blocks.values())
    }
    with asking(model, looks) as ask:
        for batch in found:
            asked.append(batch)
            ask(batch)
    return {path: 1 - each[:, 0] / each[:, 1].clamp(min=1) for path, each in sums.items()}


def _cosines(before: Tensor, after: Tensor, path: str) -> Tensor:
    if before.shape != after.shape:
        raise ModelError(
            f"a block of {path!r} makes {tuple(after.shape)} of {tuple(before.shape)}: only blocks "
            "that keep the shape can be compared with leaving them out."
        )
    if before.ndim == 4:  # maps (N, C, H, W)
        before, after = before.movedim(1, -1), after.movedim(1, -1)
    return F.cosine_similarity(before.double(), after.double(), dim=-1)
