"""The command line. It loads torch only for commands that need it."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from tutelage import __version__

app = typer.Typer(
    name="tutelage",
    help="Distil neural networks: teach a small model what a large one knows, and prove it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# The base of typer's complaints about arguments: its own since 0.25, click's before.
_Misused: type[typer.BadParameter] = typer.BadParameter.__bases__[0]
_Recipe = Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)]
_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a value: train.epochs=3. May be repeated.", metavar="KEY=VALUE"
    ),
]

_MODEL = (
    "A run folder (FOLDER:teacher, FOLDER:baseline: its others), an .onnx file, or "
    "{model: NAME, weights: FILE}, here or in a YAML file."
)


@app.command()
def run(
    recipe: _Recipe,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; runs/NAME by default.", show_default=False),
    ] = None,
    set_: _Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
) -> None:
    """Do what a recipe says: teacher, baseline, student, report, export."""
    words = ["tutelage", "run", str(recipe)]
    words += [word for change in set_ or [] for word in ("--set", change)]
    words += ["--out", str(out)] if out else []
    again = shlex.join([*words, "--resume"])
    try:
        from tutelage.core.errors import Interrupted
        from tutelage.recipe.reading import assign, read

        data = assign(read(recipe), set_ or [])

        from rich.console import Console

        from tutelage.recipe.run import run as carry_out

        folder = out or Path("runs") / str(data.get("name"))
        result = carry_out(data, folder, console=Console(), resume=resume, command=words)
    except KeyboardInterrupt:
        begun = f"Go on with: {again}" if resume else "Nothing was written."
        _stop(f"stopped. {begun}", 130)
    except Interrupted as error:
        _stop(f"{error} Go on with: {again}", 130)
    if _first():
        typer.echo(f"\n{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    _hold_to_gates(result.report)


@app.command()
def evaluate(
    student: Annotated[str, typer.Argument(help=_MODEL, show_default=False)],
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
    set_: _Set = None,
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
    _hold_to_gates(done.report)


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
def check(recipe: _Recipe, set_: _Set = None) -> None:
    """Try a recipe on one batch: files, shapes, features, loss scales, time and memory."""
    from tutelage.recipe.reading import assign, read

    data = assign(read(recipe), set_ or [])

    from tutelage.cli.checked import show
    from tutelage.recipe.check import check as look

    show(look(data))


@app.command()
def cache(
    recipe: _Recipe,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The cache's folder, instead of teacher.cache.folder.", show_default=False
        ),
    ] = None,
    set_: _Set = None,
) -> None:
    """Ask a recipe's teacher ahead for all answers that its students need, and keep them."""
    from tutelage.recipe.reading import assign, read

    data = assign(read(recipe), set_ or [])

    from tutelage.cli.cached import build
    from tutelage.core.errors import Interrupted

    try:
        build(data, out)
    except (KeyboardInterrupt, Interrupted):
        _stop("stopped. The answers kept so far stay: the same command goes on from there.", 130)


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
    set_: _Set = None,
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
        _stop(f"--fail-on is {fail_on!r}, expected warning or notice.", 2)
    from tutelage.cli.audited import reached
    from tutelage.cli.audited import run as look_at

    made = look_at(what, set_ or [], out, as_json=as_json)
    if fail_on is not None and reached(made, fail_on):
        _stop(f"the audit found what --fail-on {fail_on} is for: see above.", 1)


@app.command()
def methods(
    name: Annotated[
        str | None, typer.Argument(help="One method, or one kind of them.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON list.")] = False,
) -> None:
    """List what there is to choose from: objectives, models, data, augmentations, schedules."""
    from tutelage.cli.methods import chosen, plain, show_all, show_one

    if as_json:
        typer.echo(json.dumps(plain(name), indent=1))
    elif name is None:
        show_all()
    else:
        found = chosen(name)
        if name == found[0].kind:
            show_all(found)
        else:
            show_one(found[0])


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tutelage {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """What holds for all commands."""


def main() -> NoReturn:
    """Run the command line.

    Exit status 0: done; 1: a gate failed, or a run diverged; 2: the input is wrong; 130: stopped.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        _stop("stopped.", 130)
    except _Misused as error:
        told = error.format_message()
        _stop(f"{told}{'' if told.endswith(('.', '?')) else '.'} See tutelage --help.", 2)
    except BrokenPipeError:  # `tutelage methods | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        _expected(error)
    raise SystemExit(code or 0)


def _expected(error: Exception) -> NoReturn:
    """One line for errors raised on purpose; others are bugs, and keep their traceback."""
    from tutelage.core.errors import Diverged, TeacherChanged, TutelageError

    if not isinstance(error, TutelageError):
        raise error
    _stop(str(error), 1 if isinstance(error, (Diverged, TeacherChanged)) else 2)


def _stop(message: str, code: int) -> NoReturn:
    if _first():
        sys.stdout.flush()
        typer.echo(f"tutelage: {' '.join(message.split())}", err=True)
    raise SystemExit(code)


def _hold_to_gates(report: dict[str, Any]) -> None:
    """Exit status 1 with what failed, where a gate was not passed."""
    failed = [gate for gate in report["gates"] if not gate["passed"]]
    told = [
        f"{g['name']} is {g['value']} ({g['rule']} {g['threshold']}): {g['evidence']}"
        for g in failed
    ]
    if told:
        _stop(f"gate failed: {'; '.join(told)}.", 1)


def _first() -> bool:
    """Whether this process speaks: of those that torchrun starts, the first one does."""
    return os.environ.get("RANK", "0") == "0"
