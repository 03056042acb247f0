"""Choosing on validation before the run: every combination of candidate values, trained once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from tutelage.core.errors import Diverged, RecipeError
from tutelage.recipe.reading import Data, put

Trial = Callable[[Data], float]
"""From a changed recipe to the accuracy its arm reached on validation."""


@dataclass(frozen=True)
class Choice:
    """What one arm was tuned to.

    Attributes:
        arm: ``student`` or ``baseline``.
        trials: ``{"values": {key: value}, "validation": accuracy or None, "failed": reason}``.
        values: The best trial's.
    """

    arm: str
    trials: list[dict[str, Any]]
    values: Mapping[str, Any]


def grid(candidates: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination.

    >>> grid({"a": [1, 2], "b": [3]})
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(candidates, values, strict=True)) for values in product(*candidates.values())]


def applied(recipe: Data, values: Mapping[str, Any]) -> Data:
    """A copy of ``recipe`` with ``values`` at their dotted keys."""
    changed = _deep(recipe)
    for key, value in values.items():
        put(changed, key, value)
    return changed


def choose(
    arm: str, candidates: Mapping[str, Sequence[Any]], trial: Callable[[dict[str, Any]], float]
) -> Choice:
    """Try every combination; the best on validation wins, the first of equals.

    Raises:
        Diverged: Every one of them diverged or collapsed.
    """
    trials: list[dict[str, Any]] = []
    for values in grid(candidates):
        try:
            trials.append({"values": values, "validation": trial(values)})
        except Diverged as error:
            trials.append({"values": values, "validation": None, "failed": str(error)})
    alive = [t for t in trials if t["validation"] is not None]
    if not alive:
        raise Diverged(
            f"tune.{arm}: all {len(trials)} trials failed; the last: {trials[-1]['failed']}"
        )
    best = max(alive, key=lambda t: t["validation"])
    return Choice(arm, trials, best["values"])


def check_candidates(arm: str, candidates: Mapping[str, Sequence[Any]]) -> None:
    """Refuse empty lists and keys that tuning may not touch."""
    allowed = ("train",) if arm == "baseline" else ("train", "objective")
    for key, values in candidates.items():
        if not values:
            raise RecipeError(f"tune.{arm}.{key}: got []: give at least one value.")
        if key.split(".")[0] not in allowed or "." not in key:
            raise RecipeError(
                f"tune.{arm}.{key}: only {' and '.join(f'{a}.*' for a in allowed)} can be tuned "
                f"here: write {allowed[0]}.learning_rate, for instance."
            )


def _deep(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _deep(v) for k, v in value.items()}
    return [_deep(v) for v in value] if isinstance(value, list) else value
