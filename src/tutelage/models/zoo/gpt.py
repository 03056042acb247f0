"""Language models that read from left to right.

LLaMA: Open and Efficient Foundation Language Models, Touvron et al., 2023 (arXiv 2302.13971).
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError
from tutelage.core.registry import register
from tutelage.models.documents import causal_view, positions_of
from tutelage.models.zoo.gpt_blocks import Block, Sizes
from tutelage.models.zoo.key_values import KeyValues
from tutelage.models.zoo.parts import Network, fraction, one_of, whole
from tutelage.models.zoo.rotary import turns


class GPT(Network):
    """A decoder of token numbers: ``embed``, ``layer1`` ..., ``norm`` and ``linear``, the head.

    Args:
        sizes: All that it is made by, and its attribute of that name; weights are drawn anew.
    """

    takes_names = True
    embed: nn.Embedding
    norm: nn.RMSNorm
    linear: nn.Linear

    def __init__(self, sizes: Sizes):
        blocks = tuple(f"layer{number + 1}" for number in range(sizes.layers))
        modules: dict[str, nn.Module] = {"embed": nn.Embedding(sizes.classes, sizes.width)}
        modules |= {name: Block(number, sizes) for number, name in enumerate(blocks)}
        modules["norm"] = nn.RMSNorm(sizes.width, eps=sizes.eps)
        modules["linear"] = nn.Linear(sizes.width, sizes.classes, bias=False)
        super().__init__(modules, ("embed", *blocks))
        self.sizes, self.blocks = sizes, blocks
        self.vocabulary = sizes.classes
        _initialise(self, sizes.layers)
        if sizes.tied:
            self.linear.weight = self.embed.weight

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
        if past + now > self.sizes.length:
            raise ModelError(
                f"this gpt reads {self.sizes.length} tokens, and got {past + now}: cut them, or "
                "make it with a larger length."
            )
        packed = position_ids if cache is None else None
        view = causal_view(now, packed, attention_mask, past)
        if position_ids is None and attention_mask is not None:
            position_ids = positions_of(attention_mask)[:, past:]
        elif position_ids is None:
            position_ids = torch.arange(past, past + now, device=input_ids.device)[None]
        by = turns(position_ids, self.sizes.head_size, self.sizes.base)
        try:
            tokens = self.embed(input_ids)
        except IndexError as error:
            raise ModelError(
                f"a token is number {int(input_ids.max())}, and this gpt knows "
                f"{self.vocabulary}: give it the tokenizer's size as classes."
            ) from error
        for block in self.blocks:
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
    gated = activation == "swiglu"
    return GPT(
        Sizes(
            classes=whole("classes", classes),
            width=width,
            layers=whole("layers", layers),
            heads=heads,
            kv_heads=kv_heads,
            head_size=width // heads,
            inner=_inner(width, (8 / 3 if gated else 4.0) if mlp is None else mlp),
            length=whole("length", length),
            gated=gated,
            tied=tied,
            dropout=fraction("dropout", dropout),
            base=base,
        )
    )


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
