"""Keys and values of what was read before, so that writing on does not read it again."""

from torch import Tensor


class KeyValues:
    """What a decoder keeps of the tokens it has read, layer by layer.

    Room is taken once, for as many tokens as there will be: nothing is copied as more come.

    Args:
        most: Tokens in a row in the end, padding counted.

    Attributes:
        length: Tokens that were read before.

    Example:
        >>> import torch
        >>> kept, one = KeyValues(4), torch.zeros(2, 1, 3, 8)
        >>> keys, _ = kept.put(0, one, one)
        >>> kept.read(3)
        >>> keys, _ = kept.put(0, one[:, :, :1], one[:, :, :1])
        >>> keys.shape, kept.length
        (torch.Size([2, 1, 4, 8]), 3)
    """

    def __init__(self, most: int):
        self.most, self.length = most, 0
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep ``(N, heads, T, d)`` of one layer, and give all it has by now."""
        if layer not in self._kept:
            shape = (*keys.shape[:2], self.most, keys.shape[-1])
            self._kept[layer] = keys.new_empty(shape), values.new_empty(shape)
        stop = self.length + keys.shape[2]
        for kept, new in zip(self._kept[layer], (keys, values), strict=True):
            kept[:, :, self.length : stop] = new
        all_keys, all_values = self._kept[layer]
        return all_keys[:, :, :stop], all_values[:, :, :stop]

    def read(self, tokens: int) -> None:
        """Say that every layer has kept so many tokens more."""
        self.length += tokens
