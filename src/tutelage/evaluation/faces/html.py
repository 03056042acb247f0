"""``report.html``: one file that needs nothing else, plain words first, for any screen."""

import json
from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from tutelage.evaluation.faces import plots
from tutelage.evaluation.faces.blocks import Table, Words, as_html
from tutelage.evaluation.faces.compression import compression
from tutelage.evaluation.faces.proof import found, proof
from tutelage.evaluation.faces.tables import (
    class_table,
    gate_table,
    model_table,
    plain,
    prose,
    seed_table,
)
from tutelage.evaluation.wording import percent, points, span

_STATUS = {
    "yes": "Meets its conditions",
    "no": "Do not ship",
    "open": "No conditions set",
}


def page(report: Mapping[str, Any]) -> str:
    """The whole page of a report: styles and pictures inside, no scripts, nothing loaded.

    Args:
        report: Figures, as in ``report.json`` (see `Report.figures`).

    Returns:
        The text of an HTML file.
    """
    style = files("tutelage.evaluation.faces").joinpath("page.css").read_text(encoding="utf-8")
    parts = [
        _summary(report),
        _models(report["models"]),
        _pictures(report["models"]),
        _seeds(report),
        _fidelity(report["comparison"]),
        _classes(report["comparison"]),
        _compression(report.get("compression")),
        *proof(report.get("parts", {})),
        _curves(report["curves"]),
        _gates(report["gates"]),
        _origin(report),
    ]
    title = f"Distillation report: {_name(report['recipe'])}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{_header(report)}\n<main>\n{chr(10).join(filter(None, parts))}\n</main>\n"
        '<footer class="faint">Made by tutelage from report.json, which holds every figure '
        "of this page.</footer>\n</body>\n</html>\n"
    )


def _header(report: Mapping[str, Any]) -> str:
    verdict, data = report["verdict"], report["data"]
    date = report["environment"].get("date", "")
    over = " · ".join(filter(None, [_name(report["recipe"]), data["name"], str(date)]))
    return (
        f'<header><p class="over">Distillation report · {escape(over)}</p>'
        f"<h1>{prose(verdict['headline'])}</h1>"
        f'<span class="badge {verdict["status"]}">{_STATUS[verdict["status"]]}</span></header>'
    )


def _summary(report: Mapping[str, Any]) -> str:
    verdict = report["verdict"]
    cards = (
        ("What you gained", verdict["gained"]),
        ("What was lost", verdict["lost"]),
        ("May you ship it?", verdict["ship"]),
    )
    told = "".join(f"<section><h2>{head}</h2>{_bullets(lines)}</section>" for head, lines in cards)
    notes = f"<section><h2>Notes</h2>{_bullets(report['notes'])}</section>"
    told = f'<div class="three">{told}</div>{found(report.get("parts", {}))}'
    return told + (notes if report["notes"] else "")


def _models(models: Mapping[str, Any]) -> str:
    alone = (
        "<p>“Student alone” is the very same small network trained in the same way without a "
        "teacher: the only fair measure of what the teacher was good for.</p>"
    )
    told = alone if models["baseline"] is not None else ""
    return _section("The models side by side", told + model_table(models))


def _pictures(models: Mapping[str, Any]) -> str:
    if not any(m is not None and m["accuracy"] is not None for m in models.values()):
        return ""
    size = _section(
        "Small and accurate?",
        "<p>Up and to the left is better. The bars are the range in which the true accuracy lies, "
        f"judging by the examples tested.</p>{_figure('', plots.size_against_accuracy(models))}",
    )
    trust = _section(
        "Can its confidence be trusted?",
        "<p>When it says 80 %, is it right in 80 of 100 cases? On the diagonal it is; below, it is "
        "too sure of itself; above, too unsure. Bins of very few examples are left out.</p>"
        f"{_figure('', plots.reliability_diagram(models))}",
    )
    return f'<div class="pair">{size}{trust}</div>'


def _seeds(report: Mapping[str, Any]) -> str:
    comparison = report["comparison"]
    if len(comparison["seeds"]) < 2:
        return ""
    told = (
        "<p>Training has luck in it. Each line is one full training with another start; what "
        "holds in all of them is not luck.</p>"
    )
    gain = comparison["gain"]
    if gain is not None:
        told += (
            f"<p><b>Mean difference {points(gain['mean'])} points</b>, "
            f"{100 * gain['level']:.0f} % interval {span(gain)} ({escape(gain['method'])}).</p>"
        )
    return _section("Every seed", told + seed_table(comparison["seeds"], report["seed"]))


def _fidelity(comparison: Mapping[str, Any]) -> str:
    if comparison["agreement"] is None:
        return ""
    facts = [
        (
            f"{percent(comparison['agreement'])} agreement",
            "Share of the examples to which student and teacher give the same answer, right or "
            f"wrong.{_control(comparison['control'])}",
        ),
        (
            f"{percent(comparison['negative_flip_rate'], 2)} newly wrong, "
            f"{percent(comparison['positive_flip_rate'], 2)} newly right",
            "Share of all examples where the answer changed from right to wrong, or from wrong to "
            "right, on replacing the teacher by the student. Users notice the first.",
        ),
        (
            f"{_number(comparison['predictive_kl'])} nats predictive KL",
            "How far the student's probabilities are from the teacher's: 0 if they are equal; a "
            "student that is sure where the teacher doubts pays for it here.",
        ),
    ]
    test = comparison["mcnemar"]
    if test is not None:
        facts.append(
            (
                f"{test['only_student_right']:,} against {test['only_baseline_right']:,} examples",
                "Answered rightly only by the student with a teacher, and only by the one without. "
                f"If both were equally good, a split this uneven would have a chance of "
                f"{_chance(test['p'])} (McNemar's exact test, one seed).",
            )
        )
    listed = "".join(f"<dt><b>{head}</b></dt><dd>{text}</dd>" for head, text in facts)
    return _section("How faithful the student is", f"<dl>{listed}</dl>")


