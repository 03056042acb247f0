"""A model seen from inside: gradients with respect to its inputs, and nothing left behind."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import dense
from tutelage.core.seeds import uniform
from tutelage.data.sets import Examples
from tutelage.evaluation.predict import evaluating
from tutelage.models.observed import Observed

Logits = Callable[[Tensor], Tensor]
"""From inputs ``(N, ...)`` as the data gives them to logits ``(N, C)``, differentiable."""


@contextmanager
def whitebox(model: Observed) -> Iterator[Logits]:
    """The model's logits, in eval mode, with gradients for its inputs alone.

    Inputs are the data's own (images in [0, 1]): the model's intake normalises them. Meanwhile no
    parameter asks for a gradient, so whatever goes backward inside leaves none behind; afterwards
    every parameter and every module is as it was.

    Args:
        model: A torch model.

    Example:
        >>> model = Observed(torch.nn.Linear(4, 3))
        >>> with whitebox(model) as logits:
        ...     inputs = torch.ones(2, 4, requires_grad=True)
        ...     (slope,) = torch.autograd.grad(logits(inputs)[:, 0].sum(), inputs)
        >>> bool((slope == model.model.weight[0]).all())
        True
    """
    device = device_of(model)
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}

    def logits(inputs: Tensor) -> Tensor:
        return dense(model(Batch(inputs.to(device))), "an evaluation").to(inputs.device)

    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        with evaluating(model):
            yield logits
    finally:
        for parameter, wanted in asked.items():
            parameter.requires_grad_(wanted)


def portions(count: int, at_once: int = 256) -> list[slice]:
    """Rows of so many examples, some at once: so much of a model's memory is enough.

    >>> portions(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """
    return [slice(start, start + at_once) for start in range(0, count, at_once)]


def some(examples: Examples, most: int, seed: int) -> Tensor:
    """Rows ``(M,)`` of at most ``most`` labelled examples, drawn by id; all where there are fewer.

    The order of the set and other examples in it do not change who is drawn first; rows come
    in the order of the set.
    """
    targets = examples.targets
    rows = torch.arange(len(examples))
    if targets is not None:
        rows = rows[targets.cpu() >= 0]
    lot = uniform(seed, examples.ids.cpu()[rows])[:, 0]
    return rows[lot.argsort(stable=True)[:most]].sort().values


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a model lies; the CPU for one without parameters."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")
