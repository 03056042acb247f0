"""A student that a recipe describes as what is left of its teacher."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError, suggest
from tutelage.models.observed import Frozen, Observed
from tutelage.models.shrunk.choosing import CHOICES, chosen_layers
from tutelage.models.shrunk.layers import fewer_layers
from tutelage.models.shrunk.lora import with_lora
from tutelage.models.shrunk.width import narrower

_LORA = ("rank", "alpha", "targets", "dropout", "whole")


def shrunk(
    teacher: nn.Module,
    batches: Iterable[Batch] | None = None,
    *,
    layers: int | Sequence[int] | Mapping[str, Any] | None = None,
    choose: str = "even",
    heads: int | None = None,
    mlp: int | None = None,
    width: int | None = None,
    lora: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A student that begins as its teacher with fewer layers, heads, units or channels.

    Everything that is measured is measured on the teacher as it is, whole. All parameters of the
    student can be trained; with ``lora`` only its adapters.

    Args:
        teacher: The model itself, or an `Observed` or `Frozen` one; it stays as it is.
        batches: Some batches of training examples: see `needs_batches`.
        layers: How many blocks stay, or which, or either by stack (``{decoder: 2}``); null for all.
        choose: ``even``, ``first``, ``last``, ``importance`` or ``left_out``: see `chosen_layers`.
        heads: How many heads of attention each block keeps; null for all.
        mlp: How many inner units each block keeps; null for all.
        width: How many hidden channels stay; null for all.
        lora: Options of `with_lora`: ``rank``, ``alpha``, ``targets``, ``dropout``, ``whole``; null
            for none.

    Returns:
        A model of the teacher's class, sharing no tensor with it.

    Raises:
        RecipeError: Nothing is to be shrunk, or an option is not known.
        ModelError: The teacher cannot be shrunk so.
        DataError: Batches are needed and not there.

    Example:
        >>> teacher = nn.ModuleDict({"body": nn.ModuleList([nn.Linear(4, 4) for _ in range(6)])})
        >>> len(shrunk(teacher, layers=2)["body"])
        2
    """
    if all(each is None for each in (layers, heads, mlp, width, lora)):
        raise RecipeError(
            "a shrunk model has fewer layers, heads, mlp units or width than its teacher, or lora: "
            "say at least one of them."
        )
    for option in lora or {}:
        if option not in _LORA:
            raise RecipeError(f"lora has no option {option!r}. {suggest(str(option), _LORA)}")
    model = _bare(teacher)
    found = None if batches is None else list(batches)
    student = model
    if layers is not None:
        kept = chosen_layers(model, layers, choose=choose, batches=found)
    if not heads is mlp is width is None:
        student = narrower(student, heads=heads, mlp=mlp, width=width, batches=found)
    if layers is not None:
        student = fewer_layers(student, kept)
    return student if lora is None else with_lora(student, **lora)


def needs_batches(
    *,
    layers: int | Sequence[int] | Mapping[str, Any] | None = None,
    choose: str = "even",
    heads: int | None = None,
    mlp: int | None = None,
    width: int | None = None,
    **others: Any,
) -> bool:
    """Whether `shrunk` looks at the teacher on batches, given these options.

    >>> needs_batches(layers=10), needs_batches(layers=10, choose="importance")
    (False, True)
    """
    numbers = layers.values() if isinstance(layers, Mapping) else [layers]
    measured = choose in CHOICES[3:] and any(isinstance(each, int) for each in numbers)
    return measured or not heads is mlp is width is None


def _bare(teacher: nn.Module) -> nn.Module:
    model: Any = teacher
    if isinstance(model, Frozen):
        model = model.observed
    if isinstance(model, Observed):
        model = model.model
    if not isinstance(model, nn.Module):
        raise ModelError(f"a teacher to shrink is a torch module, got a {type(model).__name__}.")
    return model