def _control(control: Mapping[str, Any] | None) -> str:
    if control is None:
        return ""
    return (
        f" The student alone, which never met the teacher, agrees with it on "
        f"{percent(control['agreement'])}: only what is above that was taught."
    )


def _classes(comparison: Mapping[str, Any]) -> str:
    rows = [row for row in comparison["per_class"] if row["delta"] is not None]
    if not rows:
        return _classes_alone(comparison["per_class"])
    many = len(rows) > plots.MOST_CLASSES
    most = f" Shown are the {plots.MOST_CLASSES} that changed most." if many else ""
    told = (
        "<p>A loss hides easily in one class. Lines show the range of the change in each; where a "
        "point is filled and coloured, chance is ruled out even after looking at all "
        f"{len(rows)} classes.{most}</p>"
    )
    confusions = "".join(
        f"<tr><th>{escape(row['true'])} → {escape(row['answered'])}</th>"
        f"<td>{row['teacher']:,}</td><td>{row['student']:,}</td></tr>"
        for row in comparison["confusions"]
    )
    mixed = (
        '<div><h3>What it mixes up more than its teacher</h3><div class="scroll"><table><thead>'
        '<tr><th>truth → answer</th><th class="teacher">teacher</th>'
        f'<th class="student">student</th></tr></thead><tbody>{confusions}</tbody></table>'
        "</div></div>"
        if confusions
        else ""
    )
    picture = _figure("", plots.class_changes(rows))
    return _section(
        "Class by class",
        f'{told}<div class="two"><div>{picture}</div>{mixed}</div>'
        f"<details><summary>All classes as a table</summary>{class_table(rows)}</details>",
    )


def _classes_alone(rows: list[dict[str, Any]]) -> str:
    """Where there is no teacher to compare with: how good it is in each class."""
    known = [row for row in rows if row["student"] is not None]
    if not known:
        return ""
    cells = tuple(
        (str(row["class"]), f"{row['examples']:,}", percent(row["student"]))
        for row in sorted(known, key=lambda row: row["student"])
    )
    table = Table(("Class", "Examples", "Student"), cells, "All classes, the weakest first", True)
    told = Words(f"Its weakest class is {cells[0][0]}: {cells[0][2]} of {cells[0][1]} examples.")
    return _section("Class by class", as_html([told, table]))


def _compression(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return _section("Smaller files of the student", as_html(compression(found)))


def _curves(curves: Mapping[str, Any]) -> str:
    # A run names its arms by seed, the teacher without: student-0.
    arms = {label.rpartition("-")[0] or label: rows for label, rows in curves.items()}
    pictures = plots.training_curves(arms)
    drawn = "".join(_figure(caption, svg) for caption, svg in pictures.items())
    return _section("How it learned", f'<div class="two">{drawn}</div>') if drawn else ""


def _gates(gates: list[dict[str, Any]]) -> str:
    return _section("Conditions for shipping", gate_table(gates)) if gates else ""


def _origin(report: Mapping[str, Any]) -> str:
    data, environment = report["data"], report["environment"]
    labelled = "" if data["labelled"] is None else f" ({data['labelled']:,} with labels)"
    learned = f"{data['train']:,} training{labelled}, " if data["train"] else ""
    facts = {
        "Data": f"{data['name']}: {learned}{data['validation']:,} validation and "
        f"{data['test']:,} test examples, {len(data['classes'])} classes",
        "Origin of the data": data["origin"],
        "Seed": str(report["seed"]),
        **{key.capitalize(): plain(value) for key, value in environment.items()},
    }
    lines = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>"
        for key, value in facts.items()
        if value
    )
    told = f"<p>To make all this again:</p><pre>{escape(report['command'])}</pre>"
    recipe = report["recipe"]
    text = recipe if isinstance(recipe, str) else json.dumps(recipe, indent=2, ensure_ascii=False)
    return _section(
        "Where this comes from",
        (told if report["command"] else "")
        + f'<table class="facts"><tbody>{lines}</tbody></table>'
        + f"<details><summary>The recipe</summary><pre>{escape(text)}</pre></details>",
    )


def _section(head: str, body: str) -> str:
    return f"<section><h2>{head}</h2>{body}</section>"


def _figure(caption: str, svg: str) -> str:
    told = f"<figcaption>{prose(caption)}</figcaption>" if caption else ""
    return f"<figure>{told}{svg}</figure>"


def _bullets(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{prose(line)}</li>" for line in lines) + "</ul>"


def _name(recipe: Any) -> str:
    return str(recipe.get("name", "unnamed recipe") if isinstance(recipe, Mapping) else recipe)


def _number(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.3f}"


def _chance(p: float) -> str:
    return "less than 1 in 100,000" if p < 1e-5 else f"{100 * p:.2g} %"
