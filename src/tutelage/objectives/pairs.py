"""Which student feature is compared with which teacher feature."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.errors import RecipeError

Pairs = Mapping[str, str | Sequence[str]]
"""Student path to teacher path, or to several where one student feature meets more than one."""


def pairs_of(pairs: Pairs, asker: str) -> list[tuple[str, str]]:
    """All pairs, in order.

    >>> pairs_of({"layer2": ["layer2", "layer3"]}, "match")
    [('layer2', 'layer2'), ('layer2', 'layer3')]
    """
    found: list[tuple[str, Any]] = []
    if isinstance(pairs, Mapping):
        for ours, theirs in pairs.items():
            several = theirs if isinstance(theirs, (list, tuple)) else (theirs,)
            found += [(ours, each) for each in several]
    if not found or not all(isinstance(path, str) and path for pair in found for path in pair):
        raise RecipeError(
            f"{asker}: pairs must map student features to teacher features, such as "
            f"{{layer3: layer3}}, got {pairs!r}."
        )
    if len(set(found)) < len(found):
        raise RecipeError(f"{asker}: pairs names a pair twice: {pairs!r}.")
    return found


def paths_of(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """What to tap: student paths and teacher paths, each once."""
    ours, theirs = zip(*pairs, strict=True)
    return list(dict.fromkeys(ours)), list(dict.fromkeys(theirs))
