"""What the fairness figures of one way of grouping mean, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.evaluation.part import Finding
from tutelage.evaluation.wording import listing, points, span

GAPS = {
    "accuracy": "accuracy gap",
    "selection": "demographic parity difference",
    "odds": "equalised odds difference",
}
_URGENT = ("odds", "accuracy", "selection")


def told(name: str, one: Mapping[str, Any]) -> Finding:
    """One sentence or two on one way of grouping."""
    wider = [m for m in _URGENT if one["amplification"][m].get("teacher", {}).get("low", 0) > 0]
    if wider:
        return Finding("warning", _wider(name, one, wider))
    gaps = {m: one["gaps"][m]["student"] for m in _URGENT if "student" in one["gaps"][m]}
    if not gaps:
        return Finding("notice", f"By {name}, no two groups have enough examples to be compared.")
    uneven = [m for m, gap in gaps.items() if gap["low"] > 0]
    if not uneven:
        return Finding(
            "fine", f"By {name}, no difference between groups was found that chance does not make."
        )
    measure = uneven[0]
    said = (
        f"By {name}, the student treats groups unequally: {_what(gaps[measure]['where'])} differs "
        f"by {points(gaps[measure]['mean'], sign=False)} points between {_whom(gaps[measure])}"
    )
    if "teacher" not in one["gaps"][measure]:
        return Finding("notice", f"{said}; there is no teacher to compare with.")
    before = one["gaps"][measure]["teacher"]["mean"]
    change = one["amplification"][measure]["teacher"]
    verdict = (
        "less than its teacher does" if change["high"] < 0 else "not shown to be more than before"
    )
    return Finding("notice", f"{said} (its teacher: {points(before, sign=False)}; {verdict}).")


def _wider(name: str, one: Mapping[str, Any], wider: Sequence[str]) -> str:
    """What was amplified, between whom, and whether teaching is to blame."""
    first = wider[0]
    gap, before = one["gaps"][first]["student"], one["gaps"][first]["teacher"]
    change = one["amplification"][first]["teacher"]
    said = (
        f"By {name}, the student treats groups more unequally than its teacher: "
        f"{_what(gap['where'])} differs by {points(gap['mean'], sign=False)} points between "
        f"{_whom(gap)}; the teacher's {GAPS[first]} is "
        f"{points(before['mean'], sign=False)} (amplified by {points(change['mean'], sign=False)}, "
        f"range {span(change)})."
    )
    if len(wider) > 1:
        others = [
            f"{GAPS[m]} ({points(one['amplification'][m]['teacher']['mean'])})" for m in wider[1:]
        ]
        said += f" Wider too: {listing(others)}."
    return said + _blame(one, wider) + _seeds(one, first)


def _blame(one: Mapping[str, Any], wider: Sequence[str]) -> str:
    """What the control says: of the gaps that are wider, the first that differs from its own."""
    controls = {m: one["amplification"][m].get("baseline") for m in wider}
    known = {m: control for m, control in controls.items() if control is not None}
    if not known:
        return ""
    clear = [m for m, control in known.items() if control["low"] > 0 or control["high"] < 0]
    measure = clear[0] if clear else wider[0]
    alone = points(one["gaps"][measure]["baseline"]["mean"], sign=False)
    said = f" Without a teacher the same student's {GAPS[measure]} is {alone}"
    if not clear:
        return f"{said}: teaching was not shown to be the cause."
    adds = known[measure]["low"] > 0
    return f"{said}: the teaching {'adds to it' if adds else 'even narrows it'}."


def _seeds(one: Mapping[str, Any], measure: str) -> str:
    more = [gap for gap in one["seeds"][measure].get("student", []) if gap is not None]
    if not more:
        return ""
    above = sum(gap > one["gaps"][measure]["teacher"]["mean"] for gap in more)
    return f" Of {len(more)} students of other seeds, {above} have a wider gap than the teacher."


def _what(where: Mapping[str, Any]) -> str:
    """What differs, in words."""
    return {
        "accuracy": "how often it is right",
        "selection": f"how often it answers “{where['class']}”",
        "tpr": f"how often a true “{where['class']}” is recognised",
        "fpr": f"how often something else is taken for “{where['class']}”",
    }[where["kind"]]


def _whom(gap: Mapping[str, Any]) -> str:
    return f"“{gap['where']['more']}” (more) and “{gap['where']['less']}”"
