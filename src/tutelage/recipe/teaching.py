"""Getting the teacher: as it was given, kept from an earlier run, or trained now."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from safetensors import SafetensorError

from tutelage.core.seeds import derive
from tutelage.data import Splits
from tutelage.engine.machine import rank
from tutelage.models import Frozen
from tutelage.objectives import CrossEntropy
from tutelage.recipe.arms import Desk, Trained, train_arm
from tutelage.recipe.measures import measure, shown
from tutelage.recipe.plan import Plan, TeacherPlan
from tutelage.recipe.store import TeacherStore, content_key
from tutelage.recipe.together import everywhere
from tutelage.settings import Alone

_SURPRISE = 0.02
"""So much less accurate than expected a teacher may be without a word."""


@dataclass(frozen=True)
class Taught:
    """A teacher, ready.

    Attributes:
        model: The teacher.
        given: The same as it came, before it was fine-tuned here; None where it was trained
            here from the start.
        validation: Accuracy on validation data; NaN where it is behind a server.
        notes: What a reader of the report must know of it.
        trained: Its training, where that was part of this run.
    """

    model: Frozen
    given: Frozen | None
    validation: float
    notes: list[str]
    trained: Trained | None


def teach(made: Plan, whole: Splits, desk: Desk) -> Taught:
    """Get the teacher, measure it on validation data, and say where it falls short."""
    wanted, notes = made.teacher, list[str]()
    whole, given = wanted.own or whole, None
    if wanted.server is not None:
        desk.say(f"teacher {wanted.shown}: behind {wanted.server.url}")
        return Taught(Frozen(wanted.make(wanted.seed)), None, math.nan, notes, None)
    if wanted.given:
        given = Frozen(wanted.make(wanted.seed))
        found = measure(given.observed, whole.validation, made.train)
        desk.say(f"teacher {wanted.shown} as given: {shown(found, whole.validation)} on validation")
        notes += told(shortfall(wanted, found, "as given "), desk)
    if wanted.train is None:
        assert given is not None
        return Taught(given, given, found, notes, None)
    trained = _trained(made, whole, desk)
    if given is None:
        notes += told(shortfall(wanted, trained.validation, ""), desk)
    else:
        notes.append(
            "The teacher was fine-tuned on this data before it taught. It may have met the "
            "validation examples in its own earlier training: only its test figures count."
        )
    return Taught(Frozen(trained.model), given, trained.validation, notes, trained)


def shortfall(wanted: TeacherPlan, found: float, how: str) -> list[str]:
    """What to say of a teacher that is worse than it is known to be: a line, or none."""
    if wanted.expect is None or found >= wanted.expect - _SURPRISE:
        return []
    return [
        f"The teacher {how}is known for {wanted.expect:.1%} and reaches {found:.1%} on this data's "
        "validation examples: look at its intake (mean, std, size) and classes, and whether the "
        "data is what it was made for; or train it a little first (teacher.train)."
    ]


def kept_teacher(made: Plan, whole: Splits) -> Trained | None:
    """The recipe's teacher, if an earlier run has trained the same one."""
    wanted, whole = made.teacher, made.teacher.own or whole
    key = teacher_key(made, whole)
    model = wanted.make(wanted.seed)
    notes = TeacherStore().load(key, model.model)
    if not everywhere(notes is not None) or notes is None or wanted.train is None:
        return None
    value = measure(model.eval(), whole.validation, wanted.train)
    return Trained("teacher", model, value, int(notes["steps"]), float(notes["seconds"]))


def teacher_key(made: Plan, whole: Splits) -> str:
    """All that the trained teacher follows from."""
    wanted, whole = made.teacher, made.teacher.own or whole
    seen = [wanted.sees.fingerprint(), whole.validation.fingerprint()]
    return content_key(wanted.key, seen)


def told(lines: list[str], desk: Desk) -> list[str]:
    """Say each as a warning, and give them back for the report."""
    for line in lines:
        desk.say(f"warning: {line}", style="yellow")
    return lines


def _trained(made: Plan, whole: Splits, desk: Desk) -> Trained:
    wanted = made.teacher
    assert wanted.train is not None
    own = desk.folder is not None and desk.folder.finished("teacher") is not None
    kept = None if everywhere(own) else kept_teacher(made, whole)
    if kept is not None:
        found = shown(kept.validation, whole.validation)
        desk.say(
            f"teacher {wanted.shown}: kept from an earlier run, {found} on validation (trained in "
            f"{kept.seconds:.0f} s)"
        )
        return kept
    if not own:
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
    found = shown(trained.validation, whole.validation)
    desk.say(f"teacher: {found} on validation, {trained.seconds:.0f} s")
    if rank() == 0:
        _keep(trained, teacher_key(made, whole), desk)
    return trained


def _keep(trained: Trained, key: str, desk: Desk) -> None:
    notes = {
        "date": datetime.now(UTC).date().isoformat(),
        "steps": f"{trained.steps}",
        "seconds": f"{trained.seconds:.1f}",
    }
    store = TeacherStore()
    try:
        store.save(key, trained.model.model, notes)
    except (OSError, SafetensorError) as error:  # the run itself does not need it
        desk.say(
            f"warning: the teacher cannot be kept for later runs in {store.path(key).parent} "
            f"({' '.join(str(error).split())}).",
            style="yellow",
        )
