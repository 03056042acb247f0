"""What ``tutelage bench`` shows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.core.errors import RecipeError
from tutelage.evaluation.costs.limits import Conditions, preset
from tutelage.evaluation.wording import BACKENDS, large, milliseconds, size, times
from tutelage.recipe.benching import bench_words

_MOST = 8192  # examples at once, or threads: beyond it a slip of the finger


def work(
    models: Sequence[str],
    data: str | None,
    batch: str | None,
    threads: str | None,
    preset_: str | None,
    *,
    seconds: float,
    as_json: bool,
) -> None:
    """Do what was typed; with ``as_json`` nothing but JSON is printed.

    Args:
        models: Words for models.
        data: Words for the data, if any.
        batch: Numbers with commas between them.
        threads: Numbers with commas between them.
        preset_: A name of limits, instead of both.
        seconds: For the warm calls.
        as_json: Whether a program reads on.
    """
    conditions = _conditions(batch, threads, preset_)
    if not 0 < seconds <= 86_400:
        raise RecipeError(f"--seconds is {seconds:g}: give a number above 0, of a day at most.")
    console = Console(highlight=False, markup=False)
    with Console(stderr=True, highlight=False, markup=False).status("loading") as line:
        found = bench_words(
            models, data, conditions, seconds=seconds, told=lambda words: line.update(words)
        )
    if as_json:
        console.file.write(json.dumps(found, indent=1, allow_nan=False) + "\n")
    else:
        show(found, console)


def show(found: Mapping[str, Any], console: Console) -> None:
    """Two tables: cold with sizes, and warm; then what must be known beside."""
    named = f"{found['preset']}: " if found["preset"] else ""
    console.print(
        f"{named}{found['limits']}; {found['cores']} cores may be used. Asked: {found['data']}.",
        soft_wrap=True,
    )
    first = found["models"][0]["name"]
    for number, one in enumerate(found["models"], 1):
        console.print(_line(number, one), soft_wrap=True)
    several = len(found["models"]) > 1
    console.print(_cold(found["models"]))
    console.print(_warm(found["models"]))
    if several:
        console.print(f"In brackets: this figure divided by that of 1, {first}.", soft_wrap=True)
    for note in found["notes"]:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)


def numbers(words: str, option: str) -> tuple[int, ...]:
    """Whole numbers with commas between them, each once.

    >>> numbers("1,8, 32", "--batch")
    (1, 8, 32)

    Raises:
        RecipeError: They are none, or out of bounds.
    """
    parts = [part.strip() for part in words.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= _MOST for part in parts):
        raise RecipeError(
            f"{option} is {words!r:.80}: give whole numbers from 1 to {_MOST} with commas between "
            "them, like 1,8,32."
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def _conditions(batch: str | None, threads: str | None, preset_: str | None) -> Conditions:
    if preset_ is not None:
        if batch is not None or threads is not None:
            raise RecipeError(
                "--preset sets batch and threads: leave --batch and --threads out, or the preset."
            )
        return preset(preset_)
    usual = Conditions()
    return Conditions(
        usual.batches if batch is None else numbers(batch, "--batch"),
        usual.threads if threads is None else numbers(threads, "--threads"),
    )


def _line(number: int, one: Mapping[str, Any]) -> Text:
    backend = BACKENDS["onnxruntime" if one["format"] == "onnx" else one["format"]]
    return Text(f"{number}  {one['name']} ({backend}, {_count(one)} parameters)")


def _count(one: Mapping[str, Any]) -> str:
    return "unknown" if one["parameters"] is None else large(one["parameters"])


def _cold(models: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("", "file", "memory", "import", "load", "first answer")
    table.title = f"Cold: fresh processes, threads {models[0]['cold']['threads']}"
    table.title_justify = "left"
    for number, one in enumerate(models, 1):
        cold, ratios = one["cold"], one["ratios"]
        table.add_row(
            f"{number}",
            _with(size(one["file_bytes"]), ratios["file_bytes"], number),
            _with(size(cold["memory_bytes"]), ratios["cold"]["memory_bytes"], number),
            *(
                _with(_time(cold[key]), ratios["cold"][key], number)
                for key in ("import_ms", "load_ms", "first_ms")
            ),
        )
    return table


def _warm(models: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("threads", "batch", "", "p50", "p90", "p99", "a second", "calls")
    table.title, table.title_justify = "Warm: models in turns, time of a call", "left"
    ways = dict.fromkeys((row["threads"], row["batch"]) for one in models for row in one["warm"])
    for threads, batch in ways:
        for number, one in enumerate(models, 1):
            for row, ratio in zip(one["warm"], one["ratios"]["warm"], strict=True):
                if (row["threads"], row["batch"]) == (threads, batch):
                    table.add_row(
                        f"{threads}", f"{batch}", f"{number}", *_cells(row, ratio, number)
                    )
    return table


def _cells(row: Mapping[str, Any], ratio: Mapping[str, Any], number: int) -> list[str]:
    return [
        *(_with(_time(row[key]), ratio[key], number) for key in ("p50", "p90", "p99")),
        f"{row['examples_per_second']:,.0f}",
        f"{row['calls']}",
    ]


def _time(value: float) -> str:
    """Milliseconds, or seconds where they are many.

    >>> _time(0.2134), _time(3120)
    ('0.213 ms', '3.12 s')
    """
    return milliseconds(value) if value < 1000 else f"{value / 1000:.2f} s"


def _with(figure: str, ratio: float | None, number: int) -> str:
    """The figure with its ratio: ``0.2 ms (1/12)`` is a twelfth of the first one's.

    >>> _with("0.2 ms", 0.0833, 2), _with("2 ms", 1.5, 2), _with("2 ms", 1.0, 1)
    ('0.2 ms (1/12)', '2 ms (1.50)', '2 ms')
    """
    if number == 1 or ratio is None or ratio <= 0:
        return figure
    return f"{figure} ({times(ratio) if ratio >= 1 else f'1/{times(1 / ratio)}'})"
