"""What follows from an alarm: who is told, and when a version is rolled back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.core.errors import RecipeError, suggest
from tutelage.monitoring.judge import Looked, sustained

CAUSES = ("inputs", "predictions", "disagreement", "accuracy")
_KEYS = ("on", "after", "do", "name", "cool_down", "dry_run", "began")
_AFTER = re.compile(r"(\d+)(?: of (\d+)| consecutive)?(?: windows?)?")
_UNITS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_LASTING = re.compile(r"(\d+(?:\.\d+)?) ?(seconds?|minutes?|hours?|days?)?")


@dataclass(frozen=True)
class Policy:
    """When something is done, and what.

    Attributes:
        on: Causes that count.
        needed: Of the newest ``of`` windows, how many must raise an alarm of one cause.
        of: Windows that are looked at.
        do: ``notify`` or ``rollback``.
        name: Of the model in the registry; needed for a rollback.
        cool_down: Seconds after an action in which no other is taken.
        dry_run: Whether a rollback is only written down.
        began: ``with version`` rolls back only what began with the version in production;
            ``whenever`` rolls back on any cause that counts, drift of inputs included.
    """

    on: tuple[str, ...] = ("predictions", "disagreement", "accuracy")
    needed: int = 2
    of: int = 2
    do: str = "notify"
    name: str = ""
    cool_down: float = 3600.0
    dry_run: bool = False
    began: str = "with version"


@dataclass(frozen=True)
class Evidence:
    """What is known of the version in production, and of the one before it.

    Attributes:
        version: What answers now.
        series: By what was asked (traffic, labels, teacher, shadow): its windows, oldest first.
        before: The same of the older version that answered last before this one.
        older: That version; empty where the log has none.
    """

    version: str
    series: Mapping[str, Sequence[Looked]]
    before: Mapping[str, Sequence[Looked]] = field(default_factory=dict)
    older: str = ""


@dataclass(frozen=True)
class Decision:
    """What is to be done: ``nothing``, ``notify`` or ``rollback``, and why, in a sentence."""

    do: str
    why: str
    causes: tuple[str, ...] = ()


def policy_of(written: Any) -> Policy:
    """A policy from plain data: ``{policy: {on: [...], after: ..., do: ..., name: ...}}``.

    Raises:
        RecipeError: One line naming the key.

    Example:
        >>> policy_of({"policy": {"after": "2 of 3 windows", "cool_down": "2 hours"}}).of
        3
    """
    found = written.get("policy") if isinstance(written, Mapping) else None
    if not isinstance(found, Mapping) or len(written) != 1:
        raise RecipeError("--policy: the file must hold one mapping, policy: {on: ..., do: ...}.")
    for key in found:
        if key not in _KEYS:
            raise RecipeError(f"policy.{key} is not known. {suggest(str(key), _KEYS)}")
    needed, of = _after(found.get("after", 2))
    made = Policy(
        _causes(found.get("on", list(Policy.on))),
        needed,
        of,
        str(found.get("do", "notify")),
        str(found.get("name", "")),
        _seconds(found.get("cool_down", 3600)),
        found.get("dry_run", False),
        str(found.get("began", "with version")),
    )
    if made.do not in ("notify", "rollback"):
        raise RecipeError(f"policy.do: got {made.do!r:.60}: write notify or rollback.")
    if made.do == "rollback" and not made.name:
        raise RecipeError("policy.name: the model's name in the registry is needed for a rollback.")
    if made.began not in ("with version", "whenever"):
        raise RecipeError(f"policy.began: got {made.began!r:.60}: write with version or whenever.")
    if not isinstance(made.dry_run, bool):
        raise RecipeError(f"policy.dry_run: got {made.dry_run!r:.60}: write true or false.")
    return made


def _causes(found: Any) -> tuple[str, ...]:
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not listed:
        raise RecipeError(f"policy.on: got {found!r:.60}: list some of {', '.join(CAUSES)}.")
    for cause in listed:
        if cause not in CAUSES:
            raise RecipeError(f"policy.on: got {cause!r:.60}. {suggest(str(cause), CAUSES)}")
    return tuple(listed)


def _after(found: Any) -> tuple[int, int]:
    match = None if isinstance(found, bool) else _AFTER.fullmatch(str(found))
    needed, of = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= needed <= of <= 40:
        raise RecipeError(
            f"policy.after: got {found!r:.60}: write '2 consecutive windows' or '2 of 3 windows'."
        )
    return needed, of


def _seconds(found: Any) -> float:
    match = None if isinstance(found, bool) else _LASTING.fullmatch(str(found))
    if not match:
        raise RecipeError(f"policy.cool_down: got {found!r:.60}: write 3600 or '1 hour'.")
    unit = (match[2] or "seconds").rstrip("s") + "s"
    return float(match[1]) * _UNITS[unit]


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """What the evidence asks for; what was done before is not looked at here (see `actions`).

    A version is rolled back only where its own answers went wrong: labels, a teacher or a shadow
    model contradict it, or its predictions drift while its inputs do not; and only where the
    version before it did not show the same, over the windows right before the swap. The older
    version sees the same inputs: going back to it does not help against these.
    """
    lasting = _lasting(policy, evidence.series)
    causes = tuple(cause for cause in policy.on if cause in lasting)
    if not causes:
        return Decision("nothing", "no alarm lasted long enough")
    told = f"alarm of {', '.join(causes)} in {policy.needed} of the last {policy.of} windows"
    if policy.do == "notify":
        return Decision("notify", told, causes)
    if policy.began == "whenever":
        return Decision("rollback", told, causes)
    grounds = [cause for cause in causes if cause != "inputs"]
    if "inputs" in _ever(policy, evidence.series):
        grounds = [cause for cause in grounds if cause != "predictions"]
    if not grounds:
        why = "the inputs drift, and an older version sees the same inputs"
        return Decision("notify", f"{told}; no rollback: {why}", causes)
    why = _not_begun(policy, evidence, grounds)
    if why:
        return Decision("notify", f"{told}; no rollback: {why}", causes)
    return Decision(
        "rollback",
        f"{told}; it began with version {evidence.version[:12]}: the windows of "
        f"{evidence.older[:12]} before the swap raise no such alarm",
        tuple(grounds),
    )


def _lasting(policy: Policy, series: Mapping[str, Sequence[Looked]]) -> set[str]:
    return {
        cause
        for cause in CAUSES
        for windows in series.values()
        if sustained(windows, cause, policy.needed, policy.of)
    }


def _ever(policy: Policy, series: Mapping[str, Sequence[Looked]]) -> set[str]:
    """Causes with any alarm in the windows that are looked at."""
    return {c for windows in series.values() for one in windows[-policy.of :] for c in one.causes}


def _not_begun(policy: Policy, evidence: Evidence, grounds: list[str]) -> str:
    """Why it is not shown that this began with the version; empty where it is."""
    if not evidence.older:
        return "the log has no traffic of an older version to compare with"
    before = _ever(policy, evidence.before)
    known = {
        finding.cause
        for windows in evidence.before.values()
        for one in windows[-policy.of :]
        for finding in one.findings
    }
    if not known:
        return f"too little traffic of version {evidence.older[:12]} to compare with"
    for cause in grounds:
        if cause in before:
            return f"{cause} drifted before this version came"
        if cause not in known and cause != "predictions":
            return f"nothing tells of {cause} before this version came"
    if grounds == ["predictions"] and "inputs" in before:
        return "the inputs drifted before this version came"
    return ""
