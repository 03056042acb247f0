"""What attacks found, in plain sentences."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.part import Finding
from tutelage.evaluation.wording import listing, percent, points, span

_WEAK = {"noise": "random noise", "fgsm": "a single step"}
_STRONG = {"auto": "AutoAttack", "margin": "the same attack on the margin"}


def hidden(name: str, model: Mapping[str, Any], examples: int) -> str:
    """That a model hides its gradients, by which signs, and which figure to believe instead."""
    reasons = [_reason(sign) for sign in model["signs"]]
    return (
        f"The {name} hides its gradients (gradient masking), so its robustness is only apparent: "
        f"{listing(reasons)}. Do not believe the {percent(model['attacks']['pgd']['mean'])} that "
        f"the usual attack (PGD) leaves it; all attacks together leave "
        f"{percent(model['worst']['mean'])} of {examples} examples, and a better one may leave "
        "less."
    )


def trusted(figures: Mapping[str, Any]) -> str:
    """That nothing hints at hidden gradients."""
    auto = figures["models"]["student"]["auto"]
    without = "" if auto["left_out"] is None else " (AutoAttack was not run)"
    return (
        "Nothing hints that the student hides its gradients: strong attacks break at least as "
        f"much as weak ones, and without a bound hardly any answer stays right{without}."
    )


def versus_teacher(figures: Mapping[str, Any]) -> Finding:
    """Whether the student is less robust than its teacher."""
    change = figures["against"]["teacher"]
    more = f"({points(change['mean'])} points, {span(change)})"
    if change["high"] < -figures["tolerated"]:
        return Finding(
            "warning",
            f"The teacher's robustness against attacks did not come over to the student {more}: "
            "it is learned from attacked images, not from clean ones.",
        )
    if change["high"] < 0:
        return Finding("notice", f"The student is less robust than its teacher {more}.")
    return Finding("fine", f"The student is not shown to be less robust than its teacher {more}.")


def of_what(figures: Mapping[str, Any]) -> str:
    """How many answers survive the worst of all attacks, beside those of the student alone."""
    models, size = figures["models"], percent(figures["epsilon"])
    left = models["student"]["worst"]
    text = (
        f"Under the worst of all attacks that change each pixel by at most {size} of its range, "
        f"{percent(left['mean'])} of the student's answers stay right "
        f"({100 * left['low']:.0f} to {100 * left['high']:.0f}, {figures['examples']} examples)"
    )
    if "baseline" in figures["against"]:
        text += f"; the student alone keeps {percent(models['baseline']['worst']['mean'])}"
    if left["low"] < 0.05:
        text += ". Networks that never saw attacks in training keep next to nothing"
    return text + "."


def _reason(sign: Mapping[str, Any]) -> str:
    kind, attack, more = sign["kind"], sign["attack"], sign["more"]
    if kind == "flat":
        return f"its gradient is exactly 0 where PGD looks, on {more} of {sign['of']} examples"
    if kind == "unbounded":
        return f"{more} of {sign['of']} answers stay right even where any pixel may change at will"
    said = _WEAK.get(attack, attack) if kind == "weak" else _STRONG.get(attack, attack)
    verb = "break" if said.startswith("images") else "breaks"
    return f"{said} {verb} {more} examples that PGD does not"
