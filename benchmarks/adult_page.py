"""The page docs/adult.md: tables, a picture, and sentences that follow the figures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.evaluation.fairness.plots import temperature_curves
from tutelage.evaluation.intervals import Interval, mean_interval, paired_interval
from tutelage.evaluation.wording import listing, points

Rows = Mapping[str, Mapping[str, Any]]
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "adult.md"
CURVE = Path(__file__).with_name("results") / "adult.svg"
PLAIN, ALONE, TEACHER = "taught, T = 4", "student alone", "teacher"
_GAPS = {
    "odds": "the equalised odds difference",
    "selection": "the demographic parity difference",
    "accuracy": "the accuracy gap",
}
_FIGURES = {"value": "accuracy", "worst": "the accuracy of the worst group", **_GAPS}


def page(rows: Rows) -> str:
    """The whole page."""
    one = rows[TEACHER]
    seeds, threads = len(one["seeds"]), one["hardware"]
    arms = [name for name in rows if name != "report"]
    parts = [
        "# Groups in the Adult census: what distillation does to the gaps between them\n",
        f"Written by `benchmarks/adult.py --page` from rows of {one['date']} ({threads}, torch "
        f"{one['versions']['torch']}); rows in `benchmarks/results/adult.jsonl`. To repeat them, "
        "put `adult.data` and `adult.test` of the UCI Machine Learning Repository (Becker, Kohavi, "
        "1996) into a folder:\n",
        "```\npython benchmarks/adult.py --data FOLDER\npython benchmarks/adult.py --page\n```\n",
        _setting(one),
        "## What the figures say\n",
        *(f"- {sentence}" for sentence in sentences(rows)),
        "",
    ]
    for way in one["each"][0]["ways"]:
        parts += [f"## By {way}\n", _gap_table(rows, arms, way), ""]
        parts += [_group_table(rows, arms, way), ""]
    parts += [
        "## Temperature, by sex\n",
        "![Accuracy, worst group and gaps against temperature](../benchmarks/results/adult.svg)\n",
        f"Means over {seeds} seeds with 95 % ranges. This is one task and one pair of networks: a "
        "curve to look at, not a promise for another.\n",
        "## What the report of one run says\n",
        "The part `fairness` of a report, for seed "
        f"{rows['report']['seed']} at T = 4; its ranges are over test examples:\n",
        *(f"- {text}" for text in rows["report"]["findings"]),
        "",
    ]
    return "\n".join(parts)


def _setting(one: Mapping[str, Any]) -> str:
    smallest = {
        way: min(each["ways"][way]["least"] for each in one["each"]) for way in ("sex", "race")
    }
    return (
        f"{one['train']:,} rows to learn from, {one['test']:,} to test on, {one['epochs']} epochs, "
        f"{len(one['seeds'])} seeds. The teacher is a network of layers of 256 and 128 units, the "
        "student has one of 4. Taught students learn from labels (weight 0.2) and the teacher's "
        "answers (0.8), at T = 4 where nothing else is said. `weighted by sex`: every cell (sex, "
        "income) of the training rows counts the same. The student's size and the number of epochs "
        "were set after two trials whose figures had been seen; nothing else was chosen by them. "
        "Ranges are 95 % intervals over seeds, each by itself; all seeds share the test rows, so "
        "they do not cover which rows those are: the smallest cell that a rate rests on has "
        f"{smallest['sex']} rows by sex and {smallest['race']} by race, so that gaps by race are "
        "coarse.\n"
    )


def of(rows: Rows, arm: str, figure: str, way: str) -> list[float]:
    """A figure of every seed."""
    each = rows[arm]["each"]
    return [one["value"] if figure == "value" else one["ways"][way][figure] for one in each]


def sentences(rows: Rows) -> list[str]:
    """What holds beyond the luck of seeds, and what was not shown."""
    found = []
    for way in ("sex", "race"):
        found += [
            _compared(rows, PLAIN, TEACHER, ["odds", "selection"], way, "against its teacher"),
            _compared(rows, PLAIN, ALONE, ["odds", "value"], way, "against itself untaught"),
            _temperature(rows, way),
            *(
                _compared(rows, arm, PLAIN, ["odds", "selection", "worst", "value"], way, "", said)
                for arm, said in (
                    (f"taught, weighted by {way}", "Weights on what the student learns from"),
                    (f"taught by teacher weighted by {way}", "A teacher trained with weights"),
                    (f"taught by teacher weighted by {way}, weighted", "Both together"),
                )
            ),
        ]
    return found


def _compared(
    rows: Rows,
    arm: str,
    other: str,
    figures: Sequence[str],
    way: str,
    against: str,
    said: str = "The taught student",
) -> str:
    """One sentence: which figures rose or fell, and which were not shown to."""
    moved, still = [], []
    for figure in figures:
        interval = paired_interval(of(rows, arm, figure, way), of(rows, other, figure, way))
        told = f"{_FIGURES[figure]} {_points(interval)}"
        (moved if interval.excludes_zero else still).append(told)
    against = against or "against the plainly taught student"
    head = f"By {way}: {said[0].lower()}{said[1:]}, {against}"
    if not moved:
        return f"{head}: no change was shown ({listing(still)})."
    tail = f"; not shown to change: {listing(still)}" if still else ""
    return f"{head}, changes {listing(moved)} points{tail}."


def _temperature(rows: Rows, way: str) -> str:
    """The slope of every figure over doublings of the temperature, seed by seed."""
    arms = _temperatures(rows)
    places = [math.log2(temperature) for temperature in arms]
    middle = sum(places) / len(places)
    square = sum((place - middle) ** 2 for place in places)
    moved, still = [], []
    for figure in ("odds", "selection", "worst", "value"):
        curves = [of(rows, arm, figure, way) for arm in arms.values()]
        slopes = [
            sum((x - middle) * y for x, y in zip(places, each, strict=True)) / square
            for each in zip(*curves, strict=True)
        ]
        interval = mean_interval(slopes)
        told = f"{_FIGURES[figure]} {_points(interval, 2)}"
        (moved if interval.excludes_zero else still).append(told)
    head = f"By {way}: each doubling of the temperature"
    if not moved:
        return f"{head} was not shown to change anything ({listing(still)})."
    tail = f"; not shown to change: {listing(still)}" if still else ""
    return f"{head} changes {listing(moved)} points{tail}."


def _temperatures(rows: Rows) -> dict[float, str]:
    start = "taught, T = "
    return {float(name.removeprefix(start)): name for name in rows if name.startswith(start)}


def curve(rows: Rows) -> str:
    """The picture, by sex."""
    curves: dict[str, list[dict[str, float]]] = {}
    for measure, figure in (
        ("accuracy", "value"),
        ("worst", "worst"),
        ("selection", "selection"),
        ("odds", "odds"),
    ):
        curves[measure] = [
            {"temperature": temperature, "mean": i.mean, "low": i.low, "high": i.high}
            for temperature, arm in _temperatures(rows).items()
            for i in [mean_interval(of(rows, arm, figure, "sex"))]
        ]
    return temperature_curves(curves, "sex", page=False)


def _gap_table(rows: Rows, arms: Sequence[str], way: str) -> str:
    lines = [
        "| arm | accuracy, % | worst group, % | demographic parity difference | equalised odds "
        "difference | amplification of the latter over the plain teacher |",
        "|---|---|---|---|---|---|",
    ]
    for arm in arms:
        change = paired_interval(of(rows, arm, "odds", way), of(rows, TEACHER, "odds", way))
        cells = [
            arm,
            *(
                _level(mean_interval(of(rows, arm, figure, way)))
                for figure in ("value", "worst", "selection", "odds")
            ),
            "" if arm == TEACHER else _points(change),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _group_table(rows: Rows, arms: Sequence[str], way: str) -> str:
    sizes = rows[TEACHER]["each"][0]["ways"][way]["examples"]
    heads = [f"{name} ({int(size):,} rows)" for name, size in sizes.items()]
    lines = [
        f"Accuracy by {way}, %:\n",
        f"| arm | {' | '.join(heads)} |",
        f"|---|{'---|' * len(heads)}",
    ]
    for arm in arms:
        each = [one["ways"][way]["groups"] for one in rows[arm]["each"]]
        cells = [_level(mean_interval([one[name] for one in each])) for name in sizes]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _level(interval: Interval) -> str:
    low, high = 100 * max(interval.low, 0), 100 * min(interval.high, 1)
    return f"{100 * interval.mean:.1f} ({low:.1f} to {high:.1f})"


def _points(interval: Interval, digits: int = 1) -> str:
    if digits == 1:
        return f"{points(interval.mean)} ({points(interval.low)} to {points(interval.high)})"
    ends = [f"{100 * end:+.{digits}f}".replace("-", "−") for end in (interval.low, interval.high)]
    mean = f"{100 * interval.mean:+.{digits}f}".replace("-", "−")
    return f"{mean} ({ends[0]} to {ends[1]})"
