"""All networks of a run, and what there is to say of how they came about."""

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.data import Examples
from tutelage.evaluation import accuracy, predict
from tutelage.models import Observed
from tutelage.recipe.arms import Trained
from tutelage.recipe.compressing.sweep import Compressed
from tutelage.recipe.plan import Plan
from tutelage.recipe.teaching import Taught
from tutelage.recipe.tuning import Choice


@dataclass(frozen=True)
class Arms:
    """All networks of a run, and the plan they were made by."""

    plan: Plan
    taught: Taught
    baselines: Sequence[Trained]
    students: Sequence[Trained]
    control: Trained | None = None
    compressed: Compressed | None = None

    @property
    def shown(self) -> list[Trained]:
        """The trainings whose curves are shown: the first seed's stand for all."""
        teacher = [self.taught.trained] if self.taught.trained else []
        return [*teacher, *self.baselines[:1], *self.students[:1]]

    @property
    def shipped(self) -> dict[str, Observed]:
        """Teacher, student and baseline of the first seed, in eval mode on the CPU."""
        found = {"teacher": self.taught.model.observed, "student": self.students[0].model}
        if self.baselines:
            found["baseline"] = self.baselines[0].model
        return {role: model.cpu().float().eval() for role, model in found.items()}


def tried(arms: Arms) -> dict[str, Observed]:
    """All models that the proof looks at: those that are shown, and the control."""
    if arms.control is None:
        return arms.shipped
    return {**arms.shipped, "control": arms.control.model.cpu().float().eval()}


def given(arms: Arms, test: Examples) -> list[str]:
    """How good the teacher was before it was trained further."""
    if arms.taught.given is None:
        return []
    answers = predict(arms.taught.given.cpu(), test)
    found, expect = accuracy(answers.logits, answers.targets), arms.plan.teacher.expect
    known = "" if expect is None else f"; it is known for {expect:.1%}"
    return [f"The teacher as it was given reaches {found:.1%} on the test examples{known}."]


def tuned(choice: Choice) -> str:
    """What was chosen on validation, and among how many."""
    values = ", ".join(f"{key} = {value}" for key, value in choice.values.items())
    failed = "".join(
        f" {trial['values']} was left out because it failed: {trial['failed']}"
        for trial in choice.trials
        if trial["validation"] is None
    )
    trials = f"Tuned on validation, {len(choice.trials)} trials"
    return f"{trials}: the {choice.arm}'s {values}.{failed}"


def training(arms: Arms) -> dict[str, dict[str, float]]:
    """Seconds and steps of each arm, all its seeds together."""
    teacher = [arms.taught.trained] if arms.taught.trained else []
    control = [arms.control] if arms.control else []
    stages = {
        "teacher": teacher,
        "baseline": arms.baselines,
        "student": arms.students,
        "control": control,
    }
    return {
        arm: {
            "seconds": sum(trained.seconds for trained in stage),
            "steps": sum(trained.steps for trained in stage),
            "runs": len(stage),
        }
        for arm, stage in stages.items()
        if stage
    }


def times(arms: Arms) -> list[str]:
    """How long each stage took."""
    plural = {"baseline": "baselines", "student": "students"}
    told = [
        f"{plural.get(arm, arm)} {facts['seconds']:.0f} s" for arm, facts in training(arms).items()
    ]
    return [f"Training time on this machine: {', '.join(told)}."]
