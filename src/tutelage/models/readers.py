"""How models take inputs, and where their logits are.

A reader is a function ``(model, inputs) -> logits``; `reader_of` finds the one that a model
needs. Those of language models are in `tutelage.models.text_readers`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError
from tutelage.models.points import is_transformers
from tutelage.models.text_readers import text_reader_of

Read = Callable[[nn.Module, Inputs], Tensor]
"""How a model takes inputs and where its logits ``(N, ..., C)`` are."""


def plain(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes one thing (a tensor, or a mapping) and returns logits."""
    return _tensor(model, model(inputs))


def keywords(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes named tensors as keyword arguments and returns logits."""
    return _tensor(model, model(**_named(inputs, None)))


def tokens(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes ``input_ids`` and the rest by name, and returns logits."""
    return _tensor(model, model(**_named(inputs, "input_ids")))


class Transformers:
    """Read a model of the transformers library: named tensors in, ``.logits`` out.

    Args:
        name: What a bare tensor is called among the model's inputs.
    """

    def __init__(self, name: str = "pixel_values"):
        self.name = name

    def __call__(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """The logits ``(N, ..., C)``."""
        answer = model(**_named(inputs, self.name))
        logits = answer.get("logits") if isinstance(answer, Mapping) else None
        if logits is None:
            raise ModelError(
                f"{type(model).__name__} answers without logits: load it with a head, as "
                "AutoModelForImageClassification does, or give a reader of your own (read=...)."
            )
        return _tensor(model, logits)


def reader_of(model: nn.Module) -> Read:
    """The reader that this model needs, as far as its class tells.

    >>> reader_of(nn.Linear(2, 2)) is plain
    True
    """
    inside = getattr(model, "get_base_model", None)  # peft puts adapters into a model
    if is_transformers(inside() if callable(inside) else model):
        name = getattr(model, "main_input_name", "pixel_values")
        found: Read = text_reader_of(model) if name == "input_ids" else Transformers(name)
        return found
    return tokens if getattr(model, "takes_names", False) else plain


def _named(inputs: Inputs, name: str | None) -> dict[str, Tensor]:
    if isinstance(inputs, Tensor):
        if name is None:
            raise ModelError(
                "this reader passes inputs by name, and the data gives one tensor without a "
                "name: use the reader 'plain', or data with named inputs."
            )
        return {name: inputs}
    return dict(inputs)


def _tensor(model: nn.Module, answer: Any) -> Tensor:
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"{type(model).__name__} returned a {type(answer).__name__} where a tensor of logits "
            "was expected: give a reader that takes the logits out of it (read=...)."
        )
    return answer
