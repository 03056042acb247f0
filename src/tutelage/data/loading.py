"""From what a recipe writes under ``data`` to splits."""

from collections.abc import Mapping
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.registry import build
from tutelage.data.augment import named
from tutelage.data.splits import Splits


def load(source: str | Mapping[str, Any], **overrides: Any) -> Splits:
    """Build the data source that ``source`` names.

    Args:
        source: A registered name, or ``{name: options}``.
        overrides: Options that win over the written ones.

    Raises:
        RecipeError: There is no such source or option.
        DataError: The data is missing or broken.

    Example:
        >>> splits = load({"fashion_mnist_small": {"validation": 1000}}, seed=1)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (9000, 1000, 2000)
    """
    name, options = named(source, "data")
    splits = build("data", name, {**options, **overrides})
    if not isinstance(splits, Splits):
        raise RecipeError(f"data {name!r} made a {type(splits).__name__}, expected Splits.")
    return splits
