"""What ``calibrate: true`` does: a temperature from validation that ships with the student."""

from dataclasses import asdict, replace
from typing import Any

from tutelage.evaluation import predict
from tutelage.evaluation.calibration.temperature import Temperature, fit_temperature
from tutelage.models import Observed, tempered
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.plan import Plan
from tutelage.recipe.together import by_first

_WHY = {
    "certain": "nearly all of its answers are right",
    "lost": "its answers are no better than guesses",
    "flat": "it scores all classes alike",
}


def calibrated(trained: Trained, made: Plan, desk: Desk) -> Trained:
    """The same network with its logits divided by a temperature that is fitted on validation.

    A run that is resumed takes the temperature that was found before. Where the validation
    examples cannot determine one, the logits stay as they are.
    """
    model = trained.model.cpu().float().eval()
    found = Temperature(**by_first(lambda: _fitted(trained.label, model, made, desk)))
    if found.limit == "":
        desk.say(f"{trained.label}: temperature {found.value:.3g}, fitted on validation")
        model = tempered(model, found.value)
    return replace(trained, model=model, temperature=found)


def told(found: Temperature | None) -> list[str]:
    """What a reader of the report must know of it."""
    if found is None:
        return []
    where = f"{found.examples:,} validation examples"
    if found.limit:
        why = _WHY[found.limit]
        return [
            f"The student ships uncalibrated: its {where} cannot determine a temperature ({why})."
        ]
    return [
        f"The student's logits are divided by a temperature of {found.value:.3g} (95 % interval "
        f"{found.low:.3g} to {found.high:.3g}), which was fitted on {where} and ships with it: "
        "its answers are the same as without, how sure it is of them is not, and every figure of "
        "this report is that of the divided logits."
    ]


def _fitted(label: str, model: Observed, made: Plan, desk: Desk) -> dict[str, Any]:
    stage, folder = f"{label}/temperature", desk.folder
    facts = None if folder is None else folder.finished(stage)
    if facts is not None:
        return facts
    answers = predict(model, made.splits.validation)
    facts = asdict(fit_temperature(answers.logits, answers.targets))
    if folder is not None:
        folder.finish(stage, facts)
    return facts
