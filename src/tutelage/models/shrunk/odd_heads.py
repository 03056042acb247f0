"""BERT models with fewer attention heads than their configuration can say.

BERT's configuration knows no size of a head: it is hidden size by heads. With fewer heads and the
hidden size as it was, heads would be wider. The size is kept under a name of this library's, and a
model with it is made in two steps; transformers alone refuses such a folder, by the shapes of its
tensors, and `open_folder` opens it.
"""

from typing import Any

from torch import nn

KEY = "tutelage_head_size"
"""In the configuration: the size of a head, where hidden size by heads is another."""


def made(kind: Any, config: Any, **options: Any) -> Any:
    """A fresh model of this class by this configuration.

    >>> from types import SimpleNamespace
    >>> class Kind:
    ...     def _from_config(config): return config.num_attention_heads
    >>> made(Kind, SimpleNamespace(num_attention_heads=4))
    4
    """
    size = getattr(config, KEY, None)
    if size is None:
        return kind._from_config(config, **options)
    heads, config.num_attention_heads = config.num_attention_heads, 1
    try:
        model = kind._from_config(config, **options)
    finally:
        config.num_attention_heads = heads
    for module in model.modules():
        if all(hasattr(module, part) for part in ("self", "output")) and hasattr(
            module.self, "attention_head_size"
        ):
            _resize(module, heads, int(size))
    model.config.num_attention_heads = heads
    return model


def say_head_size(config: Any, size: int) -> None:
    """Put the size of a head into a configuration that would say another, and only there."""
    if config.num_attention_heads * size != config.hidden_size:
        setattr(config, KEY, size)
    elif hasattr(config, KEY):
        delattr(config, KEY)


def _resize(attention: Any, heads: int, size: int) -> None:
    inner = attention.self
    for name in ("query", "key", "value"):
        setattr(inner, name, _linear(getattr(inner, name), outputs=heads * size))
    attention.output.dense = _linear(attention.output.dense, inputs=heads * size)
    inner.num_attention_heads, inner.attention_head_size = heads, size
    inner.all_head_size, inner.scaling = heads * size, size**-0.5


def _linear(old: nn.Linear, inputs: int | None = None, outputs: int | None = None) -> nn.Linear:
    return nn.Linear(
        inputs or old.in_features,
        outputs or old.out_features,
        bias=old.bias is not None,
        dtype=old.weight.dtype,
        device=old.weight.device,
    )
