"""Calibration: is a model as sure as it is right, by more than chance, and does one number help?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.calibration.figures import (
    group_figures,
    model_figures,
    temperature_figures,
)
from tutelage.evaluation.calibration.measures import ece_difference
from tutelage.evaluation.calibration.plots import reliability_of
from tutelage.evaluation.calibration.tables import (
    error_table,
    group_tables,
    temperature_table,
)
from tutelage.evaluation.calibration.temperature import fit_temperature
from tutelage.evaluation.faces.blocks import Block, Picture, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.metrics import broken
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.roles import NAMES, sound_roles, sure_span
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import percent, points, span

_LIMITS = {
    "certain": "all but every validation example is answered rightly, so none is best",
    "lost": "its answers are no better than guesses",
    "flat": "it scores all classes alike",
}


@register("part", "calibration")
class Calibration(AbstractPart):
    """Whether confidence can be trusted: errors of calibration beside what chance would show.

    Guo et al., arXiv 1706.04599; Kumar et al., arXiv 1909.10155; Vaicenavicius et al.,
    arXiv 1902.06977.

    Args:
        bins: Of confidence.
        draws: How often chance is tried.
        strictness: A model, or a group, is called mis-calibrated where an honest one would show
            as much with a probability below this.
        tolerance: An error by less than this above chance, though real, is no warning.
    """

    title = "Calibration in full"
    gates: ClassVar[Mapping[str, Gate]] = {
        "overconfidence": Gate(
            "mean confidence above accuracy",
            True,
            in_part("calibration", "models", "student", "gap"),
            "points",
        ),
        "classwise_ece": Gate(
            "calibration error of every class's probability",
            True,
            in_part("calibration", "models", "student", "classwise_ece"),
            "%",
        ),
        "ece_above_teacher": Gate(
            "calibration error above the teacher's",
            True,
            in_part("calibration", "against", "teacher"),
            "points",
            needs=("teacher",),
        ),
    }

    def __init__(
        self,
        *,
        bins: int = 15,
        draws: int = 1000,
        strictness: float = 0.01,
        tolerance: float = 0.01,
    ):
        if not 2 <= bins <= 200:
            raise RecipeError(f"bins is {bins}: give 2 to 200.")
        if not 200 <= draws <= 100_000:
            raise RecipeError(f"draws is {draws}: give 200 to 100000.")
        if not 2 / draws <= strictness <= 0.5:
            raise RecipeError(
                f"strictness is {strictness:g}: give {2 / draws:g} to 0.5 (lower needs more draws)."
            )
        if not 0 <= tolerance < 1:
            raise RecipeError(f"tolerance is {tolerance:g}: give a share from 0, such as 0.01.")
        self.bins, self.draws = bins, draws
        self.strictness, self.tolerance = strictness, tolerance

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """By model; student against the others; by group."""
        usual: dict[str, Any] = {"bins": self.bins, "seed": subjects.seed, "level": subjects.level}
        drawn = {**usual, "draws": self.draws}
        sound = sound_roles(subjects)
        if "student" not in sound:
            raise DataError("the student's answers are NaN or infinite")
        answers = {role: subjects.answers(role) for role in sound}
        student = answers["student"]
        models = {}
        for role in sound:
            models[role] = model_figures(answers[role], **drawn)
            models[role]["temperature"] = self._temperature(subjects, role, drawn)
        return {
            "bins": self.bins,
            "examples": len(student),
            "strictness": self.strictness,
            "tolerance": self.tolerance,
            "fitted": None if subjects.validation is None else len(subjects.validation),
            "broken": [role for role in subjects.roles if role not in sound],
            "models": models,
            "against": {
                role: ece_difference(
                    student.logits, answers[role].logits, student.targets, **drawn
                ).as_dict()
                for role in sound
                if role != "student"
            },
            "groups": group_figures(
                student, subjects.groups, bins=self.bins, level=1 - self.strictness
            ),
        }

    def _temperature(
        self, subjects: Subjects, role: str, drawn: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        if subjects.validation is None or subjects.validation.targets is None:
            return None
        answers = subjects.answers(role, "validation")
        if bool(broken(answers.logits).any()):
            return None
        try:
            found = fit_temperature(answers.logits, answers.targets, level=subjects.level)
        except DataError:  # a true class that the model rules out: no temperature mends that
            return None
        return temperature_figures(subjects.answers(role), found, **drawn)

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Of the student, against chance, its teacher, its temperature and by group."""
        found = [_honest(figures), _helped(figures)]
        found += _against(figures)
        for name, rows in figures["groups"].items():
            clear = [row for row in rows if (row["differs"] or {}).get("clear")]
            if len(rows) == 2:  # of two, each is all others to the other one
                clear = sorted(clear, key=lambda row: -abs(row["gap"]))[:1]
            found += [_apart(name, row) for row in clear]
        order = ("warning", "notice", "fine")
        return sorted(filter(None, found), key=lambda one: order.index(one.status))

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """Diagrams, then all errors, then temperatures and groups."""
        return [
            Words(
                "On the diagonal, of the answers given with 80 % confidence 80 % are right. Below "
                "it a model is too sure of itself, above it too unsure. Upright strokes are 95 % "
                "intervals; the bars at the foot show where the examples lie."
            ),
            *(
                Picture(reliability_of(role, model), f"{NAMES[role].capitalize()}: {_told(model)}.")
                for role, model in figures["models"].items()
            ),
            error_table(figures),
            *temperature_table(figures),
            *group_tables(figures),
        ]


