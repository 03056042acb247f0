"""The proof of a run: which parts its report has, and whom and what they may look at."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from tutelage.core.registry import names
from tutelage.data import Examples, labelled
from tutelage.evaluation import Predictions
from tutelage.evaluation.examining import WORDS
from tutelage.evaluation.gates.judging import home
from tutelage.evaluation.part import AbstractPart
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed
from tutelage.recipe import schema
from tutelage.recipe.plan import Plan
from tutelage.recipe.sections import Named


def parts(
    asked: Sequence[Named], gates: Mapping[str, Any] = MappingProxyType({}), key: str = "report"
) -> dict[str, AbstractPart]:
    """Every part asked for, by name; ``standard``, ``full`` and ``none`` stand for several.

    A part that a gate reads is there too, with its default options, whether asked for or not: a
    gate without its figure could only fail.

    Args:
        asked: The recipe's ``report``.
        gates: The recipe's ``gates``, by name.
        key: What to call ``asked`` in an error.

    Raises:
        RecipeError: One line naming the key, and the nearest part that exists.
    """
    found = dict(WORDS["none"]())
    for index, named in enumerate(asked):
        if named.name in WORDS and not named.options:
            found |= WORDS[named.name]()
        else:
            names("part") or WORDS["full"]()  # on their shelf
            found[named.name] = schema.build("part", named, f"{key}.{index}")
    for part in filter(None, map(home, gates)):
        found.setdefault(part, WORDS["full"]()[part])
    return found


def subjects(
    made: Plan,
    models: Mapping[str, Observed],
    test: Examples,
    seeds: Mapping[str, Sequence[Predictions]],
) -> Subjects:
    """Whom the proof of a run is about; nothing is fitted on ``test``."""
    return Subjects(
        models=models,
        test=test,
        validation=made.splits.validation,
        train=labelled(made.splits.train),
        taught=made.teacher.sees,
        outside=made.outside,
        groups=made.splits.groups,
        seeds=seeds,
        seed=made.seeds[0],
    )
