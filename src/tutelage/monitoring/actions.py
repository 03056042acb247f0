"""What was done after alarms: at most one rollback for one, each written down with its evidence."""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.core.errors import TutelageError
from tutelage.monitoring.policy import Decision, Evidence, Policy, decide

LOG = "actions.jsonl"
"""Its name in the traffic folder: a line an action, only ever appended to."""

_MOST = 20  # findings of a window that are written down


def act(
    policy: Policy,
    evidence: Evidence,
    log: Path,
    *,
    rollback: Callable[[str, str], str] | None = None,
    now: float | None = None,
) -> dict[str, Any]:
    """Decide, do it, and write it down; a second monitor waits for the first.

    A rollback is written down before it is tried, so that a monitor that dies in between does not
    try again. None follows where one was tried for this version, within the cool-down, or where a
    rollback brought this version back; then people are told, once.

    Args:
        policy: What to do when.
        evidence: What was seen.
        log: The file of actions.
        rollback: Takes the model's name and why, and says what answers now; it raises
            `TutelageError` where there is nothing older.
        now: Seconds since 1970; None is the clock's.

    Returns:
        What was done: ``do``, ``why``, ``result``.
    """
    decision = decide(policy, evidence)
    if decision.do == "nothing":
        return {"do": "nothing", "why": decision.why, "result": ""}
    now = time.time() if now is None else now
    log.parent.mkdir(parents=True, exist_ok=True)
    with _alone(log):
        done = read_actions(log)
        if decision.do == "rollback":
            why = (
                "no registry was given" if rollback is None else _held(policy, evidence, done, now)
            )
            if why:
                told = f"{decision.why}; no rollback: {why}"
                decision = Decision("notify", told, decision.causes)
        if decision.do == "notify" and _said(policy, evidence, decision, done, now):
            return {"do": "nothing", "why": decision.why, "result": "said before"}
        return _do(policy, evidence, decision, log, rollback, now)


def read_actions(log: Path) -> list[dict[str, Any]]:
    """All lines of a log that are whole, oldest first."""
    if not log.is_file():
        return []
    found = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that was being written when the power went
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _held(policy: Policy, evidence: Evidence, done: list[dict[str, Any]], now: float) -> str:
    """Why there is no rollback now; empty where there is one."""
    tries = [one for one in done if one.get("do") == "rollback"]
    tries = [one for one in tries if policy.dry_run or not one.get("dry_run")]
    if any(one.get("version") == evidence.version for one in tries):
        return "it was tried for this version before"
    brought = [str(one.get("result")) for one in done if one.get("do") == "rolled back"]
    if evidence.version in brought:
        return "a rollback brought this version back: people must look"
    recent = [one for one in tries if now - _number(one.get("time")) < policy.cool_down]
    return f"the cool-down of {policy.cool_down:g} s has not passed" if recent else ""


def _said(
    policy: Policy,
    evidence: Evidence,
    decision: Decision,
    done: list[dict[str, Any]],
    now: float,
) -> bool:
    """Whether all causes were told of for this version, within the cool-down."""
    told: set[str] = set()
    for one in done:
        lately = now - _number(one.get("time")) < policy.cool_down
        if lately and one.get("version") == evidence.version:
            told |= set(one.get("causes", ()))
    return told >= set(decision.causes)


def _do(
    policy: Policy,
    evidence: Evidence,
    decision: Decision,
    log: Path,
    rollback: Callable[[str, str], str] | None,
    now: float,
) -> dict[str, Any]:
    entry = {
        "time": now,
        "do": decision.do,
        "why": decision.why,
        "causes": list(decision.causes),
        "version": evidence.version,
        "policy": asdict(policy),
        "evidence": _seen(policy, evidence),
    }
    if decision.do != "rollback":
        _append(log, entry)
        return {"do": "notify", "why": decision.why, "result": "written to the log"}
    _append(log, {**entry, "dry_run": policy.dry_run})
    if policy.dry_run:
        return {"do": "rollback", "why": decision.why, "result": "dry run: nothing was changed"}
    assert rollback is not None
    after = {"time": now, "version": evidence.version, "causes": list(decision.causes)}
    try:
        result = rollback(policy.name, decision.why)
    except TutelageError as error:
        _append(log, {**after, "do": "failed", "result": str(error)})
        return {"do": "failed", "why": decision.why, "result": str(error)}
    _append(log, {**after, "do": "rolled back", "result": result})
    return {"do": "rolled back", "why": decision.why, "result": result}


def _seen(policy: Policy, evidence: Evidence) -> dict[str, Any]:
    def short(window: dict[str, Any]) -> dict[str, Any]:
        return {**window, "findings": window["findings"][:_MOST]}

    parts = {"now": evidence.series, "before": evidence.before}
    return {
        when: {
            name: [short(one.as_dict()) for one in windows[-policy.of :]]
            for name, windows in series.items()
        }
        for when, series in parts.items()
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _append(log: Path, entry: dict[str, Any]) -> None:
    text = json.dumps(entry, allow_nan=False) + "\n"
    if log.is_file() and not log.read_bytes().endswith(b"\n"):
        text = "\n" + text
    number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, text.encode())
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def _alone(log: Path) -> Iterator[None]:
    """One monitor at a time, where the system has such locks."""
    with log.with_name(f".{log.name}.lock").open("a") as file:
        try:
            from fcntl import LOCK_EX, flock
        except ImportError:  # Windows
            yield
            return
        flock(file, LOCK_EX)
        yield
