"""``MODEL_CARD.md``: what a stranger must know before using the student, in Hugging Face's form."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.errors import DataError
from tutelage.deployment.licences import hub_licence, unknown
from tutelage.deployment.shipped import Shipped
from tutelage.evaluation.faces.rows import model_roles, model_rows
from tutelage.evaluation.wording import ROLES, gate_range, gate_value, points

_METRICS = {"accuracy": "Accuracy", "nll": "Negative log-likelihood", "ece": "Calibration error"}


def model_card(
    report: Mapping[str, Any],
    *,
    name: str = "",
    licence: str = "",
    teacher_licence: str = "",
    data_licence: str = "",
    intended_use: str = "",
    files: Sequence[str] = (),
    temperature: float | None = None,
    task: str = "",
) -> str:
    """The card of a run's student, filled from its report and from what only the caller knows.

    Nothing is invented: what nobody stated is said to be not stated.

    Args:
        report: Figures, as in ``report.json``.
        name: Of the student; the recipe's name by default.
        licence: Under which the student is given away, an SPDX identifier such as ``apache-2.0``.
        teacher_licence: Of the teacher: it may bind the student too.
        data_licence: Of the training data; the data's stated origin by default.
        intended_use: What it was made for, in a sentence.
        files: What lies beside the card: ``("student.onnx",)``.
        temperature: What the student's logits are divided by, where it was calibrated.
        task: Of Hugging Face's tasks, such as ``image-classification``; see `task_of`.

    Returns:
        Markdown with a YAML head.

    Raises:
        DataError: The report has no figures of a student.
    """
    if "models" not in report or report["models"].get("student") is None:
        raise DataError("the report has no student: give the content of a report.json.")
    name = name or _recipe_name(report["recipe"])
    parts = [
        _head(report, name, licence, task),
        f"# {name}",
        report["verdict"]["headline"],
        _use(report, intended_use, files, temperature),
        _training(report),
        _evaluation(report),
        _limits(report),
        _licences(report, licence, teacher_licence, data_licence),
        _again(report),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def task_of(shape: Sequence[int]) -> str:
    """What Hugging Face calls the task of inputs of this shape; "" where they may be anything.

    >>> task_of((3, 32, 32)), task_of((14,)), task_of(())
    ('image-classification', 'tabular-classification', '')
    """
    return {3: "image-classification", 1: "tabular-classification"}.get(len(shape), "")


def shipped_note(ships: Shipped) -> str:
    """What a card must say of a package whose model is not the one that the card describes."""
    return f"\n## What this package ships\n\n{ships.words}\n"


def _head(report: Mapping[str, Any], name: str, licence: str, task: str) -> str:
    """Keys of the Hub's metadata; `datasets` are names on the Hub, which ours are not."""
    import yaml

    student, data = report["models"]["student"], report["data"]
    metrics = [
        {"type": key, "name": words, "value": round(student[key], 6)}
        for key, words in _METRICS.items()
        if student[key] is not None
    ]
    result = {
        "task": {"type": task or "other"},
        "dataset": {"name": data["name"], "type": _slug(data["name"]), "split": "test"},
        "metrics": metrics,
    }
    head = {
        "library_name": "tutelage",
        **hub_licence(licence),
        **({"pipeline_tag": task} if task else {}),
        "tags": ["knowledge-distillation"],
        **({"model-index": [{"name": name, "results": [result]}]} if metrics else {}),
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"


def _use(
    report: Mapping[str, Any], intended: str, files: Sequence[str], temperature: float | None
) -> str:
    classes = report["data"]["classes"]
    shown = ", ".join(map(_plain, classes[:20]))
    shown += f" and {len(classes) - 20} more" if len(classes) > 20 else ""
    told = [
        "## Intended use",
        _plain(intended) if intended else f"Telling {len(classes)} classes apart: {shown}.",
        "Inputs like those of the data below; on anything else it answers too, and nothing here "
        "says how well.",
    ]
    if files:
        told.append("Files: " + ", ".join(f"`{file}`" for file in files) + ".")
    if temperature is not None:
        told.append(
            f"Its confidence is calibrated: divide the logits of these weights by {temperature!r} "
            "(fitted on validation; the answers stay the same). `student.onnx` does so by itself."
        )
    if report["verdict"]["status"] == "no":
        told.append("**It did not meet the conditions set for it: see the evaluation.**")
    return "\n\n".join(told)


def _training(report: Mapping[str, Any]) -> str:
    data, teacher = report["data"], report["models"]["teacher"]
    labelled = data["labelled"]
    labels = f", {labelled:,} of them with labels" if labelled is not None else ""
    told = (
        f"Distilled from {_plain(teacher['name']) or 'a teacher'} ({teacher['parameters']:,} "
        f"parameters) on {_plain(data['name'])}: {data['train']:,} training examples{labels}, "
        f"{data['validation']:,} for validation. Seed {report['seed']}."
    )
    return "\n\n".join(filter(None, ["## Training", told, _sentence(data["teacher"])]))


def _evaluation(report: Mapping[str, Any]) -> str:
    models, data = report["models"], report["data"]
    heads = [ROLES[role] for role in model_roles(models)]
    lines = [f"| | {' | '.join(heads)} |", f"| --- | {' | '.join('---:' for _ in heads)} |"]
    for row in model_rows(models):
        cells = (f"{value} ({small})" if small else value for value, small in row.cells)
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    opened = "" if data["test_opened"] != 1 else ", opened once"
    level = _level(models)
    told = (
        f"On {data['test']:,} test examples{opened}. In brackets: the {level} interval of "
        "accuracy, and the slowest call in a hundred. “Student alone” is the same network, trained "
        "without the teacher."
    )
    gates = [_gate(gate) for gate in report["gates"]]
    gained = [f"- {line}" for line in report["verdict"]["gained"]]
    parts = ["## Evaluation", told, "\n".join(lines), "\n".join(gained), "\n".join(gates)]
    return "\n\n".join(filter(None, parts))


def _gate(gate: Mapping[str, Any]) -> str:
    met = "passed" if gate["passed"] else "**failed**"
    ends = gate_range(gate)
    return (
        f"- {met}: {gate['name']} ({gate['meaning']}) {gate['rule']} "
        f"{gate_value(gate, 'threshold')}, found {gate_value(gate, 'value')}"
        f"{f' ({ends})' if ends else ''}: {gate['evidence']}"
    )


def _limits(report: Mapping[str, Any]) -> str:
    lines = [f"- {line}" for line in report["verdict"]["lost"]]
    student = report["models"]["student"]
    if student["collapsed"]:
        lines.insert(0, f"- **It collapsed: {student['collapsed']}.**")
    known = [row for row in report["comparison"]["per_class"] if row["student"] is not None]
    for row in sorted(known, key=lambda row: row["student"])[:3]:
        lines.append(
            f"- Weak in {_plain(row['class'])}: {100 * row['student']:.1f} % right of "
            f"{row['examples']:,} examples ({points(row['delta'])} points against the teacher)."
        )
    parts = report.get("parts", {})
    lines += [f"- {line}" for line in _found(parts)]
    told = ["## Limits that the evaluation found", "\n".join(lines)]
    left = [
        f"{name} ({part['left_out'].rstrip('.')})" for name, part in parts.items() if _out(part)
    ]
    if left:
        told.append(f"Asked for, and not looked at: {_plain('; '.join(left))}.")
    if report["notes"]:
        told += ["Notes of the run:", "\n".join(f"- {_plain(note)}" for note in report["notes"])]
    return "\n\n".join(told)


def _found(parts: Mapping[str, Any]) -> list[str]:
    """What the proof warns of, and then what it wants to be known, each with its figures."""
    lines = []
    for status in ("warning", "notice"):
        for name, part in parts.items():
            lines += [
                f"{_plain(each['text'])} (report.json, parts.{name})"
                for each in part["findings"]
                if each["status"] == status and not _out(part)
            ]
    return lines


def _out(part: Mapping[str, Any]) -> bool:
    return bool(part["left_out"])


def _licences(report: Mapping[str, Any], own: str, teacher: str, data: str) -> str:
    rows = {
        "Student": own,
        "Teacher": teacher,
        "Data": data or report["data"]["origin"],
    }
    lines = [
        f"- {what}: {_plain(text) if text else unknown(what.lower())}"
        for what, text in rows.items()
    ]
    return "\n\n".join(["## Licences", "\n".join(lines)])


def _again(report: Mapping[str, Any]) -> str:
    versions = report["environment"].get("versions", {})
    made = ", ".join(f"{package} {version}" for package, version in versions.items())
    date = report["environment"].get("date", "")
    command = f"```\n{report['command']}\n```" if report["command"] else ""
    told = " · ".join(filter(None, [str(date), made]))
    return "\n\n".join(filter(None, ["## To make it again", command, told]))


def _level(models: Mapping[str, Any]) -> str:
    for model in models.values():
        if model is not None and "accuracy_interval" in model:
            return f"{100 * model['accuracy_interval']['level']:.0f} %"
    return "95 %"


def _recipe_name(recipe: Any) -> str:
    found = recipe.get("name", "student") if isinstance(recipe, Mapping) else recipe
    return _plain(str(found))


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._/-]+", "-", name).strip("-") or "data"


def _plain(text: object) -> str:
    """Text that cannot start a line, a table cell or a tag of its own in Markdown."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
