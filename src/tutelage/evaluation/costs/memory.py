"""Memory that answers take beside the weights: counted tensor by tensor as the model runs."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.core.outputs import Outputs
from tutelage.evaluation.predict import evaluating


def peak_memory(answers: Callable[[Batch], Outputs], example: Batch) -> int:
    """Bytes that are alive at once, at the worst moment of answering ``example``.

    Counts every tensor that the forward pass makes, from its making until nothing holds it any
    more (storages, so views are free); not the weights, not the example itself, and not what a
    kernel uses inside of one operation. The same on every machine for the same model and batch.

    Args:
        answers: A torch model, such as `tutelage.models.Observed`; it is left as it was.
        example: What is answered at once: its length is the batch size.

    Returns:
        Bytes.

    Raises:
        ModelError: The model cannot answer the example, or makes no tensor that torch sees.

    Example:
        >>> linear = torch.nn.Linear(4, 3)
        >>> model = lambda batch: Outputs(linear(batch.inputs).relu().sigmoid())
        >>> peak_memory(model, Batch(torch.zeros(2, 4)))  # two answers of 3 numbers of 4 bytes
        48
    """
    with evaluating(answers):
        return peak_of(lambda: answers(example))


def peak_of(run: Callable[[], object]) -> int:
    """Bytes of tensors that are alive at once at the worst moment of a call, as `peak_memory`.

    Args:
        run: Answers or writes with a torch model in eval mode.

    Raises:
        ModelError: The call fails, or makes no tensor that torch sees.

    Example:
        >>> peak_of(lambda: torch.zeros(3) + torch.ones(3))  # two of 12 bytes, and their sum
        36
    """
    live = _Live()
    with torch.no_grad(), live:
        try:
            run()
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            said = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the model cannot answer the example that its memory was to be counted on: {said}"
            ) from error
    if live.peak == 0:
        raise ModelError(
            "the model made no tensor that torch sees, so the memory of its answers cannot be "
            "counted here."
        )
    return live.peak


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees what every operation returns, and when the last holder of it is gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(  # torch's own protocol
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):  # made before: a weight, a statistic, the example
                self._known.add(tensor.untyped_storage()._cdata)
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._born(tensor)
        return result

    def _born(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage._cdata, storage.nbytes()
        if place in self._known or size == 0:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, place, size).atexit = False

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size
