"""What each tensor of a transformer is made of: its axes, family by family."""

from collections.abc import Iterable
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError
from tutelage.models.shrunk.family import Axes, Family, Reads
from tutelage.models.zoo.gpt import GPT

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
    attention=(Reads("self_attn", "o_proj"),),
    neurons=Reads("mlp", "down_proj"),
    norms=("input_layernorm", "post_attention_layernorm", "norm"),
    scaled=True,
    names={
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "groups": "num_key_value_heads",
        "size": "head_dim",
        "neurons": "intermediate_size",
        "vocabulary": "vocab_size",
        "eps": "rms_norm_eps",
    },
)

GPTS = Family(
    kinds=("gpt",),
    axes=(
        ("embed", ("vocabulary", "hidden")),
        ("attention.queries", ("queries", "hidden")),
        ("attention.keys", ("groups", "hidden")),
        ("attention.values", ("groups", "hidden")),
        ("attention.out", ("hidden", "queries")),
        ("mlp.gate", ("neurons", "hidden")),
        ("mlp.up", ("neurons", "hidden")),
        ("mlp.down", ("hidden", "neurons")),
        ("norm1", ("hidden",)),
        ("norm2", ("hidden",)),
        ("norm", ("hidden",)),
        ("linear", ("vocabulary", "hidden")),
    ),
    attention=(Reads("attention", "out"),),
    neurons=Reads("mlp", "down"),
    norms=("norm1", "norm2", "norm"),
    scaled=True,
    names={
        "hidden": "width",
        "heads": "heads",
        "groups": "kv_heads",
        "size": "head_size",
        "neurons": "inner",
        "vocabulary": "classes",
        "eps": "eps",
    },
)

T5 = Family(
    kinds=("t5", "mt5"),
    axes=(
        ("shared", ("vocabulary", "hidden")),
        ("embed_tokens", ("vocabulary", "hidden")),
        ("relative_attention_bias", (None, "heads")),
        *(
            (f"{kind}.{part}", ("hidden", "queries") if part == "o" else ("queries", "hidden"))
            for kind in ("SelfAttention", "EncDecAttention")
            for part in "qkvo"
        ),
        ("DenseReluDense.wi", ("neurons", "hidden")),
        ("DenseReluDense.wi_0", ("neurons", "hidden")),
        ("DenseReluDense.wi_1", ("neurons", "hidden")),
        ("DenseReluDense.wo", ("hidden", "neurons")),
        ("layer_norm", ("hidden",)),
        ("final_layer_norm", ("hidden",)),
        ("lm_head", ("vocabulary", "hidden")),
        ("classification_head.dense", ("hidden", "hidden")),
        ("classification_head.out_proj", (None, "hidden")),
        ("classifier", (None, "hidden")),
        ("qa_outputs", (None, "hidden")),
    ),
    attention=(Reads("SelfAttention", "o"), Reads("EncDecAttention", "o")),
    neurons=Reads("DenseReluDense", "wo"),
    norms=("layer_norm", "final_layer_norm"),
    scaled=True,
    names={
        "hidden": "d_model",
        "heads": "num_heads",
        "size": "d_kv",
        "neurons": "d_ff",
        "vocabulary": "vocab_size",
        "eps": "layer_norm_epsilon",
    },
    alike=("SelfAttention",),
    divided="decoder.final_layer_norm",
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
    attention=(Reads("attention", "output.dense"),),
    neurons=Reads("", "output.dense"),
    norms=("embeddings.LayerNorm", "attention.output.LayerNorm", "output.LayerNorm"),
    scaled=False,
    names={
        "hidden": "hidden_size",
        "heads": "num_attention_heads",
        "neurons": "intermediate_size",
        "vocabulary": "vocab_size",
    },
)

FAMILIES = (LLAMA, BERT, T5, GPTS)


def kind_of(model: Any) -> str:
    """What a model calls itself."""
    if isinstance(model, GPT):
        return "gpt"
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))


def family_of(model: Any) -> Family:
    """The family of a transformers model, or of a gpt.

    Raises:
        ModelError: It is of none that is known here.
    """
    kind = kind_of(model)
    for family in FAMILIES:
        if kind in family.kinds:
            return family
    known = ", ".join(kind for family in FAMILIES for kind in family.kinds)
    raise ModelError(
        f"the width of a model of kind {kind!r} cannot be cut, only that of {known}: leave out "
        "layers instead, or train a smaller model of its own."
    )


def readers_of(family: Family, model: nn.Module) -> tuple[dict[str, str], dict[str, str]]:
    """The layers that read heads, and those that read inner units: each by the path of its part.

    Both are in the order of the model.
    """
    heads: dict[str, str] = {}
    neurons: dict[str, str] = {}
    for path, _ in model.named_modules():
        parts = [part for kind in family.attention if (part := kind.part(path)) is not None]
        if parts:
            heads[parts[0]] = path
        elif (part := family.neurons.part(path)) is not None:
            neurons[part] = path
    return heads, neurons


def alike(family: Family, parts: Iterable[str]) -> list[list[str]]:
    """Attentions by path, those together that must keep the same heads.

    >>> alike(T5, ["block.0.layer.0.SelfAttention", "block.1.layer.0.SelfAttention"])
    [['block.0.layer.0.SelfAttention', 'block.1.layer.0.SelfAttention']]
    """
    found: dict[str, list[str]] = {}
    for part in parts:
        words = part.split(".")
        stack = next((n for n, word in enumerate(words) if word.isdigit()), len(words))
        shared = words[-1] in family.alike
        found.setdefault(".".join(words[:stack]) if shared else part, []).append(part)
    return list(found.values())


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
