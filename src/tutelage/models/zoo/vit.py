"""Vision transformers.

An Image is Worth 16x16 Words, Dosovitskiy et al., 2020 (arXiv 2010.11929).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.zoo.parts import Network, fraction, image_size, whole


class _Embed(nn.Module):
    """Patches as tokens, a class token in front, and where each one is."""

    def __init__(self, channels: int, patches: int, patch: int, dim: int, dropout: float):
        super().__init__()
        self.patches = nn.Conv2d(channels, dim, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.place = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1 + patches, dim), std=0.02))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # (N, T, D)
        both = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        out: Tensor = self.dropout(both + self.place)
        return out


class Attention(nn.Module):
    """Attention of all tokens to all: ``(N, T, D)`` to ``(N, T, D)``.

    Queries, keys and values are made by ``qkv``; those of the first block are the features
    ``scaled_dot_product_attention()#0:in.0``, ``.1`` and ``.2`` of ``(N, heads, T, D / heads)``.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """What every token gathered from all tokens."""
        # (N, T, 3 D) -> 3 of (N, heads, T, D / heads)
        query, key, value = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        rate = self.dropout if self.training else 0.0
        gathered = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        out: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """Attention, then a two-layer network, each on normalised tokens and added to them."""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = Attention(dim, heads, dropout)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(dim, inner), nn.GELU(), nn.Dropout(dropout), nn.Linear(inner, dim)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens)))
        out: Tensor = tokens + self.dropout(self.mlp(self.norm2(tokens)))
        return out


class _First(nn.Module):
    """The class token: ``(N, T, D)`` to ``(N, D)``."""

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0]


@register("model", "vit")
def vit(
    *,
    classes: int,
    channels: int = 3,
    size: int | tuple[int, int] = 32,
    patch: int = 4,
    dim: int = 192,
    depth: int = 6,
    heads: int = 3,
    mlp: int = 4,
    dropout: float = 0.0,
) -> Network:
    """A vision transformer with a class token; normalisation comes before each part.

    Feature points: ``embed`` and ``layer1`` to ``layer{depth}``, all ``(N, 1 + T, dim)`` with
    ``T = H W / patch**2`` and the class token first, and ``pool`` ``(N, dim)``. Queries, keys
    and values of block b (from 0): ``scaled_dot_product_attention()#b:in.0``, ``in.1``, ``in.2``.

    Args:
        classes: Number of logits.
        channels: Channels of the images.
        size: Height and width of the images, or one number for both: multiples of ``patch``.
        patch: Height and width of a patch.
        dim: Numbers in a token, a multiple of ``heads``.
        depth: Number of blocks.
        heads: Attention heads in a block.
        mlp: How many times wider than a token the inside of a block's network is.
        dropout: Share of values dropped.

    Returns:
        A model from ``(N, channels, H, W)`` to ``(N, classes)``.

    Raises:
        ModelError: Patches do not fill the image, heads do not divide a token, or an option is
            out of its range.

    Example:
        >>> net = vit(classes=10, size=32, dim=64, depth=2, heads=2)
        >>> net(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """
    high, wide = image_size("size", size)
    whole("patch", patch)
    if high % patch or wide % patch:
        raise ModelError(f"vit: patches of {patch} pixels do not fill images of {high}x{wide}.")
    if whole("dim", dim) % whole("heads", heads):
        raise ModelError(f"vit: dim ({dim}) must be a multiple of heads ({heads}).")
    rate, inner = fraction("dropout", dropout), whole("mlp", mlp) * dim
    patches = (high // patch) * (wide // patch)
    embed = _Embed(whole("channels", channels), patches, patch, dim, rate)
    modules: dict[str, nn.Module] = {"embed": embed}
    for number in range(1, whole("depth", depth) + 1):
        modules[f"layer{number}"] = _Block(dim, heads, inner, rate)
    modules |= {"norm": nn.LayerNorm(dim, eps=1e-6), "pool": _First()}
    modules["linear"] = nn.Linear(dim, whole("classes", classes))
    network = Network(modules, ["embed", *(f"layer{n}" for n in range(1, depth + 1)), "pool"])
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return network
