"""A sentence encoder that looks tokens up and takes their mean."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.errors import ModelError


class StaticEncoder(nn.Module):
    r"""The mean of the vectors of a text's tokens, in no order.

    .. math:: s = \frac{1}{|\mathcal T|} \sum_{t \in \mathcal T} v_t, \quad
        \hat s = s / \|s\|_2 \text{ where it is normalised}

    over tokens that have a vector and are no padding. A text without any is zero. The vectors are
    learnt further as any weights are.

    Args:
        vectors: ``(V', D)``.
        rows: For each token its row in ``vectors``, ``(V,)`` of int64; -1 for one that does not
            count. None where every token has its own.
        normalise: Whether answers have length 1.

    Raises:
        ModelError: Shapes or rows do not fit.

    Example:
        >>> encoder = StaticEncoder(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), [0, 1, -1])
        >>> encoder(torch.tensor([[0, 1, 2], [1, 1, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
        tensor([[0.5000, 1.0000],
                [0.0000, 2.0000]], grad_fn=<DivBackward0>)
    """

    feature_points = ("mean",)
    rows: Tensor

    def __init__(
        self,
        vectors: Tensor,
        rows: Tensor | Sequence[int] | None = None,
        *,
        normalise: bool = False,
    ):
        super().__init__()
        if vectors.ndim != 2 or not vectors.is_floating_point() or 0 in vectors.shape:
            raise ModelError(
                f"vectors must be floats (V, D), got {vectors.dtype} {tuple(vectors.shape)}."
            )
        numbers = torch.arange(len(vectors)) if rows is None else torch.as_tensor(rows).long()
        fit = numbers.ndim == 1 and len(numbers) > 0
        if not fit or int(numbers.min()) < -1 or int(numbers.max()) >= len(vectors):
            raise ModelError(
                f"rows must be numbers from -1 to {len(vectors) - 1}, one for each token."
            )
        count, dims = vectors.shape
        self.embedding = nn.Embedding(count, dims, _weight=vectors.detach().clone())
        self.register_buffer("rows", numbers)
        self.mean = nn.Identity()  # where the mean can be tapped before it is normalised
        self.normalise = normalise

    def forward(
        self, input_ids: Tensor | Mapping[str, Any], attention_mask: Tensor | None = None
    ) -> Tensor:
        """Tokens ``(N, T)``, alone or in a mapping with their mask, to vectors ``(N, D)``."""
        if isinstance(input_ids, Mapping):
            return self(input_ids["input_ids"], input_ids.get("attention_mask"))  # type: ignore[no-any-return]
        rows = self.rows[input_ids]
        counted = rows >= 0
        if attention_mask is not None:
            counted = counted & attention_mask.bool()
        vectors = self.embedding(rows.clamp(min=0)) * counted[..., None]
        mean: Tensor = self.mean(vectors.sum(1) / counted.sum(1, keepdim=True).clamp(min=1))
        return F.normalize(mean, dim=-1) if self.normalise else mean
