"""``monitor.html``: what was seen of a served model, one file that needs nothing else."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words, as_html
from tutelage.evaluation.faces.tables import prose
from tutelage.monitoring.columns import Columns
from tutelage.monitoring.judge import Finding, Looked
from tutelage.monitoring.levels import rate_of_rule
from tutelage.monitoring.pictures import KEY, bars, histogram, time_line
from tutelage.recipe.watched import Watched

_WORST = 6
_TITLES = {
    "traffic": "Inputs and predictions",
    "labels": "Labels that came back",
    "teacher": "The teacher, asked again",
    "shadow": "The shadow model",
}


def page(found: Watched, reference: Columns, actions: Sequence[dict[str, Any]] = ()) -> str:
    """The whole page: styles and pictures inside, no scripts, nothing loaded.

    Args:
        found: What was found.
        reference: Columns of the reference.
        actions: Lines of the log of actions, oldest first.
    """
    style = files("tutelage.evaluation.faces").joinpath("page.css").read_text(encoding="utf-8")
    sections = [_summary(found)]
    sections += [_tests(name, windows[-1]) for name, windows in found.series.items() if windows]
    if found.now is not None:
        sections += [_line(found.series["traffic"]), _spread(found, reference, found.now)]
    sections += [_done(actions), _method(found)]
    badge, verdict = _verdict(found)
    title = f"Watch of {found.subject.name}"
    over = " · ".join(filter(None, ("Traffic against reference", found.subject.digest[:12])))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><p class="over">{escape(over)}</p><h1>{escape(title)}</h1>'
        f'<span class="badge {badge}">{verdict}</span></header>\n'
        f"<main>{''.join(filter(None, sections))}</main>\n"
        '<footer class="faint">Made by tutelage monitor.</footer>\n</body>\n</html>\n'
    )


def verdict_words(found: Watched) -> str:
    """Alarm, quiet, or too little to tell."""
    return _verdict(found)[1]


def figures_of(one: Finding) -> tuple[str, str]:
    """What was found and its threshold, as text."""
    return f"{one.value:.4g}", f"{one.threshold:.4g}"


def _verdict(found: Watched) -> tuple[str, str]:
    if not any(found.series.values()):
        return "open", "Too few examples to tell"
    return ("no", "Alarm") if found.alarm else ("yes", "Quiet")


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>" if inner else ""


def _summary(found: Watched) -> str:
    facts = found.facts
    told = (
        f"{facts['of_this_version']:,} answers of this version in the log, "
        f"{facts['rows']:,} in all."
    )
    latency = facts["latency"]
    if latency:
        told += (
            f" Latency as logged: p50 {latency['p50_ms']:.3g} ms, p99 {latency['p99_ms']:.3g} ms; "
            "no alarm is made of it."
        )
    return _section("What was looked at", as_html([Words(told), *map(Words, found.notes)]))


def _tests(name: str, window: Looked) -> str:
    head = ("What was looked at", "Statistic", "Found", "Threshold", "")
    rows = [
        (one.what, one.statistic, *figures_of(one), "alarm" if one.alarm else "")
        for one in window.findings
    ]
    alarms = [one for one in window.findings if one.alarm]
    shown = max(_WORST, len(alarms[:12]))
    words = f"The newest window has {window.count:,} examples. " + (
        f"{len(alarms)} of {len(rows)} tests exceed the level. {alarms[0].advice}"
        if alarms
        else f"None of {len(rows)} tests exceeds the level."
    )
    blocks: list[Block] = [Words(words), Table(head, tuple(rows[:shown]))]
    if len(rows) > shown:
        blocks.append(Table(head, tuple(rows[shown:]), "All other tests", folded=True))
    return _section(_TITLES[name], as_html(blocks))


def _line(windows: Sequence[Looked]) -> str:
    readings = [one.findings[0].reading for one in windows]
    drawn = time_line(readings, [one.alarm for one in windows], windows[-1].level)
    words = (
        f"{len(windows)} windows of {windows[-1].count:,} examples, oldest first: the largest "
        "reading of all tests, in deviations from what it is without drift."
    )
    return _section("Over time", as_html([Picture(drawn, words)]))


def _spread(found: Watched, reference: Columns, now: Columns) -> str:
    newest = found.series["traffic"][-1]
    worst = [one.what for one in newest.findings if one.what in reference.names]
    names = list(dict.fromkeys([*worst[:12], "confidence"]))
    shown = list(dict.fromkeys([*names[:4], "confidence"]))
    pictures = []
    for name in shown:
        place = reference.names.index(name)
        drawn = histogram(reference.values[:, place], now.values[:, place], name)
        pictures.append(as_html([Picture(drawn, name.capitalize())]))
    labels = found.subject.labels or tuple(map(str, range(reference.count)))
    counts = [np.bincount(one.classes, minlength=one.count) for one in (reference, now)]
    mix = as_html([Picture(bars(counts[0], counts[1], labels), "Mix of predicted classes")])
    inner = f'{KEY}<div class="pair">{"".join(pictures)}{mix}</div>'
    return _section("Then and now", inner)


def _done(actions: Sequence[dict[str, Any]]) -> str:
    if not actions:
        return ""
    rows = tuple(
        (str(one.get("do")), str(one.get("why") or one.get("result") or ""))
        for one in actions[-20:]
    )
    body = "".join(f"<tr><th>{prose(do)}</th><td>{prose(why)}</td></tr>" for do, why in rows)
    return _section("What was done", f'<table class="facts"><tbody>{body}</tbody></table>')


def _method(found: Watched) -> str:
    asked = found.asked
    rate = rate_of_rule(asked.false_alarms, asked.needed, asked.of)
    words = (
        f"Each window of {asked.window:,} examples is compared with the "
        f"{len(found.subject.reference):,} of the reference. The thresholds are those that a share "
        f"of {asked.false_alarms:g} of windows drawn from the reference itself exceeds in any of "
        f"the tests. The rule asks for {asked.needed} of {asked.of} windows: without drift that "
        f"happens with probability {rate:.2g} a look, if windows were independent. Who looks often "
        f"sees false alarms: one in about {1 / rate:,.0f} looks. A change of what is right for the "
        "same inputs is found by labels alone."
    )
    return _section("How the thresholds were chosen", as_html([Words(words)]))
