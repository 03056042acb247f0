"""Stages in order, each with its own folder: stopped at any moment, and taken up again there."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage.core.errors import CheckpointError, RecipeError, suggest
from tutelage.core.writing import Writer
from tutelage.synthesis.asking import Asking, ask
from tutelage.synthesis.costs import Budget, Prices, Purse, Spent, sure
from tutelage.synthesis.folder import Folder
from tutelage.synthesis.item import Dropped, Item, Step, together
from tutelage.synthesis.stage import Outcome, Place, Stage


@dataclass(frozen=True)
class Told:
    """What one stage did, as ``stage.json`` holds it.

    Attributes:
        stage: Its name.
        came: Items that came in.
        left: Items that went on.
        dropped: How many did not, by reason.
        spent: On its requests.
        report: What else it tells.
    """

    stage: str
    came: int
    left: int
    dropped: Mapping[str, int]
    spent: Spent
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        items: What is left.
        dropped: All that was dropped on the way.
        stages: What each did.
        sent: Requests of this call; earlier ones are in ``stages``.
        stopped: Why it ended before the last stage; empty where it did not.
        unfinished: Spent on the stage that it ended in.
    """

    items: list[Item]
    dropped: list[Dropped]
    stages: list[Told]
    sent: int
    stopped: str = ""
    unfinished: Spent = field(default_factory=Spent)


@dataclass(frozen=True)
class Pipeline:
    """Runs stages over seeds.

    Attributes:
        stages: By name, in order.
        writer: Who is asked.
        folder: That everything is kept in.
        seed: Every draw and every key follow from it.
        licence: A note on the writer's words.
        seeds_licence: A note on the seeds.
        prices: Of the writer.
        budget: For all of it.
        failures: Share of a stage's requests that may fail before the run stops.
        identity: What else a resumed run must share.

    Raises:
        RecipeError: There are no stages, or the budget bounds nothing.
    """

    stages: Mapping[str, Stage]
    writer: Writer
    folder: Path
    seed: int = 0
    licence: str = ""
    seeds_licence: str = ""
    prices: Prices = field(default_factory=Prices)
    budget: Budget = field(default_factory=Budget)
    failures: float = 0.1
    identity: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.stages:
            raise RecipeError("there are no stages: write at least one.")
        sure(self.budget, self.prices)

    def run(
        self,
        seeds: Sequence[Item],
        *,
        resume: bool = False,
        until: str | None = None,
        day: str | None = None,
    ) -> Result:
        """Go through all stages, or up to ``until``, which is the last one.

        Args:
            seeds: What it begins with; of equal ones the first stays.
            resume: Whether to go on in a folder that holds a part of this run.
            until: Name of a stage.
            day: Of the answers that come; None for today.

        Raises:
            CheckpointError: The folder holds another run, or this one and ``resume`` is not said.
            DataError: Files cannot be read or written.
            ModelError: The writer failed too often.
            RecipeError: ``until`` names no stage.
        """
        if until is not None and until not in self.stages:
            raise RecipeError(f"no stage is called {until!r}. {suggest(until, self.stages)}")
        folder = Folder(self.folder)
        with folder.held():
            folder.begin(self._identity(seeds), resume=resume)
            return self._run(seeds, folder, until, day or datetime.now(UTC).date().isoformat())

    def _identity(self, seeds: Sequence[Item]) -> dict[str, Any]:
        stages = [[name, type(each).__name__, vars(each)] for name, each in self.stages.items()]
        own = {"seeds": together(seeds), "seed": self.seed, "stages": stages}
        made: dict[str, Any] = json.loads(json.dumps({**own, **self.identity}))
        return made

    def _run(self, seeds: Sequence[Item], folder: Folder, until: str | None, day: str) -> Result:
        noted = Step("seeds", licence=self.seeds_licence)
        own = [item if item.steps else item.then(noted) for item in seeds]
        begun = _unique("seeds", Outcome(own))
        told = [_told("seeds", len(seeds), begun, Spent())]
        items, dropped, sent = begun.items, list(begun.dropped), 0
        purse = Purse(self.prices, self.budget)
        for number, (name, stage) in enumerate(self.stages.items(), 1):
            kept = folder.finished(number, name, together(items))
            if kept is None:
                asked = self._ask(stage, items, folder, number, purse, day)
                sent += asked.sent
                if asked.stopped:
                    why = f"{asked.stopped} is reached in stage {name!r}"
                    return Result(items, dropped, told, sent, why, asked.spent)
                outcome = _unique(name, stage.outcome(items, asked.answers, asked.place))
                _nothing_lost(name, items, outcome)
                row = _told(name, len(items), outcome, asked.spent)
                folder.finish(number, name, together(items), outcome, row)
            else:
                outcome, row = kept.outcome, Told(**kept.told)
                purse.spent += row.spent
            items = outcome.items
            dropped += outcome.dropped
            told.append(row)
            if name == until:
                break
        return Result(items, dropped, told, sent)

    def _ask(
        self, stage: Stage, items: list[Item], folder: Folder, number: int, purse: Purse, day: str
    ) -> Asking:
        name = list(self.stages)[number - 1]
        place = Place(name, self.seed, self.writer.name, self.licence, day)
        with folder.journal(number, name) as journal:
            purse.spent += journal.spent
            return ask(stage, items, place, journal, self.writer, purse, failures=self.failures)


def _told(name: str, came: int, outcome: Outcome, spent: Spent) -> Told:
    reasons = Counter(each.reason for each in outcome.dropped)
    counts = dict(sorted(reasons.items()))
    return Told(name, came, len(outcome.items), counts, spent, dict(outcome.report))


def _unique(name: str, outcome: Outcome) -> Outcome:
    """Of items with the same content and history the first goes on."""
    known: dict[str, Item] = {}
    twice = []
    for item in outcome.items:
        if known.setdefault(item.id, item) is not item:
            twice.append(Dropped(item, name, "the same again", f"as {item.id}"))
    return Outcome(list(known.values()), [*outcome.dropped, *twice], outcome.report)


def _nothing_lost(name: str, items: Sequence[Item], outcome: Outcome) -> None:
    found = {each.item.id for each in outcome.dropped}
    for item in outcome.items:
        found.add(item.id)
        found.update(parent for step in item.steps for parent in step.parents)
    lost = [item.id for item in items if item.id not in found]
    if lost:
        raise CheckpointError(
            f"stage {name!r} lost {len(lost)} items without a word, {lost[0]} first: it is wrong."
        )
