"""A language report as a page, as Markdown and in a terminal: the same blocks everywhere."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table, Words, as_html, as_markdown
from tutelage.evaluation.faces.tables import prose
from tutelage.evaluation.wording import (
    ROLES,
    gate_value,
    large,
    milliseconds,
    percent,
    points,
    size,
    span,
)

_STATUS = {
    "yes": "Meets its conditions",
    "no": "Do not ship",
    "open": "No conditions set",
}


def page(report: Mapping[str, Any]) -> str:
    """The whole page: styles inside, no scripts, nothing loaded."""
    style = files("tutelage.evaluation.faces").joinpath("page.css").read_text(encoding="utf-8")
    told, title = report["verdict"], f"Distillation report: {_name(report)}"
    body = "".join(
        f"<section><h2>{escape(head)}</h2>{as_html(blocks)}</section>"
        for head, blocks in sections(report).items()
    )
    over = f"Distillation report · {_name(report)} · {report['data']['name']}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><p class="over">{escape(over)}</p><h1>{prose(told["headline"])}</h1>'
        f'<span class="badge {told["status"]}">{_STATUS[told["status"]]}</span></header>\n'
        f"<main>\n{body}\n</main>\n"
        '<footer class="faint">Made by tutelage from report.json, which holds every figure '
        "of this page.</footer>\n</body>\n</html>\n"
    )


def markdown(report: Mapping[str, Any]) -> str:
    """The whole report as Markdown."""
    parts = [f"## {report['verdict']['headline']}"]
    for head, blocks in sections(report).items():
        parts += [f"### {head}", as_markdown(blocks)]
    return "\n\n".join(parts) + "\n"


def terminal(report: Mapping[str, Any]) -> str:
    """A table and the verdict, as lines."""
    lines = _lines(models(report["models"]))
    for block in tasks(report.get("tasks", [])):
        lines += ["", *(_lines(block) if isinstance(block, Table) else [block.text])]
    told = report["verdict"]
    return "\n".join([*lines, "", told["headline"], *told["gained"], *told["lost"], *told["ship"]])


def _lines(table: Table) -> list[str]:
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (table.head, *table.rows)
    ]


def sections(report: Mapping[str, Any]) -> dict[str, list[Block]]:
    """What is shown, by heading, in order; what there is nothing of is left out."""
    told = report["verdict"]
    found: dict[str, list[Block]] = {
        "What you gained": _words(told["gained"]),
        "What was lost": _words(told["lost"]),
        "May you ship it?": [*_words(told["ship"]), *_gates(report["gates"])],
        "The models side by side": [models(report["models"]), *speed(report)],
        "Tasks": [*tasks(report.get("tasks", []))],
        "Every seed": _seeds(report["comparison"]["seeds"]),
        **{head: _part(part) for head, part in report["parts"].items()},
        "Notes": _words(report["notes"]),
        "To make it again": _words([report["command"]] if report["command"] else []),
    }
    return {head: blocks for head, blocks in found.items() if blocks}


def models(arms: Mapping[str, Any]) -> Table:
    """The models as columns."""
    roles = [role for role in ("teacher", "student", "baseline") if arms[role] is not None]
    lines: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "perplexity": lambda m: f"{m['perplexity']:.3f}",
        "nats a token": lambda m: _between(m["interval"]),
        "bits a byte": lambda m: _number(m["bits_per_byte"]),
        "next token right": lambda m: percent(m["accuracy"], 2),
        "calibration error": lambda m: percent(m["ece"], 2),
        "parameters": lambda m: large(m["parameters"]),
        "weights": lambda m: size(m["bytes"]),
        "a row of text": lambda m: milliseconds(m["latency_ms"]["p50"]),
        "tokens a second, read": lambda m: f"{m['tokens_per_second']:,.0f}",
    }
    if any(arms[role].get("writing") for role in roles):
        lines |= {
            "time to the first token": _writing("first_ms", milliseconds),
            "tokens a second, written": _writing("tokens_per_second", lambda v: f"{v:,.0f}"),
            "memory of writing": _writing("memory_bytes", size),
        }
    heads = (ROLES[role].capitalize() for role in roles)
    rows = tuple((name, *(cell(arms[role]) for role in roles)) for name, cell in lines.items())
    return Table(("", *heads), rows)


def speed(report: Mapping[str, Any]) -> list[Words]:
    """How writing was timed, and on what machine; nothing where it was not."""
    arms = [arm for arm in report["models"].values() if arm is not None and arm.get("writing")]
    if not arms:
        return []
    how, known = arms[0]["writing"], report["environment"]
    facts = [known.get(key) for key in ("device", "processor", "platform")]
    cores = [f"{known['cores']} cores"] if known.get("cores") else []
    machine = ", ".join([*map(str, filter(None, facts)), *cores]) or "a machine that is not stated"
    return [
        Words(
            f"Writing: one text at a time in PyTorch on {_many(how['threads'], 'thread')}, keys "
            f"and values kept, behind {_many(how['prompt_tokens'], 'token')} of validation text, "
            f"{_many(how['tokens'], 'token')} after the first, medians of {how['calls']} calls in "
            "turns; memory is that of all tensors at the worst moment, beside the weights. "
            f"Measured on: {machine}."
        )
    ]


def tasks(found: Sequence[Mapping[str, Any]]) -> list[Words | Table]:
    """Every task as a row, and in words who was not asked."""
    if not found:
        return []
    roles = [role for role in ROLES if any(role in task["models"] for task in found)]
    heads = [ROLES[role].capitalize() for role in roles]
    rows = tuple(
        (
            f"{task['name']} ({task['metric'] or 'not measured'})",
            f"{task['items']:,}" if task["items"] else "–",
            *(_answered(task, role) for role in roles),
            _change(task, "teacher"),
            _change(task, "baseline"),
        )
        for task in found
    )
    differences = ("Student − teacher", "Student − alone")
    left = [
        f"{task['name']}, {ROLES[role]}: {why}"
        for task in found
        for role, why in task["left_out"].items()
    ]
    return [
        Words(
            "Questions that chose nothing, asked once after all was trained. Intervals hold at "
            "95 %: of one model over questions, of several seeds over seeds or over questions, "
            "whichever reaches further; the shipped student and its teacher are compared question "
            "by question."
        ),
        Table(("Task", "Questions", *heads, *differences), rows),
        *map(Words, left),
    ]


def _answered(task: Mapping[str, Any], role: str) -> str:
    if role not in task["models"]:
        return "not measured"
    value = task["models"][role]["value"]
    mean, ends = _figure(task, value["mean"]), ""
    if value["low"] is not None:
        ends = f" ({_figure(task, value['low'])} to {_figure(task, value['high'])})"
    return mean + ends


def _figure(task: Mapping[str, Any], value: float) -> str:
    return percent(value) if task["share"] else f"{value:.4g}"


def _change(task: Mapping[str, Any], role: str) -> str:
    change = task["comparison"][role]
    if change is None:
        return "not known"
    if task["share"]:
        return f"{points(change['mean'])} points ({span(change)})"
    ends = f"{change['mean']:+.4g} ({change['low']:+.4g} to {change['high']:+.4g})"
    return ends.replace("-", "−")


def _writing(key: str, word: Callable[[Any], str]) -> Callable[[Mapping[str, Any]], str]:
    def shown(model: Mapping[str, Any]) -> str:
        value = (model.get("writing") or {}).get(key)
        return "not measured" if value is None else word(value)

    return shown


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _seeds(seeds: Iterable[Mapping[str, Any]]) -> list[Block]:
    rows = tuple(
        (str(each["seed"]), f"{each['student']:.4f}", _number(each["baseline"], 4))
        for each in seeds
    )
    if len(rows) < 2:
        return []
    return [Table(("Seed", "Student, nats a token", "Student alone"), rows)]


def _part(part: Mapping[str, Any]) -> list[Block]:
    """A part is ``{"words": [...], "head": [...], "rows": [[...], ...]}``."""
    blocks: list[Block] = _words(part.get("words", []))
    if part.get("rows"):
        rows = tuple(tuple(map(str, row)) for row in part["rows"])
        blocks.append(Table(tuple(part["head"]), rows))
    return blocks


def _gates(gates: Iterable[Mapping[str, Any]]) -> list[Block]:
    rows = tuple(
        (
            gate["name"],
            f"{gate['rule']} {gate_value(gate, 'threshold')}",
            gate_value(gate, "value"),
            "passed" if gate["passed"] else "failed",
        )
        for gate in gates
    )
    return [Table(("Condition", "Asked", "Found", ""), rows)] if rows else []


def _words(lines: Iterable[str]) -> list[Block]:
    return [Words(line) for line in lines]


def _between(interval: Mapping[str, Any]) -> str:
    return f"{interval['mean']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "not known" if value is None else f"{value:.{digits}f}"


def _name(report: Mapping[str, Any]) -> str:
    recipe = report["recipe"]
    return str(recipe["name"] if isinstance(recipe, Mapping) else recipe)
