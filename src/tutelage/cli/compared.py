"""What ``tutelage compare`` prints: runs as columns; each later run against the first one."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.core.errors import RecipeError
from tutelage.evaluation.faces import blocks
from tutelage.evaluation.report import write_whole
from tutelage.evaluation.wording import (
    large,
    listing,
    milliseconds,
    percent,
    points,
    size,
    span,
    threads,
)


def show(found: Mapping[str, Any]) -> None:
    """A table, and a sentence for each later run."""
    console = Console(highlight=False)
    head, *rows = table(found["runs"])
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("")
    for name in head[1:]:
        shown.add_column(Text(name), justify="right")
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)
    for sentence in sentences(found):
        console.print(sentence, markup=False)


def markdown(found: Mapping[str, Any]) -> str:
    """The same for a pull request."""
    head, *rows = table(found["runs"])
    text = blocks.as_markdown([blocks.Table(head, tuple(rows))])
    told = "\n".join(f"- {sentence}" for sentence in sentences(found))
    return f"### Runs side by side\n\n{text}\n\n{told}\n"


def save(found: Mapping[str, Any], path: Path) -> None:
    """Write ``.json`` or ``.md``.

    Raises:
        RecipeError: The file's name ends in something else, or it cannot be written.
    """
    if path.suffix not in (".json", ".md"):
        raise RecipeError(f"--out: got {str(path)!r}: name a file that ends in .json or .md.")
    text = markdown(found)
    if path.suffix == ".json":
        text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise RecipeError(
            f"--out: {str(path)!r} cannot be written ({error.strerror}): name another file."
        ) from error


def table(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Head and rows: a column for each run."""

    def row(name: str, cell: Callable[[Mapping[str, Any]], str]) -> tuple[str, ...]:
        return (name, *map(cell, runs))

    return [
        row("", lambda run: str(run["name"])),
        row("Student", lambda run: run["student"] or "–"),
        row("Accuracy", _accuracy),
        row("Its teacher's", lambda run: _share(run["teacher_accuracy"])),
        row("Gain over itself alone, points", _gain),
        row("Agreement with its teacher", lambda run: _share(run["agreement"])),
        row("Newly wrong against its teacher", lambda run: _share(run["negative_flip_rate"])),
        row("NLL", lambda run: "–" if run["nll"] is None else f"{run['nll']:.3f}"),
        row("ECE", lambda run: _share(run["ece"])),
        row("Parameters", lambda run: large(run["parameters"])),
        row("Size", lambda run: size(run["bytes"])),
        row("MACs", lambda run: large(run["macs"])),
        row("Latency, p50 (p99)", _latency),
        row("Seeds", lambda run: f"{run['seeds']} (shown: {run['seed']})"),
        row("Gates", _gates),
    ]


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Of each later run what is beyond doubt against the first one, and what is not."""
    told = [_sentence(row, found["level"]) for row in found["against_first"]]
    if any(row["accuracy_change"] for row in found["against_first"]):
        told.append(
            "The intervals cover which examples were tested, not the luck of training: two runs "
            "with different seeds differ by chance too."
        )
    measured = {threads(run["latency"]) for run in found["runs"]}
    if len(measured) > 1:
        told.append("The latencies were measured in different ways: do not compare them.")
    else:
        told.append(
            "Latencies of different runs were measured at different times: look at them "
            "as rough figures."
        )
    return told


def _sentence(row: Mapping[str, Any], level: float) -> str:
    pair = f"{row['run']} against {row['first']}"
    change = row["accuracy_change"]
    if change is None:
        return f"{pair}: no test can be made, as {row['why']}."
    test, flips = row["mcnemar"], row["flips"]
    clear = test["p_holm"] < 1 - level
    verdict = "a difference beyond chance" if clear else "no difference could be shown"
    return (
        f"{pair}: {points(change['mean'])} points of accuracy ({100 * level:.0f} % interval "
        f"{span(change)}), {verdict} (McNemar's test, p = {test['p_holm']:.2g}); "
        f"{percent(flips['negative']['mean'])} of the examples newly wrong, "
        f"{percent(flips['positive']['mean'])} newly right, "
        f"{percent(row['agreement'])} answered alike."
    )


def _accuracy(run: Mapping[str, Any]) -> str:
    ends = run["accuracy_interval"]
    if run["accuracy"] is None or ends is None:
        return _share(run["accuracy"])
    return f"{percent(run['accuracy'])} ({100 * ends['low']:.1f} to {100 * ends['high']:.1f})"


def _gain(run: Mapping[str, Any]) -> str:
    return "–" if run["gain"] is None else f"{points(run['gain']['mean'])} ({span(run['gain'])})"


def _latency(run: Mapping[str, Any]) -> str:
    found = run["latency"]
    return f"{milliseconds(found['p50'])} ({milliseconds(found['p99'])}), {threads(found)}"


def _gates(run: Mapping[str, Any]) -> str:
    if not run["gates"]:
        return "none set"
    failed = run["gates_failed"]
    return f"failed: {listing(failed)}" if failed else f"all {run['gates']} passed"


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)
