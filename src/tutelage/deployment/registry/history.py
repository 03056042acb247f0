"""The history of a name: intents are written before an alias moves, and held against what is.

An event is written first, and the alias moves after it. Whoever is stopped in between leaves an
event that never took effect; the next event, or the alias itself, tells: it still starts from
where the stopped one started.
"""

import getpass
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tutelage.deployment.registry.version import Event, Kind

PREFIX = "tutelage.event."
_MOST = 1000  # characters of a reason: MLflow keeps 5,000 of a tag


def event(
    kind: Kind,
    alias: str,
    before: int | None,
    after: int | None,
    *,
    later_than: str = "",
    why: str = "",
    evidence: str | None = None,
    data: str | None = None,
) -> Event:
    """Something that is about to happen, now.

    Args:
        kind: What.
        alias: To which alias.
        before: Where it points to.
        after: Where it will point to.
        later_than: Key of the newest event: clocks may go back, histories do not.
        why: In words; at most 1,000 characters are kept.
        evidence: Digest of the evidence.
        data: Fingerprint of the examples that decided.
    """
    now = time.time_ns()
    key = f"{max(now, int(later_than or 0) + 1):020d}"
    when = datetime.fromtimestamp(now / 1e9, UTC).isoformat(timespec="milliseconds")
    words = " ".join(why.split())[:_MOST]
    return Event(key, when, _who(), kind, alias, before, after, words, evidence, data)


def as_tag(made: Event) -> tuple[str, str]:
    """Key and value of the tag that keeps an event."""
    kept = {k: v for k, v in vars(made).items() if k not in ("key", "done")}
    return PREFIX + made.key, json.dumps(kept, ensure_ascii=False)


def of_tags(tags: Mapping[str, str]) -> list[Event]:
    """The events among a model's tags, oldest first; what another tool wrote there is left out."""
    found = []
    for key in sorted(tags):
        if not key.startswith(PREFIX) or not key.removeprefix(PREFIX).isdecimal():
            continue
        try:
            found.append(Event(key=key.removeprefix(PREFIX), **json.loads(tags[key])))
        except (ValueError, TypeError):
            continue
    return found


def told(events: Sequence[Event], aliases: Mapping[str, int]) -> list[Event]:
    """The same events, each with whether it took effect, and those of other tools between them.

    Args:
        events: Oldest first.
        aliases: Where each alias points to now.

    Example:
        >>> stopped = Event("1", "", "", "promote", "production", None, 2)
        >>> [each.done for each in told([stopped], {})]
        [False]
    """
    found: list[Event] = []
    for alias in {each.alias for each in events}:
        found += _of_alias([each for each in events if each.alias == alias], aliases.get(alias))
    return sorted(found, key=lambda each: each.key)


def _of_alias(events: Sequence[Event], now: int | None) -> list[Event]:
    found: list[Event] = []
    moves = [each for each in events if each.kind != "refuse"]
    found += [replace(each, done=False) for each in events if each.kind == "refuse"]
    if moves and moves[0].before is not None:
        first = f"{int(moves[0].key) - 1:020d}"
        found.append(_outside(first, moves[0], None, moves[0].before))
    for place, move in enumerate(moves):
        then = moves[place + 1].before if place + 1 < len(moves) else now
        done = then != move.before
        found.append(replace(move, done=done))
        if done and then != move.after:
            found.append(_outside(f"{move.key}+", move, move.after, then))
    return found


def _outside(key: str, near: Event, before: int | None, after: int | None) -> Event:
    """What another tool did beside an event of ours."""
    why = "moved by another tool than tutelage"
    return Event(key, near.when, "", "outside", near.alias, before, after, why)


def standing(events: Iterable[Event], alias: str) -> list[int]:
    """The versions an alias stood at, without those that were rolled back; the last is today's.

    Args:
        events: As `told` returns them.
        alias: Which one.

    Example:
        >>> moves = [("promote", None, 1), ("promote", 1, 2), ("rollback", 2, 1)]
        >>> events = [Event(str(i), "", "", k, "a", b, c) for i, (k, b, c) in enumerate(moves)]
        >>> standing(events, "a")
        [1]
    """
    found: list[int] = []
    for each in events:
        if each.alias != alias or not each.done or each.after is None:
            continue
        if each.kind == "rollback" and each.after in found[:-1]:
            found.pop()
            while found[-1] != each.after:
                found.pop()
        else:
            found.append(each.after)
    return found


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user in this container
        return "unknown"
