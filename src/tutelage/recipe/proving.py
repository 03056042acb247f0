"""The proof of a run: which parts its report has, and whom and what they may look at."""

from collections.abc import Mapping, Sequence

from tutelage.core.registry import names
from tutelage.data import Examples, labelled
from tutelage.evaluation import Predictions
from tutelage.evaluation.part import WORDS, AbstractPart
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed
from tutelage.recipe import schema
from tutelage.recipe.plan import Plan
from tutelage.recipe.sections import Named


def parts(asked: Sequence[Named], key: str = "report") -> dict[str, AbstractPart]:
    """Every part asked for, by name; ``standard``, ``full`` and ``none`` stand for several.

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
        groups=made.splits.groups,
        seeds=seeds,
        seed=made.seeds[0],
    )
