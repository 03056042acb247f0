"""Commands that look at what is there: evaluate, compare, bench, audit."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.app import MODEL, Set, app, hold_to_gates, stop


@app.command()
def evaluate(
    student: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    data: Annotated[
        str,
        typer.Option(
            help="What they are asked: a source, {npz: {path: FILE}}, a recipe or a run folder.",
            show_default=False,
        ),
    ],
    teacher: Annotated[
        str | None, typer.Option(help="Whom it is compared with.", show_default=False)
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The same student, trained alone.", show_default=False)
    ] = None,
    report: Annotated[
        str, typer.Option(help="Parts of the proof: standard, full, none, or NAME,NAME.")
    ] = "standard",
    gate: Annotated[
        list[str] | None,
        typer.Option(
            help="What must be reached: accuracy_drop=0.01, or a recipe. May be repeated.",
            metavar="NAME=NUMBER",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where the report goes; evaluations/NAME by default.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    set_: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json alone.")] = False,
) -> None:
    """Put models that are there already on trial: run folders, ONNX files, weights."""
    from tutelage.cli.evaluated import work

    done = work(
        {"student": student, "teacher": teacher, "baseline": baseline},
        data,
        report,
        gate or [],
        set_ or [],
        out=out,
        force=force,
        as_json=as_json,
        command=shlex.join(["tutelage", *sys.argv[1:]]),
    )
    hold_to_gates(done.report)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders with a report.json; the first is the measure.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="As Markdown, for a pull request.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write to this file instead: .json or .md.", show_default=False),
    ] = None,
) -> None:
    """Runs side by side: figures, and what differs beyond chance on the same examples."""
    from tutelage.recipe.comparing import compare_runs

    found = compare_runs(runs)

    from tutelage.cli.compared import markdown, save, show

    if out is not None:
        save(found, out)
    elif as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
    elif as_markdown:
        typer.echo(markdown(found), nl=False)
    else:
        show(found)


@app.command()
def bench(
    models: Annotated[list[str], typer.Argument(help=f"{MODEL} The first is the measure.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="What they are asked; by default the data of the first run folder, or random "
            "numbers where all are ONNX files.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Examples in one call; 1,8,32 by default.", metavar="N,N")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Threads of an operation; 1 by default.", metavar="N,N")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Limits on this machine: one thread, batch 1; up to four threads, batch 1; or "
            "all cores, batches 1, 8 and 32.",
            metavar="phone|pi|server",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(help="For the warm calls of all models.")] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Measure models in use, side by side: latency warm and cold, throughput, memory, size."""
    from tutelage.cli.benched import work

    work(models, data, batch, threads, preset, seconds=seconds, as_json=as_json)


@app.command()
def audit(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|SOURCE",
            help="A recipe; or a data source, a name or '{name: {option: value}}'.",
            show_default=False,
        ),
    ],
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write audit.json, DATA_CARD.md and audit.html there.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="Exit status 1 where a warning (or a notice) was found.",
            metavar="warning|notice",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Look at data before the run: copies between splits, labels, balance, broken files."""
    if fail_on not in (None, "warning", "notice"):
        stop(f"--fail-on is {fail_on!r}, expected warning or notice.", 2)
    from tutelage.cli.audited import reached
    from tutelage.cli.audited import run as look_at

    made = look_at(what, set_ or [], out, as_json=as_json)
    if fail_on is not None and reached(made, fail_on):
        stop(f"the audit found what --fail-on {fail_on} is for: see above.", 1)