def _beyond(model: Mapping[str, Any], figures: Mapping[str, Any]) -> bool:
    return bool(model["chance"]["p"] <= figures["strictness"])


def _honest(figures: Mapping[str, Any]) -> Finding:
    model = figures["models"]["student"]
    gap, chance = model["gap"], model["chance"]
    error, expected = percent(model["ece"]), percent(chance["expected"])
    if not _beyond(model, figures):
        return Finding(
            "fine",
            f"The student's confidence can be trusted as far as {figures['examples']:,} test "
            f"examples can tell: its calibration error of {error} is what an honest model would "
            f"show by chance ({expected} on average).",
        )
    beyond = (
        f"its calibration error is {error}, and an honest model would show {expected} by chance "
        f"(p = {chance['p']:.2g})"
    )
    if gap["low"] > 0 or gap["high"] < 0:
        word = "too sure" if gap["mean"] > 0 else "too unsure"
        text = (
            f"The student is {word} of itself: it is {percent(model['confidence'])} sure on "
            f"average and {percent(model['accuracy'])} right, {points(gap['mean'])} points "
            f"({sure_span(gap)}); {beyond}."
        )
    else:
        text = (
            "The student's confidence is off, though right on average: too sure in some answers, "
            f"too unsure in others; {beyond}."
        )
    grave = model["ece"] - chance["expected"] > figures["tolerance"]
    return Finding("warning" if grave else "notice", text)


def _helped(figures: Mapping[str, Any]) -> Finding | None:
    found = figures["models"]["student"]["temperature"]
    if found is None:
        why = "there is no validation set to fit one on" if not figures["fitted"] else "none fits"
        return Finding("notice", f"Whether a temperature would help is not known: {why}.")
    if found["limit"]:
        return Finding(
            "notice",
            f"No temperature can be determined for the student: {_LIMITS[found['limit']]}.",
        )
    fitted = f"a temperature of {found['value']:.2f}, fitted on validation alone,"
    before, change = figures["models"]["student"], found["nll_change"]
    moved = f"calibration error {percent(before['ece'])} to {percent(found['ece'])} on test"
    if change is None or change["low"] <= 0 <= change["high"]:
        return Finding("fine", f"For the student {fitted} is not shown to help: {moved}.")
    if change["low"] > 0:
        return Finding(
            "notice", f"For the student {fitted} makes its probabilities worse: {moved}."
        )
    advice = " (calibrate: true in the recipe ships it)" if _beyond(before, figures) else ""
    return Finding("notice", f"For the student {fitted} helps: {moved}{advice}.")


def _against(figures: Mapping[str, Any]) -> list[Finding]:
    found, student = figures["against"].get("teacher"), figures["models"]["student"]
    if found is None or found["low"] <= 0 <= found["high"]:
        return []
    word = "less" if found["mean"] > 0 else "more"
    return [
        Finding(
            "notice" if found["mean"] > 0 else "fine",
            f"The student's confidence can be trusted {word} than its teacher's: calibration error "
            f"{percent(student['ece'])} against {percent(figures['models']['teacher']['ece'])}, "
            f"{points(found['mean'])} points ({sure_span(found)}).",
        )
    ]


def _apart(name: str, row: Mapping[str, Any]) -> Finding:
    word = "surer" if row["differs"]["mean"] > 0 else "less sure"
    return Finding(
        "warning",
        f"In the group {row['group']} ({name}) the student is {word} than it should be, compared "
        f"with all others: {percent(row['confidence'])} sure and {percent(row['accuracy'])} right "
        f"on {row['examples']:,} examples; the difference to the others is "
        f"{points(row['differs']['mean'])} points ({span(row['differs'])}, allowing for the "
        "number of groups).",
    )


def _told(model: Mapping[str, Any]) -> str:
    return (
        f"{percent(model['confidence'])} sure on average, {percent(model['accuracy'])} right, "
        f"calibration error {percent(model['ece'])}"
    )
