"""What each tensor of a transformer is made of: its axes, family by family."""

from dataclasses import dataclass
from typing import Any

from tutelage.core.errors import ModelError

Axes = tuple[str | None, ...]
"""For each dimension of a weight: ``hidden``, ``queries`` (heads times their size), ``groups``
(heads of keys and values times their size), ``neurons``, ``vocabulary``, or None for what stays. A
bias has the first of them."""


@dataclass(frozen=True)
class Family:
    """Models whose parts have the same names.

    Attributes:
        kinds: What their configurations call themselves (``model_type``).
        axes: By the end of a module's path, the first that fits.
        attention: The linear layer in a block that reads all heads.
        neurons: The linear layer in a block that reads the inner units.
        norms: Ends of paths of the normalisations whose outputs the hidden channels are judged by.
        scaled: Whether these divide by the root of the mean square.
        grouped: Whether keys and values may have fewer heads than queries, and the size of a head
            is the configuration's to say.
    """

    kinds: tuple[str, ...]
    axes: tuple[tuple[str, Axes], ...]
    attention: str
    neurons: str
    norms: tuple[str, ...]
    scaled: bool
    grouped: bool


LLAMA = Family(
    kinds=("llama", "mistral", "qwen2", "qwen3", "smollm3"),
    axes=(
        ("embed_tokens", ("vocabulary", "hidden")),
        ("self_attn.q_proj", ("queries", "hidden")),
        ("self_attn.k_proj", ("groups", "hidden")),
        ("self_attn.v_proj", ("groups", "hidden")),
        ("self_attn.o_proj", ("hidden", "queries")),
        ("self_attn.q_norm", (None,)),
        ("self_attn.k_norm", (None,)),
        ("mlp.gate_proj", ("neurons", "hidden")),
        ("mlp.up_proj", ("neurons", "hidden")),
        ("mlp.down_proj", ("hidden", "neurons")),
        ("input_layernorm", ("hidden",)),
        ("post_attention_layernorm", ("hidden",)),
        ("norm", ("hidden",)),
        ("lm_head", ("vocabulary", "hidden")),
        ("score", (None, "hidden")),
    ),
    attention="self_attn.o_proj",
    neurons="mlp.down_proj",
    norms=("input_layernorm", "post_attention_layernorm", "norm"),
    scaled=True,
    grouped=True,
)

BERT = Family(
    kinds=("bert", "roberta", "xlm-roberta", "camembert"),
    axes=(
        ("embeddings.word_embeddings", ("vocabulary", "hidden")),
        ("embeddings.position_embeddings", (None, "hidden")),
        ("embeddings.token_type_embeddings", (None, "hidden")),
        ("embeddings.LayerNorm", ("hidden",)),
        ("attention.self.query", ("queries", "hidden")),
        ("attention.self.key", ("queries", "hidden")),
        ("attention.self.value", ("queries", "hidden")),
        ("attention.output.dense", ("hidden", "queries")),
        ("attention.output.LayerNorm", ("hidden",)),
        ("intermediate.dense", ("neurons", "hidden")),
        ("output.dense", ("hidden", "neurons")),
        ("output.LayerNorm", ("hidden",)),
        ("pooler.dense", ("hidden", "hidden")),
        ("predictions.transform.dense", ("hidden", "hidden")),
        ("predictions.transform.LayerNorm", ("hidden",)),
        ("predictions.decoder", ("vocabulary", "hidden")),
        ("predictions", ("vocabulary",)),
        ("seq_relationship", (None, "hidden")),
        ("lm_head.dense", ("hidden", "hidden")),
        ("lm_head.layer_norm", ("hidden",)),
        ("lm_head.decoder", ("vocabulary", "hidden")),
        ("lm_head", ("vocabulary",)),
        ("classifier.dense", ("hidden", "hidden")),
        ("classifier.out_proj", (None, "hidden")),
        ("classifier", (None, "hidden")),
        ("qa_outputs", (None, "hidden")),
    ),
    attention="attention.output.dense",
    neurons="output.dense",
    norms=("embeddings.LayerNorm", "attention.output.LayerNorm", "output.LayerNorm"),
    scaled=False,
    grouped=False,
)

FAMILIES = (LLAMA, BERT)


def family_of(model: Any) -> Family:
    """The family of a transformers model.

    Raises:
        ModelError: It is of none that is known here.
    """
    kind = getattr(getattr(model, "config", None), "model_type", type(model).__name__)
    for family in FAMILIES:
        if kind in family.kinds:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in family.kinds)
    raise ModelError(
        f"the width of a model of kind {kind!r} cannot be cut, only that of {known}: leave out "
        "layers instead, or train a smaller model of its own."
    )


def axes_of(family: Family, name: str) -> Axes:
    """The axes of a parameter by its name.

    Raises:
        ModelError: The family has no such part.

    Example:
        >>> axes_of(LLAMA, "model.layers.3.mlp.down_proj.weight")
        ('hidden', 'neurons')
        >>> axes_of(BERT, "encoder.layer.0.attention.output.dense.bias")
        ('hidden',)
    """
    path, _, kind = name.rpartition(".")
    for end, axes in family.axes:
        if path == end or path.endswith(f".{end}"):
            return axes[:1] if kind == "bias" else axes
    raise ModelError(
        f"{name!r} is no part that a {family.kinds[0]} has, so its axes are not known: cut the "
        "width before parts are added (adapters, heads)."
    )
