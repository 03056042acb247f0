"""How models take inputs, and where their logits are.

A reader is a function ``(model, inputs) -> logits``. Recipes name one by what is registered
here; `reader_of` finds the one that a model needs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError

Read = Callable[[nn.Module, Inputs], Tensor]
"""How a model takes inputs and where its logits ``(N, ..., C)`` are."""


def plain(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes one thing (a tensor, or a mapping) and returns logits."""
    return _tensor(model, model(inputs))


def keywords(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes named tensors as keyword arguments and returns logits."""
    return _tensor(model, model(**_named(inputs, None)))


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
    for kind in type(model).__mro__:
        if kind.__module__.startswith("transformers.") and kind.__name__ == "PreTrainedModel":
            return Transformers(getattr(model, "main_input_name", "pixel_values"))
    return plain


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
