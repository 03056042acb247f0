"""What a report says of the data and the costs of a run, whatever was learnt."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.data import labelled
from tutelage.evaluation import DataFacts, macs
from tutelage.models import Observed
from tutelage.recipe.plan import Plan
from tutelage.recipe.tuning import Choice


def macs_of(model: Observed, example: Batch) -> int | None:
    """Multiply-accumulates of one example; None where they cannot be counted."""
    try:
        return macs(model, example)
    except ModelError:
        return None  # told in the report as not counted, never as 0


def facts_of(
    made: Plan, choices: Sequence[Choice], test: int, smaller: Mapping[str, Any] | None
) -> DataFacts:
    """Which data did what, and what was chosen on validation."""
    splits = made.splits
    count = len(labelled(splits.train))
    chosen = [f"the {choice.arm}'s {_plain(key)}" for choice in choices for key in choice.values]
    if made.train.keep == "best":
        chosen.append("the best epoch")
    if smaller is not None and smaller["chosen"] is not None:
        chosen.append("the shipped file")
    few = count < len(splits.train)
    seen = len(made.teacher.sees)
    full = few and seen > count
    return DataFacts(
        name=splits.name,
        train=len(splits.train),
        validation=len(splits.validation),
        test=test,
        labelled=count if few else None,
        chosen=chosen,
        teacher=f"the teacher was trained with all {len(made.teacher.sees):,} labels"
        if full
        else "",
        origin=str(splits.origin.get("licence", "")),
    )


def _plain(key: str) -> str:
    """``train.learning_rate`` as people say it: ``learning rate``."""
    return " ".join(key.split(".")[1:]).replace("_", " ")
