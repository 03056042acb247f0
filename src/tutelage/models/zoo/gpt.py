"""Language models that read from left to right.

LLaMA: Open and Efficient Foundation Language Models, Touvron et al., 2023 (arXiv 2302.13971).
Query heads share keys and values as in GQA: Training Generalized Multi-Query Transformer Models
from Multi-Head Checkpoints, Ainslie et al., 2023 (arXiv 2305.13245).
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.documents import causal_view, positions_of
from tutelage.models.zoo.key_values import KeyValues
from tutelage.models.zoo.parts import Network, fraction, one_of, whole
from tutelage.models.zoo.rotary import Turns, turned, turns


class _Attention(nn.Module):
    """Attention to what was before: ``(N, T, D)`` to ``(N, T, D)``."""

    def __init__(self, layer: int, width: int, heads: int, kv_heads: int, dropout: float):
        super().__init__()
        size = width // heads
        self.layer, self.size, self.dropout = layer, size, dropout
        self.num_key_value_groups = heads // kv_heads
        self.queries = nn.Linear(width, heads * size, bias=False)
        self.keys = nn.Linear(width, kv_heads * size, bias=False)
        self.values = nn.Linear(width, kv_heads * size, bias=False)
        self.out = nn.Linear(heads * size, width, bias=False)

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
            key, value = cache.put(self.layer, key, value)
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


class _Block(nn.Module):
    """Attention, then a two-layer network, each on normalised tokens and added to them."""

    def __init__(self, attention: _Attention, mlp: nn.Module, width: int, dropout: float):
        super().__init__()
        self.norm1 = nn.RMSNorm(width, eps=1e-5)
        self.attention = attention
        self.norm2 = nn.RMSNorm(width, eps=1e-5)
        self.mlp = mlp
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, tokens: Tensor, by: Turns, view: Tensor | None, cache: KeyValues | None
    ) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), by, view, cache))
        out: Tensor = tokens + self.dropout(self.mlp(self.norm2(tokens)))
        return out


class GPT(Network):
    """A decoder of token numbers: ``embed``, ``layer1`` ..., ``norm`` and ``linear``, the head.

    Args:
        modules: As made by `gpt`.
        sizes: ``width``, ``layers``, ``heads``, ``kv_heads``, ``inner`` and ``length``.
        base: Of the rotary positions.
    """

    takes_names = True
    embed: nn.Embedding
    norm: nn.RMSNorm
    linear: nn.Linear

    def __init__(self, modules: Mapping[str, nn.Module], sizes: Mapping[str, int], base: float):
        blocks = tuple(name for name in modules if name.startswith("layer"))
        super().__init__(modules, ("embed", *blocks))
        self.sizes, self.base, self._blocks = dict(sizes), base, blocks
        self.vocabulary = self.embed.num_embeddings

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KeyValues | None = None,
    ) -> Tensor:
        """Logits of the token after each.

        Args:
            input_ids: Token numbers ``(N, T)``.
            attention_mask: ``(N, T)``, 0 where rows are padded; with a cache ``(N, past + T)``.
            position_ids: ``(N, T)``. Without a cache, a document begins wherever they begin anew,
                and sees nothing of the others.
            cache: What was read before, and where this is kept too.

        Returns:
            ``(N, T, classes)``.
        """
        past, now = 0 if cache is None else cache.length, input_ids.shape[1]
        if past + now > self.sizes["length"]:
            raise ModelError(
                f"this gpt reads {self.sizes['length']} tokens, and got {past + now}: cut them, or "
                "make it with a larger length."
            )
        packed = position_ids if cache is None else None
        view = causal_view(now, packed, attention_mask, past)
        if position_ids is None and attention_mask is not None:
            position_ids = positions_of(attention_mask)[:, past:]
        elif position_ids is None:
            position_ids = torch.arange(past, past + now, device=input_ids.device)[None]
        by = turns(position_ids, self.sizes["width"] // self.sizes["heads"], self.base)
        try:
            tokens = self.embed(input_ids)
        except IndexError as error:
            raise ModelError(
                f"a token is number {int(input_ids.max())}, and this gpt knows "
                f"{self.vocabulary}: give it the tokenizer's size as classes."
            ) from error
        for block in self._blocks:
            tokens = self.get_submodule(block)(tokens, by, view, cache)
        if cache is not None:
            cache.read(now)
        logits: Tensor = self.linear(self.norm(tokens))
        return logits


@register("model", "gpt")
def gpt(
    *,
    classes: int,
    width: int = 256,
    layers: int = 6,
    heads: int = 4,
    kv_heads: int | None = None,
    length: int = 1024,
    mlp: float | None = None,
    activation: Literal["swiglu", "gelu"] = "swiglu",
    tied: bool = True,
    dropout: float = 0.0,
    base: float = 10_000.0,
) -> GPT:
    """A language model that reads from left to right, of the kind of Llama.

    Rotary positions, RMS normalisation before each part, no biases. Feature points: ``embed`` and
    ``layer1`` to ``layer{layers}``, all ``(N, T, width)``; ``linear:in`` ``(N, T, width)`` is what
    the head reads. ``layers.0:queries``, ``:keys``, ``:values`` and ``:attention`` are those of
    the first block (`tutelage.models.points`).

    Args:
        classes: Size of the vocabulary.
        width: Numbers in a token, a multiple of twice ``heads``.
        layers: Number of blocks.
        heads: Query heads in a block.
        kv_heads: Key and value heads, which query heads share: it divides ``heads``; as many if
            None.
        length: Most tokens in a row.
        mlp: How many times wider than a token the inside of a block's network is, rounded to a
            multiple of 8; 8/3 for ``swiglu`` and 4 for ``gelu`` if None, which cost the same.
        activation: ``swiglu`` (gated) or ``gelu``.
        tied: Whether the head is the embedding.
        dropout: Share of values dropped.
        base: Of the rotary positions: higher for longer rows.

    Returns:
        A model from ``input_ids`` ``(N, T)``, and where there are any ``attention_mask`` and
        ``position_ids``, to logits ``(N, T, classes)``.

    Raises:
        ModelError: Heads do not divide a token, or an option is out of its range.

    Example:
        >>> net = gpt(classes=50, width=32, layers=2, heads=4, kv_heads=2)
        >>> net(torch.zeros(5, 7, dtype=torch.long)).shape
        torch.Size([5, 7, 50])
    """
    kv_heads = heads if kv_heads is None else kv_heads
    if whole("width", width) % (2 * whole("heads", heads)):
        raise ModelError(f"gpt: width ({width}) must be a multiple of twice the heads ({heads}).")
    if heads % whole("kv_heads", kv_heads):
        raise ModelError(f"gpt: kv_heads ({kv_heads}) must divide heads ({heads}).")
    one_of("activation", activation, ("swiglu", "gelu"))
    gated, rate = activation == "swiglu", fraction("dropout", dropout)
    inner = _inner(width, (8 / 3 if gated else 4.0) if mlp is None else mlp)
    modules: dict[str, nn.Module] = {"embed": nn.Embedding(whole("classes", classes), width)}
    for number in range(whole("layers", layers)):
        attention = _Attention(number, width, heads, kv_heads, rate)
        inside = _Gated(width, inner) if gated else _Plain(width, inner)
        modules[f"layer{number + 1}"] = _Block(attention, inside, width, rate)
    modules |= {"norm": nn.RMSNorm(width, eps=1e-5)}
    modules["linear"] = nn.Linear(width, classes, bias=False)
    sizes = {"width": width, "layers": layers, "heads": heads, "kv_heads": kv_heads}
    network = GPT(modules, sizes | {"inner": inner, "length": whole("length", length)}, base)
    _initialise(network, layers)
    if tied:
        network.linear.weight = network.embed.weight
    return network


def _inner(width: int, factor: float) -> int:
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0:
        raise ModelError(f"mlp must be a number above 0, got {factor!r}.")
    return max(8, 8 * round(factor * width / 8))


def _initialise(network: GPT, layers: int) -> None:
    """As GPT-2: normal of 0.02; what is added to tokens is smaller the more layers there are."""
    for name, module in network.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            added = name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if added else 0.02)
