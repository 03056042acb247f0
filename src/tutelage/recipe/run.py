"""A whole run: teacher, tuning, baseline and students, report, export."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors import SafetensorError

from tutelage.core.errors import CheckpointError, Interrupted
from tutelage.deployment.preprocessing import STORED
from tutelage.engine.machine import join_processes
from tutelage.evaluation import environment
from tutelage.models import Observed
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.caching import answers
from tutelage.recipe.calibrating import calibrated
from tutelage.recipe.compressing.sweep import compress
from tutelage.recipe.control import control_arm
from tutelage.recipe.equipment import machine
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.measures import shown
from tutelage.recipe.outcome import Arms
from tutelage.recipe.plan import Given, Plan, load_data, plan
from tutelage.recipe.reading import Data
from tutelage.recipe.reporting import report
from tutelage.recipe.sections import Recipe
from tutelage.recipe.store import content_key
from tutelage.recipe.students import baseline_arm, student_of
from tutelage.recipe.suiting import unsuited
from tutelage.recipe.teaching import Taught, teach, told
from tutelage.recipe.together import by_first
from tutelage.recipe.trying import planned
from tutelage.recipe.tuning import Choice, choose, tuned
from tutelage.recipe.validated import recipe_from


@dataclass(frozen=True)
class Result:
    """What a run made.

    Attributes:
        teacher: The teacher.
        student: The shipped student: the first seed's.
        baseline: The same without a teacher; None where none was asked for.
        report: As in ``report.json``.
        folder: Where it all lies; None where nothing was to be kept.
        passed: Whether every gate passed.
    """

    teacher: Observed
    student: Observed
    baseline: Observed | None
    report: dict[str, Any]
    folder: Path | None
    passed: bool


def run(
    data: Data, out: Path, *, console: Console, resume: bool = False, command: Sequence[str] = ()
) -> Result:
    """Do what a recipe says, in the folder ``out``.

    Args:
        data: The recipe as plain data (`tutelage.recipe.reading`).
        out: The run's folder; it must not exist unless ``resume``.
        console: Where progress is told.
        resume: Go on with what is in ``out``.
        command: What the report says to type to make it again.

    Raises:
        RecipeError: The recipe or one of its names is wrong: nothing was written.
        Diverged: A network learnt nothing.
        Interrupted: Ctrl-C; ``--resume`` goes on.
    """
    recipe = recipe_from(data)
    given = Given(load_data(recipe))
    return carry_out(recipe, given, out, console=console, resume=resume, command=command)


def carry_out(
    recipe: Recipe,
    given: Given,
    out: Path | None,
    *,
    console: Console,
    resume: bool = False,
    command: Sequence[str] = (),
) -> Result:
    """The run of a recipe of which some parts are given as Python objects."""
    first = planned(recipe, given)
    join_processes(machine(recipe.train))
    if out is None:
        return _work(recipe, given, first, Desk(console), command)
    prints = given.whole.fingerprints()
    identity = content_key(recipe.model_dump(), prints, first.teacher.key, given.key)
    folder = RunFolder(out, identity, resume=resume)
    with _resumable(out):
        facts = environment(date=datetime.now(UTC).date().isoformat())
        folder.begin({"recipe": recipe.model_dump(), "data": prints, "environment": facts})
        if given.whole.stored:
            folder.keep(STORED, given.whole.stored)
        return _work(recipe, given, first, Desk(console, folder), command)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """From here on there is a folder: what breaks in can be gone on from."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("stopped between two checkpoints.") from error
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{out}: a file cannot be written or read ({reason}): make room or mend it, then go "
            "on with --resume."
        ) from error


def _work(recipe: Recipe, given: Given, first: Plan, desk: Desk, command: Sequence[str]) -> Result:
    desk.say(f"{recipe.name}  {recipe.about}".rstrip(), style="bold")
    taught = teach(first, given.whole, desk)
    if first.teacher.server is None:
        taught.notes.extend(told(unsuited(first, taught.model.observed), desk))
    made, choices = tune(recipe, given, first, taught, desk)
    students, baselines = learn(made, taught, desk)
    control = control_arm(made, taught, desk) if made.control else None
    smaller = compress(made, taught, students[0], desk) if made.compress else None
    arms = Arms(made, taught, baselines, students, control, smaller)
    figures = by_first(lambda: report(arms, choices, desk, command=shlex.join(command)))
    return Result(
        taught.model.observed,
        students[0].model,
        baselines[0].model if baselines else None,
        figures,
        desk.folder.path if desk.folder else None,
        all(gate["passed"] for gate in figures["gates"]),
    )


def tune(
    recipe: Recipe, given: Given, made: Plan, taught: Taught, desk: Desk
) -> tuple[Plan, list[Choice]]:
    """The plan with what was chosen on validation, and how."""
    choices: list[Choice] = []
    if recipe.tune is None:
        return made, choices
    seed = recipe.tune.seed
    for arm, candidates in recipe.tune.arms:
        if not candidates:
            continue

        def trial(values: dict[str, Any], arm: str = arm) -> float:
            changed = plan(tuned(recipe, arm, values), given)
            label = f"tune/{arm}-{content_key(values)[:8]}"
            if arm == "student":
                value = student_arm(changed, taught, seed, label, desk).validation
            else:
                value = baseline_arm(changed, taught.model.observed, seed, label, desk).validation
            words = ", ".join(f"{key}={value}" for key, value in values.items())
            found = shown(value, changed.splits.validation)
            desk.say(f"  tuning {arm}: {words}: {found} on validation")
            return value

        choice = choose(arm, candidates, trial)
        for failed in (t for t in choice.trials if t["validation"] is None):
            desk.say(f"  tuning {arm}: {failed['values']} failed: {failed['failed']}")
        choices.append(choice)
        best = plan(tuned(recipe, arm, choice.values), given)
        made = (
            replace(made, train=best.train, parts=best.parts)
            if arm == "student"
            else replace(made, baseline=best.baseline)
        )
    if desk.folder is not None:
        desk.folder.note("chosen", {choice.arm: dict(choice.values) for choice in choices})
    return made, choices


def learn(made: Plan, taught: Taught, desk: Desk) -> tuple[list[Trained], list[Trained]]:
    """All students and baselines, seed by seed."""
    students, baselines = [], []
    for seed in made.seeds:
        if made.baseline is not None:
            label, teacher = f"baseline-{seed}", taught.model.observed
            baselines.append(baseline_arm(made, teacher, seed, label, desk))
            found = shown(baselines[-1].validation, made.splits.validation)
            desk.say(f"baseline, seed {seed}: {found} on validation")
        student = student_arm(made, taught, seed, f"student-{seed}", desk)
        students.append(calibrated(student, made, desk) if made.calibrate else student)
        found = shown(students[-1].validation, made.splits.validation)
        desk.say(f"student,  seed {seed}: {found} on validation")
    return students, baselines


def student_arm(made: Plan, taught: Taught, seed: int, label: str, desk: Desk) -> Trained:
    """The student with its teacher, or its teacher's kept answers."""
    with answers(made, taught.model, desk) as teacher:
        return student_of(made, taught.model.observed, teacher, seed, label, desk)
