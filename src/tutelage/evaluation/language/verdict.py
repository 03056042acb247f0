"""A language report in plain words: gained, lost, may it be shipped."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.wording import gate_value, percent, size, times

_ENOUGH_SEEDS = 3  # fewer cannot tell teaching from the luck of training


def verdict(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures say.

    Args:
        report: Figures with ``models``, ``comparison``, ``data`` and ``gates``.

    Returns:
        ``status`` (``yes``, ``no``, ``open``), ``headline``, and lists of sentences ``gained``,
        ``lost`` and ``ship``.
    """
    failed = [gate for gate in report["gates"] if not gate["passed"]]
    status = "no" if failed else "yes" if report["gates"] else "open"
    return {
        "status": status,
        "headline": _headline(report["models"], report["comparison"]["gain"]),
        "gained": [*_gain(report["comparison"]["gain"]), *_savings(report["models"])],
        "lost": _losses(report),
        "ship": _shipping(report, failed),
    }


def _headline(models: Mapping[str, Any], gain: Mapping[str, Any] | None) -> str:
    teacher, student = models["teacher"], models["student"]
    smaller = 1.0 if teacher is None else teacher["parameters"] / max(student["parameters"], 1)
    who = f"A student {times(smaller)}× smaller" if smaller > 1.05 else "The student"
    told = f"{who} has a perplexity of {student['perplexity']:.2f}"
    if teacher is not None:
        told += f", its teacher {teacher['perplexity']:.2f}"
    if gain is None:
        return told + "."
    if gain["low"] <= 0 <= gain["high"]:
        return f"{told}; the teacher was not shown to help."
    change, helped = f"{abs(gain['mean']):.3f} nats a token", gain["low"] > 0
    if gain["seeds"] < _ENOUGH_SEEDS:  # luck of training is not ruled out
        return f"{told}; {change} {'ahead of' if helped else 'behind'} itself alone."
    return f"{told}; the teacher {'saved' if helped else 'cost'} it {change}."


def _gain(gain: Mapping[str, Any] | None) -> list[str]:
    if gain is None:
        return [
            "Whether the teacher helped is not known: the same student was not trained without it."
        ]
    ends = f"{gain['low']:+.4f} to {gain['high']:+.4f}".replace("-", "−")
    seeds = gain["seeds"]
    over = f"over {seeds} seeds" if seeds > 1 else "for one seed"
    told = f"Against itself alone it gained {gain['mean']:+.4f} nats a token {over} ({ends})."
    few = "" if seeds >= _ENOUGH_SEEDS else " Fewer than three seeds: luck is not ruled out."
    return [told.replace("-", "−") + few]


def _savings(models: Mapping[str, Any]) -> list[str]:
    teacher, student = models["teacher"], models["student"]
    if teacher is None:
        return []
    faster = teacher["latency_ms"]["p50"] / max(student["latency_ms"]["p50"], 1e-9)
    told = (
        f"Its weights take {size(student['bytes'])} where the teacher's take "
        f"{size(teacher['bytes'])}, and it reads a row of text {times(faster)} times as fast"
    )
    ours, theirs = (_written(each) for each in (student, teacher))
    if ours and theirs:
        told += f"; it writes {ours:,.0f} tokens a second, {times(ours / theirs)} times as many"
    return [f"{told}."]


def _written(model: Mapping[str, Any]) -> float | None:
    """Tokens a second that a model writes, where that was measured."""
    found: float | None = (model.get("writing") or {}).get("tokens_per_second")
    return found


def _losses(report: Mapping[str, Any]) -> list[str]:
    comparison, absent = report["comparison"], report.get("absent")
    if absent is not None:
        return [absent["why"]]
    if report["models"]["teacher"] is None:
        return ["What was lost is not known: there is no teacher to compare with."]
    change = comparison["nll_change"]
    found = [
        f"{change['mean']:+.4f} nats a token against the teacher ({change['low']:+.4f} to "
        f"{change['high']:+.4f}).".replace("-", "−"),
        f"{percent(comparison['negative_flip_rate'])} of the tokens that the teacher foresaw it "
        "does not.",
    ]
    if comparison["agreement"] is not None:
        control = comparison["control"]
        without = "" if control is None else f" (alone: {percent(control['agreement'])})"
        found.append(
            f"It holds the same token for the likeliest in {percent(comparison['agreement'])} of "
            f"the places{without}; its distributions are {comparison['predictive_kl']:.3f} nats "
            "from the teacher's."
        )
    return found


def _shipping(report: Mapping[str, Any], failed: list[Any]) -> list[str]:
    if failed:
        return [
            f"No: {gate['name']} is {gate_value(gate, 'value')}, and {gate['rule']} "
            f"{gate_value(gate, 'threshold')} was asked."
            for gate in failed
        ]
    if not report["gates"]:
        return ["No condition was set: write gates into the recipe, such as perplexity_ratio: 1.2."]
    return ["Yes: every condition is met."]
