"""A model asked a few batches, to learn what its parts do; it is left as it was."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.models.observed import Frozen, Observed
from tutelage.models.readers import reader_of
from tutelage.models.shrunk.pretrained import is_pretrained

Look = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]
"""What is done with arguments, keyword arguments and output of a module; None leaves the output."""


def calibration(batches: Iterable[Batch] | None, asker: str) -> list[Batch]:
    """The batches, which can be gone through several times.

    Raises:
        DataError: There is none, or one of them is no `Batch`.
    """
    found = [] if batches is None else list(batches)
    for each in found:
        if not isinstance(each, Batch):
            raise DataError(
                f"{asker}: calibration batches must be of the class Batch, got a "
                f"{type(each).__name__}: give Batch(inputs={{'input_ids': ...}})."
            )
    if not found or not any(len(each) for each in found):
        raise DataError(
            f"{asker} looks at what the teacher does on a few batches, and none was given: give "
            "some batches of training examples, or choose what needs none (even, first, last)."
        )
    return found


@contextmanager
def asking(model: nn.Module, looks: Mapping[nn.Module, Look]) -> Iterator[Callable[[Batch], Any]]:
    """Ask batches in eval mode without gradients, while modules are looked at.

    Args:
        model: Its parts have the modes they had before when the block ends.
        looks: For each module, a function called after it ran; what it returns, unless None,
            takes the place of the module's output.
    """
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as hooks, torch.no_grad():
        for module, look in looks.items():
            hooks.callback(module.register_forward_hook(_hook(look), with_kwargs=True).remove)
        model.eval()
        try:
            yield lambda batch: _answer(model, batch)
        finally:
            for module, mode in modes.items():
                module.training = mode


def hidden_in(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states that a block was given."""
    for value in (*args, kwargs.get("hidden_states"), *kwargs.values()):
        if isinstance(value, Tensor) and value.is_floating_point():
            return value
    raise ModelError("a block was given no hidden states: only blocks of tensors can be measured.")


def hidden_out(output: Any) -> Tensor:
    """The hidden states that a block answered with, alone or first in a tuple."""
    first = output[0] if isinstance(output, (tuple, list)) else output
    if not isinstance(first, Tensor):
        raise ModelError(
            f"a block answered with a {type(first).__name__}: only blocks that answer with hidden "
            "states, alone or first in a tuple, can be measured."
        )
    return first


def real_tokens(batch: Batch, hidden: Tensor, *, decoder: bool = False) -> Tensor:
    """Which rows of ``hidden`` (N, ..., H) are no padding: ``(N, ...)`` of bool."""
    inputs = batch.inputs
    name = "decoder_attention_mask" if decoder else "attention_mask"
    mask = inputs.get(name) if isinstance(inputs, Mapping) else None
    if mask is not None and mask.shape == hidden.shape[:-1]:
        return mask.to(hidden.device).bool()
    return torch.ones(hidden.shape[:-1], dtype=torch.bool, device=hidden.device)


def _hook(look: Look) -> Callable[..., Any]:
    def ran(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return look(args, kwargs, output)

    return ran


def _answer(model: nn.Module, batch: Batch) -> Any:
    place = next((p.device for p in model.parameters()), torch.device("cpu"))
    inputs = batch.to(place).inputs
    if isinstance(model, (Observed, Frozen)):
        return model(batch.to(place)).logits
    if is_pretrained(model):
        return model(inputs) if isinstance(inputs, Tensor) else model(**inputs)
    return reader_of(model)(model, inputs)
