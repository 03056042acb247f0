"""``tutelage registry promote``: from typed words to a promotion, and what it prints."""

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from tutelage.cli.app import stop
from tutelage.cli.registry_shown import table
from tutelage.deployment.registry import Registry
from tutelage.recipe.arms import Desk
from tutelage.recipe.evaluating import gates_of
from tutelage.recipe.promoting import Promotion, promote


def work(
    name: str,
    number: int,
    alias: str,
    data: str | None,
    gates: list[str],
    without_gates: str | None,
    *,
    where: str | None,
    as_json: bool,
) -> None:
    """Do what was typed; exit status 1 where the gates did not let it pass."""
    asked = gates_of(gates)
    with Registry.at(where) as opened:
        done = promote(
            opened,
            name,
            number,
            alias=alias,
            data=data,
            gates=asked,
            without_gates=without_gates,
            desk=Desk(Console(stderr=as_json, quiet=as_json)),
        )
    if as_json:
        print(json.dumps(_plain(done, alias), indent=1, ensure_ascii=False))
    elif done.evidence is not None and "figures" in done.evidence:
        print(_told(done.evidence))
    if not done.passed:
        assert done.evidence is not None
        stop(f"{done.version.words} is not promoted: {_failed(done.evidence)}.", 1)
    if not as_json:
        before = "none" if done.before is None else str(done.before.number)
        print(f"{alias} of {name}: {before} -> {number}{_ground(done)}.")


def _plain(done: Promotion, alias: str) -> dict[str, Any]:
    return {
        "name": done.version.name,
        "alias": alias,
        "number": done.version.number,
        "before": None if done.before is None else done.before.number,
        "promoted": done.passed,
        "evidence": done.evidence,
    }


def _ground(done: Promotion) -> str:
    if done.evidence is None:
        return ", without gates"
    if done.before is None:
        gates = ", ".join(gate["name"] for gate in done.evidence["gates"])
        return f": nobody was there to be compared with, and its own run passed {gates}"
    return f": all {len(done.evidence['gates'])} gates passed"


def _failed(evidence: Mapping[str, Any]) -> str:
    failed = [gate for gate in evidence["gates"] if not gate["passed"]]
    if not failed:
        return f"{evidence['notes'][0]}; give its recipe gates, or say --without-gates WHY"
    return "gate failed: " + "; ".join(
        f"{gate['name']} is {_number(gate['value'])} ({gate['rule']} {gate['threshold']:g})"
        + (f": {gate['evidence']}" if "evidence" in gate else ", in its own run")
        for gate in failed
    )


def _told(evidence: Mapping[str, Any]) -> str:
    figures, data = evidence["figures"], evidence["data"]
    rows = [
        ["accuracy", *(_percent(v) for v in figures["accuracy"].values()), _change(figures)],
        ["right before, wrong now", "", _percent_of(figures["negative_flips"]), ""],
        ["wrong before, right now", "", _percent_of(figures["positive_flips"]), ""],
        ["p50", *(f"{v:.3g} ms" for v in figures["p50_ms"].values()), _times(figures, "latency")],
        ["file", *(f"{v:,} bytes" for v in figures["bytes"].values()), _times(figures, "size")],
    ]
    head = [f"{data['examples']:,} examples of {data['name']}", "production", "candidate", "change"]
    gates = [
        f"gate {gate['name']}: {'passed' if gate['passed'] else 'failed'}: {gate['meaning']} is "
        f"{_number(gate['value'])} ({gate['rule']} {gate['threshold']:g}); {gate['evidence']}."
        for gate in evidence["gates"]
    ]
    notes = [f"note: {note}." for note in evidence["notes"]]
    return "\n".join([table(head, rows), *gates, *notes])


def _change(figures: Mapping[str, Any]) -> str:
    found = figures["accuracy_change"]
    if found is None:
        return ""
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    return f"{mean:+.2f} points ({low:+.2f} to {high:+.2f})"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.2f} %"


def _percent_of(found: Any) -> str:
    if not isinstance(found, Mapping):
        return _percent(found)
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{_percent(found['mean'])} ({low:.2f} to {high:.2f})"


def _times(figures: Mapping[str, Any], what: str) -> str:
    return f"x {figures[f'{what}_ratio']:.2f}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value or 0.0:.4g}"  # never -0
