"""From a plan to a folder of examples: what ``tutelage synthesize`` does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tutelage.core.errors import RecipeError
from tutelage.core.writing import Writer
from tutelage.recipe.complaints import one_line, refuse_halves
from tutelage.recipe.named import Name, Named
from tutelage.recipe.reading import Data
from tutelage.recipe.schema import build, checked
from tutelage.synthesis.card import card, facts_of
from tutelage.synthesis.costs import Budget, Prices
from tutelage.synthesis.estimate import estimate
from tutelage.synthesis.export import as_text, export
from tutelage.synthesis.item import Item
from tutelage.synthesis.item_files import read_items, write_whole
from tutelage.synthesis.pipeline import Pipeline
from tutelage.synthesis.plan import SynthesisPlan, numbered
from tutelage.synthesis.stage import Stage

_PLACES = {"url", "key_env", "key_file", "lanes", "requests_per_minute", "timeout"}
"""Options of writers that change where and how fast, and not what is written."""


@dataclass(frozen=True)
class Synthesis:
    """A plan, read and checked.

    Attributes:
        plan: Its sections.
        stages: By name, in order.
        seeds: What it begins with.
        writer: Who is asked, with options.
    """

    plan: SynthesisPlan
    stages: dict[str, Stage]
    seeds: list[Item]
    writer: Named

    @property
    def prices(self) -> Prices:
        """Of the writer."""
        return Prices(**self.plan.prices.model_dump())

    def estimate(self) -> dict[str, Any]:
        """What it will cost at most; nobody is asked."""
        return estimate(self.stages, self.seeds, self.prices)

    def run(self, folder: Path, *, resume: bool = False, until: str | None = None) -> Data:
        """Go through all stages, and write items, exports, card and ``synthesis.json``.

        Raises:
            TutelageError: One line: the folder holds another run, or the writer fails.
        """
        writer: Writer = build("writer", self.writer, "writer")
        same = {k: v for k, v in self.writer.options.items() if k not in _PLACES}
        pipeline = Pipeline(
            self.stages,
            writer,
            folder,
            seed=self.plan.seed,
            licence=self.plan.writer_licence,
            seeds_licence=self.plan.licence,
            prices=self.prices,
            budget=Budget(**self.plan.budget.model_dump()),
            failures=self.plan.failures,
            identity={"writer": [self.writer.name, same]},
        )
        result = pipeline.run(self.seeds, resume=resume, until=until)
        files = export(folder, result.items, result.dropped, self.plan.reasoning)
        facts = facts_of(self.plan.name, result, self.prices, self.estimate(), files)
        write_whole(folder / "synthesis.json", as_text(facts))
        write_whole(folder / "DATA_CARD.md", card(facts))
        return facts | {"sent": result.sent}


def synthesis(content: Data) -> Synthesis:
    """A plan of plain data, every word of it checked, and its seeds read.

    Raises:
        DataError: The seeds cannot be read, or there are none.
        RecipeError: A key, name or value is wrong.
    """
    refuse_halves(content, [])
    try:
        plan = SynthesisPlan.model_validate(content)
    except ValidationError as error:
        raise RecipeError(one_line(error, SynthesisPlan)) from error
    named = [_named(each, f"stages.{i}") for i, each in enumerate(plan.stages)]
    made = [build("stage", each, f"stages.{i}") for i, each in enumerate(named)]
    stages = dict(zip(numbered([each.name for each in named]), made, strict=True))
    seeds = read_items(plan.seeds, "seeds")
    if not seeds:
        raise RecipeError(f"seeds: {plan.seeds!r} holds no items: write at least one line.")
    writer = _named(plan.writer, "writer")
    checked("writer", writer, "writer")
    return Synthesis(plan, stages, seeds, writer)


def _named(value: Any, key: str) -> Named:
    try:
        found: Named = TypeAdapter(Name).validate_python(value)
    except ValidationError as error:
        told = error.errors()[0]
        why = told["ctx"]["error"] if "ctx" in told else told["msg"]
        raise RecipeError(f"{key}: {why}.") from error
    return found
