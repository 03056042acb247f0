"""Sets the models were never meant for, made to fit what they read."""

import json
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError, TutelageError
from tutelage.data import Examples, Splits, TensorSet
from tutelage.models import Intake
from tutelage.recipe import schema
from tutelage.recipe.sections import Named

_MOST = 2000


def outside_sets(wanted: Mapping[str, Named], data: Splits) -> dict[str, Examples]:
    """The test split of each source (at most 2,000 examples), in the data's size and channels.

    Images are resized and made grey or coloured as a model's intake does; anything else must have
    the data's shape.

    Args:
        wanted: Sources by name.
        data: What the models learn from.

    Raises:
        TutelageError: One line naming the key: a source cannot be read, or does not fit.
    """
    found = {name: _read(json.dumps(named.model_dump()), name) for name, named in wanted.items()}
    return {name: _fitted(one, data, f"outside.{name}") for name, one in found.items()}


@lru_cache(maxsize=4)  # every candidate that is tuned makes a plan of its own
def _read(source: str, name: str) -> TensorSet:
    written = json.loads(source)
    named = (
        Named(name=written)
        if isinstance(written, str)
        else Named(name=next(iter(written)), options=next(iter(written.values())))
    )
    splits: Splits = schema.build("data", named, f"outside.{name}")
    test = splits.test.open("tests of what the models were never meant for")
    rows = torch.linspace(0, len(test) - 1, min(len(test), _MOST)).long()
    inputs = test.batch(rows).inputs
    if not isinstance(inputs, Tensor):
        raise RecipeError(f"outside.{name}: its examples are no images or rows of numbers.")
    return TensorSet(inputs, name=name)


def _fitted(examples: TensorSet, data: Splits, key: str) -> TensorSet:
    theirs, ours = examples.example_shape, data.example_shape
    if theirs == ours:
        return examples
    if len(theirs) != 3 or len(ours) != 3:
        raise RecipeError(
            f"{key}: its examples have the shape {theirs}, and {data.name} has {ours}: give a "
            "source of the same shape, or images for images."
        )
    try:
        fit = Intake(size=(ours[1], ours[2]), channels=ours[0])
        inputs = fit(examples.inputs)
    except TutelageError as error:
        raise type(error)(f"{key}: {error}") from error
    assert isinstance(inputs, Tensor)
    return TensorSet(inputs.clamp(0, 1), name=examples.name)
