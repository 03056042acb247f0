"""What a gpt is made by, and its blocks.

Query heads share keys and values as in GQA: Training Generalized Multi-Query Transformer Models
from Multi-Head Checkpoints, Ainslie et al., 2023 (arXiv 2305.13245).
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.models.zoo.key_values import KeyValues
from tutelage.models.zoo.rotary import Turns, turned


@dataclass
class Sizes:
    """All that a `GPT` is made by.

    Attributes:
        classes: Rows of its embedding and of its head.
        width: Numbers in a token.
        layers: Blocks.
        heads: Query heads in a block.
        kv_heads: Key and value heads.
        head_size: Numbers in a head.
        inner: Units inside a block's network.
        length: Most tokens in a row.
        gated: Whether that network has a gate.
        tied: Whether the head is the embedding.
        dropout: Share of values dropped.
        base: Of the rotary positions.
        eps: What normalisation adds to the mean square.
    """

    classes: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    length: int
    gated: bool
    tied: bool
    dropout: float
    base: float
    eps: float = 1e-5


class _Attention(nn.Module):
    """Attention to what was before: ``(N, T, D)`` to ``(N, T, D)``."""

    def __init__(self, layer: int, sizes: Sizes):
        super().__init__()
        width, size = sizes.width, sizes.head_size
        self.layer_idx, self.size, self.dropout = layer, size, sizes.dropout
        self.num_key_value_groups = sizes.heads // sizes.kv_heads
        self.queries = nn.Linear(width, sizes.heads * size, bias=False)
        self.keys = nn.Linear(width, sizes.kv_heads * size, bias=False)
        self.values = nn.Linear(width, sizes.kv_heads * size, bias=False)
        self.out = nn.Linear(sizes.heads * size, width, bias=False)

    def forward(
        self, tokens: Tensor, by: Turns, view: Tensor | None, cache: KeyValues | None
    ) -> Tensor:
        """What every token gathered from those it sees."""
        # (N, T, heads * d) -> (N, heads, T, d)
        query, key, value = (
            part(tokens).unflatten(-1, (-1, self.size)).transpose(1, 2)
            for part in (self.queries, self.keys, self.values)
        )
        query, key = turned(query, by), turned(key, by)
        if cache is not None:
            key, value = cache.put(self.layer_idx, key, value)
        key, value = (self._shared(part) for part in (key, value))
        gathered = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=view,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=view is None and bool(query.shape[2] > 1),
        )
        out: Tensor = self.out(gathered.transpose(1, 2).flatten(2))
        return out

    def _shared(self, states: Tensor) -> Tensor:
        """Each key or value head, once for every query head that it serves."""
        times = self.num_key_value_groups
        if times == 1:
            return states
        return states.unsqueeze(2).expand(-1, -1, times, -1, -1).flatten(1, 2)


class _Gated(nn.Module):
    """SwiGLU (Shazeer, 2020, arXiv 2002.05202): a two-layer network with a gate."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(tokens)) * self.up(tokens))
        return out


class _Plain(nn.Module):
    """A two-layer network with GELU."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(tokens)))
        return out


class Block(nn.Module):
    """Attention, then a two-layer network, each on normalised tokens and added to them."""

    def __init__(self, layer: int, sizes: Sizes):
        super().__init__()
        inside = _Gated if sizes.gated else _Plain
        self.norm1 = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.attention = _Attention(layer, sizes)
        self.norm2 = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.mlp = inside(sizes.width, sizes.inner)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(
        self, tokens: Tensor, by: Turns, view: Tensor | None, cache: KeyValues | None
    ) -> Tensor:
        """Tokens ``(N, T, D)`` with what both parts added."""
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), by, view, cache))
        out: Tensor = tokens + self.dropout(self.mlp(self.norm2(tokens)))
        return out
