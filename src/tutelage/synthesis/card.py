"""What a data set is made of, for people and for programs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.synthesis.costs import Prices, row_of
from tutelage.synthesis.item import Item
from tutelage.synthesis.pipeline import Result


def facts_of(
    name: str,
    result: Result,
    prices: Prices,
    estimate: Mapping[str, Any],
    files: Mapping[str, Any],
) -> dict[str, Any]:
    """All that is known of a run, as plain data.

    Args:
        name: Of the data set.
        result: What the run came to.
        prices: Of the writer.
        estimate: What it was thought to cost.
        files: Rows and hashes by name.
    """
    total = sum((each.spent for each in result.stages), result.unfinished)
    return {
        "synthesis": 1,
        "name": name,
        "complete": not result.stopped,
        "stopped": result.stopped,
        "stages": [
            {
                "stage": each.stage,
                "came": each.came,
                "left": each.left,
                "dropped": dict(each.dropped),
                "spent": row_of(each.spent, prices),
                "report": dict(each.report),
            }
            for each in result.stages
        ],
        "dropped": dict(sorted(Counter(each.reason for each in result.dropped).items())),
        "writers": _writers(result.items),
        "licences": _licences(result.items),
        "estimate": dict(estimate),
        "spent": row_of(total, prices),
        "files": dict(files),
    }


def card(facts: Mapping[str, Any]) -> str:
    """``DATA_CARD.md``: the same for people."""
    spent, estimate = facts["spent"], facts["estimate"]
    parts = [
        f"# {facts['name']}\n",
        "Examples made by `tutelage synthesize`. `synthesis.json` holds all of this for programs, "
        "and each line of `items.jsonl` its whole history.\n",
    ]
    if not facts["complete"]:
        parts.append(f"**Not complete**: {facts['stopped']}.\n")
    stages = [
        [s["stage"], s["came"], s["left"], _reasons(s["dropped"]), s["spent"]["requests"]]
        for s in facts["stages"]
    ]
    parts += ["## Stages\n", _table(["stage", "in", "out", "dropped", "requests"], stages)]
    dropped = [[reason, count] for reason, count in facts["dropped"].items()]
    parts += ["## Dropped, and why\n", _table(["reason", "items"], dropped)]
    writers = [[w["writer"], w["model"], w["stage"], w["items"]] for w in facts["writers"]]
    parts += ["## Who wrote\n", _table(["writer", "model", "stage", "items"], writers)]
    licences = [[note or "not stated", stage, n] for stage, note, n in _flat(facts["licences"])]
    parts += ["## Licence notes\n", _table(["note", "stage", "items"], licences)]
    rows = [
        [key.replace("_", " "), estimate.get(key, ""), spent[key]]
        for key in ("requests", "failed", "tokens_read", "tokens_written", "money", "currency")
    ]
    parts += ["## Costs\n", _table(["", "estimated, at most", "counted"], rows)]
    if spent["reckoned"]:
        parts.append(
            f"Tokens of {spent['reckoned']} answers are reckoned from letters: the writer does not "
            "count them.\n"
        )
    parts += ["## Copies and contamination\n", _checks(facts["stages"])]
    files = [[name, each["rows"], each["sha256"]] for name, each in facts["files"].items()]
    parts += ["## Files\n", _table(["file", "rows", "SHA-256"], files)]
    return "\n".join(parts)


def _checks(stages: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for stage in stages:
        report = stage["report"]
        if {"exact", "near"} <= set(report):
            lines.append(
                f"- `{stage['stage']}` of {stage['came']} items: {report['exact']} exact copies, "
                f"{report['near']} near copies dropped."
            )
        for file in report.get("files", []):
            lines.append(
                f"- `{stage['stage']}`, {report['n']} words in a row, `{file['file']}`: "
                f"{file['items that hold some']} items held {file['examples that were held']} of "
                f"{file['examples']} examples and were dropped; "
                f"{file['too short for rows of words']} examples are too short and were compared "
                "as a whole."
            )
    if not any("files" in stage["report"] for stage in stages):
        lines.append("- Not checked against any evaluation file.")
    if not any("near" in stage["report"] for stage in stages):
        lines.append("- Not searched for copies.")
    return "\n".join(lines) + "\n"


def _writers(items: Sequence[Item]) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str, str]] = Counter()
    for item in items:
        counts.update({(s.writer, s.model, s.stage) for s in item.steps if s.writer})
    return [
        {"writer": writer, "model": model, "stage": stage, "items": count}
        for (writer, model, stage), count in sorted(counts.items())
    ]


def _licences(items: Sequence[Item]) -> list[dict[str, Any]]:
    counts: Counter[tuple[str, str]] = Counter()
    for item in items:
        own = {(s.stage, s.licence) for s in item.steps if s.writer or s.stage == "seeds"}
        counts.update(own)
    return [
        {"stage": stage, "licence": note, "items": count}
        for (stage, note), count in sorted(counts.items())
    ]


def _flat(licences: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    return [(each["stage"], each["licence"], each["items"]) for each in licences]


def _reasons(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in dropped.items())


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "None.\n"
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(map(_cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")
