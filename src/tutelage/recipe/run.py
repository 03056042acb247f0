"""A whole run: teacher, tuning, baseline and students, report, export."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.core.errors import TutelageError
from tutelage.core.seeds import derive
from tutelage.data import Splits, labelled
from tutelage.engine.machine import rank
from tutelage.evaluation import environment
from tutelage.evaluation.gates import check_gates
from tutelage.models import Frozen, Observed, save_weights
from tutelage.objectives import CrossEntropy
from tutelage.recipe import reporting
from tutelage.recipe.arms import Desk, Trained, measure, train_arm
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.plan import Given, Plan, load_data, plan
from tutelage.recipe.reading import Data
from tutelage.recipe.sections import Recipe, recipe_from
from tutelage.recipe.store import TeacherStore, content_key
from tutelage.recipe.tuning import Choice, applied, check_candidates, choose
from tutelage.settings import Alone, Classic


@dataclass(frozen=True)
class Taught:
    """A teacher, ready.

    Attributes:
        model: The teacher.
        given: The same as it came, before it was fine-tuned here; None where it was not.
        validation: Accuracy on validation data.
        notes: What a reader of the report must know of it.
        trained: Its training, where that was part of this run.
    """

    model: Frozen
    given: Frozen | None
    validation: float
    notes: list[str]
    trained: Trained | None


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
    check_gates(recipe.gates)
    first = plan(recipe, given)
    check_tuning(recipe, given)
    prints = given.whole.fingerprints()
    folder = None
    if out is not None:
        identity = content_key(recipe.model_dump(), prints, first.teacher.key)
        folder = RunFolder(out, identity, resume=resume)
        facts = environment(date=_today())
        folder.begin({"recipe": recipe.model_dump(), "data": prints, "environment": facts})
    desk = Desk(console, folder)
    desk.say(f"[bold]{recipe.name}[/bold]  {recipe.about}".rstrip())
    taught = teach(first, given.whole, desk)
    final, choices = tune(recipe, given, taught, desk)
    return complete(final, taught, choices, desk, command=shlex.join(command))


def check_tuning(recipe: Recipe, given: Given) -> None:
    """Every candidate must make a good recipe, before the first of them is trained."""
    if recipe.tune is None:
        return
    for arm, candidates in (("student", recipe.tune.student), ("baseline", recipe.tune.baseline)):
        check_candidates(arm, candidates)
        for key, values in candidates.items():
            for value in values:
                try:
                    plan(_tuned(recipe, arm, {key: value}), given)
                except TutelageError as error:
                    raise type(error)(f"tune.{arm}.{key}: {value!r}: {error}") from error


def teach(made: Plan, whole: Splits, desk: Desk) -> Taught:
    """Get the teacher: as given, kept from an earlier run, or trained now."""
    wanted, notes = made.teacher, []
    model, given = wanted.make(wanted.seed), None
    if wanted.given:
        given = Frozen(wanted.make(wanted.seed))
        found = measure(given.observed, whole.validation, made.train)
        desk.say(f"teacher {wanted.shown} as given: {found:.2%} on validation")
        if wanted.expect is not None and found < wanted.expect - 0.02:
            notes.append(
                f"The teacher as given is known for {wanted.expect:.1%} and reaches {found:.1%} on "
                "this data's validation images: it was made for other data or another "
                "normalisation."
            )
            desk.say(f"[yellow]warning:[/yellow] {notes[-1]}")
    if wanted.train is None:
        value = measure(model, whole.validation, made.train)
        return Taught(Frozen(model), None, value, notes, None)
    trained = _trained_teacher(made, whole, desk)
    if given is not None:
        notes.append("The teacher was fine-tuned on this data before it taught.")
    return Taught(Frozen(trained.model), given, trained.validation, notes, trained)


def tune(recipe: Recipe, given: Given, taught: Taught, desk: Desk) -> tuple[Plan, list[Choice]]:
    """The plan with what was chosen on validation."""
    made, choices = plan(recipe, given), []
    if recipe.tune is None:
        return made, choices
    seed = recipe.tune.seed
    for arm, candidates in (("student", recipe.tune.student), ("baseline", recipe.tune.baseline)):
        if not candidates or (arm == "baseline" and recipe.baseline is None):
            continue

        def trial(values: dict[str, Any], arm: str = arm) -> float:
            changed = plan(_tuned(recipe, arm, values), given)
            label = f"tune/{arm}-{content_key(values)[:8]}"
            quiet = Desk(desk.console, desk.folder)
            if arm == "student":
                value = student_arm(changed, taught, seed, label, quiet).validation
            else:
                value = baseline_arm(changed, seed, label, quiet).validation
            words = ", ".join(f"{key}={value}" for key, value in values.items())
            desk.say(f"  tuning {arm}: {words}: {value:.2%} on validation")
            return value

        choice = choose(arm, candidates, trial)
        for failed in (t for t in choice.trials if t["validation"] is None):
            desk.say(f"  tuning {arm}: {failed['values']} failed: {failed['failed']}")
        choices.append(choice)
        tuned = plan(_tuned(recipe, arm, choice.values), given)
        made = (
            replace(made, train=tuned.train, objective=tuned.objective)
            if arm == "student"
            else replace(made, baseline=tuned.baseline)
        )
    return made, choices


def complete(
    made: Plan, taught: Taught, choices: Sequence[Choice], desk: Desk, *, command: str
) -> Result:
    """Train students and baselines, open the test set once, report and export."""
    students, baselines = [], []
    for seed in made.seeds:
        if made.baseline is not None:
            baselines.append(baseline_arm(made, seed, f"baseline-{seed}", desk))
            desk.say(f"baseline, seed {seed}: {baselines[-1].validation:.2%} on validation")
        students.append(student_arm(made, taught, seed, f"student-{seed}", desk))
        desk.say(f"student,  seed {seed}: {students[-1].validation:.2%} on validation")
    if desk.folder is not None and rank() == 0:
        save_weights(
            students[0].model.model,
            desk.folder.path / "student.safetensors",
            metadata={"recipe": made.name, "classes": "\n".join(made.splits.classes)},
        )
    report, passed = reporting.report(
        reporting.Arms(
            made,
            taught.model,
            taught.given,
            [a for a in (taught.trained,) if a],
            baselines,
            students,
        ),
        choices,
        taught.notes,
        desk,
        command=command,
    )
    return Result(
        taught.model.observed,
        students[0].model,
        baselines[0].model if baselines else None,
        report,
        desk.folder.path if desk.folder else None,
        passed,
    )


def student_arm(made: Plan, taught: Taught, seed: int, label: str, desk: Desk) -> Trained:
    """The student with its teacher."""
    return train_arm(
        label,
        lambda: made.student(seed),
        lambda learner: Classic(learner, taught.model, made.objective()),
        made.splits.train,
        train=made.train,
        seed=derive(seed, "run"),
        validation=made.splits.validation,
        desk=desk,
    )


def baseline_arm(made: Plan, seed: int, label: str, desk: Desk) -> Trained:
    """The same student, first weights and order of examples, from labels alone."""
    assert made.baseline is not None
    return train_arm(
        label,
        lambda: made.student(seed),
        lambda learner: Alone(learner, CrossEntropy()),
        labelled(made.splits.train),
        train=made.baseline,
        seed=derive(seed, "run"),
        validation=made.splits.validation,
        desk=desk,
    )


def _trained_teacher(made: Plan, whole: Splits, desk: Desk) -> Trained:
    wanted, store = made.teacher, TeacherStore()
    assert wanted.train is not None
    key = content_key(wanted.key, wanted.sees.fingerprint(), wanted.train.model_dump())
    model = wanted.make(wanted.seed)
    if notes := store.load(key, model.model):
        model.eval()
        value = measure(model, whole.validation, wanted.train)
        desk.say(
            f"teacher {wanted.shown}: kept from {notes['date']}, {value:.2%} on validation "
            f"(trained in {float(notes['seconds']):.0f} s)"
        )
        return Trained("teacher", model, value, int(notes["steps"]), float(notes["seconds"]))
    desk.say(f"teacher {wanted.shown}: training for {wanted.train.epochs} epochs")
    trained = train_arm(
        "teacher",
        lambda: wanted.make(wanted.seed),
        lambda learner: Alone(learner, CrossEntropy()),
        wanted.sees,
        train=wanted.train,
        seed=derive(wanted.seed, "teacher"),
        validation=whole.validation,
        desk=desk,
    )
    if rank() == 0:
        facts = {"date": _today(), "steps": trained.steps, "seconds": f"{trained.seconds:.1f}"}
        store.save(key, trained.model.model, {k: str(v) for k, v in facts.items()})
    desk.say(f"teacher: {trained.validation:.2%} on validation, {trained.seconds:.0f} s")
    return trained


def _tuned(recipe: Recipe, arm: str, values: Mapping[str, Any]) -> Recipe:
    plain = recipe.model_dump()
    if arm == "baseline":
        values = {key.replace("train.", "baseline.", 1): value for key, value in values.items()}
    return recipe_from(applied(plain, values))


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
