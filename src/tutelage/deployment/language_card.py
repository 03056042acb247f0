"""``MODEL_CARD.md`` of a language student, filled from its report."""

from collections.abc import Mapping
from typing import Any

from tutelage.deployment.card import _again, _licences, _plain, _recipe_name, _slug
from tutelage.deployment.licences import hub_licence
from tutelage.evaluation.faces.blocks import as_markdown
from tutelage.evaluation.faces.language import models, sections, speed, tasks

AGAINST = "Against the teacher"
"""The part of a report that tells of a teacher with tokens of its own."""

_METRICS = {"perplexity": "Perplexity", "nll": "Nats a token", "accuracy": "Next token right"}
_SHOWN = ("What you gained", "What was lost", "May you ship it?", AGAINST)


def language_card(
    report: Mapping[str, Any],
    *,
    licence: str = "",
    teacher_licence: str = "",
    data_licence: str = "",
) -> str:
    """The card; nothing is invented: what nobody stated is said to be not stated.

    Args:
        report: Figures of a language report, as in ``report.json``.
        licence: Under which the student is given away.
        teacher_licence: Of the teacher.
        data_licence: Of the text.

    Returns:
        Markdown with a YAML head.
    """
    name, data = _recipe_name(report["recipe"]), report["data"]
    shown = sections(report)
    told = [f"### {head}\n\n{as_markdown(shown[head])}" for head in _SHOWN if head in shown]
    student = report["models"]["student"]
    taught = (
        f"Distilled from {_teacher(report)} into {student['parameters']:,} parameters on "
        f"{_plain(data['name'])}: "
        f"{data['train']:,} rows of {data['row_tokens']:,} tokens. Seed {report['seed']}."
    )
    parts = [
        _head(report, name, licence),
        f"# {name}",
        report["verdict"]["headline"],
        "## Intended use",
        "Going on with text like that of the data below. What it writes is not checked for truth, "
        "and may repeat what is in its training text, faults and prejudices included.",
        f"## Training\n\n{taught}",
        "## Evaluation\n\n" + as_markdown([models(report["models"]), *speed(report)]),
        *_tasks(report),
        *told,
        _licences(report, licence, teacher_licence, data_licence),
        _again(report),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _teacher(report: Mapping[str, Any]) -> str:
    teacher = report["models"]["teacher"]
    named = _plain((teacher or report["absent"])["name"]) or "a teacher"
    return named if teacher is None else f"{named} ({teacher['parameters']:,} parameters)"


def _tasks(report: Mapping[str, Any]) -> list[str]:
    found = tasks(report.get("tasks", []))
    return ["### Tasks\n\n" + as_markdown(found)] if found else []


def _head(report: Mapping[str, Any], name: str, licence: str) -> str:
    import yaml

    student, data = report["models"]["student"], report["data"]
    metrics = [
        {"type": key, "name": words, "value": round(student[key], 6)}
        for key, words in _METRICS.items()
    ]
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"name": data["name"], "type": _slug(data["name"]), "split": "test"},
        "metrics": metrics,
    }
    head = {
        "library_name": "tutelage",
        **hub_licence(licence),
        "pipeline_tag": "text-generation",
        "tags": ["knowledge-distillation"],
        "model-index": [{"name": name, "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---"
