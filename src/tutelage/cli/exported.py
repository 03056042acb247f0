"""``tutelage export``: its options, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.app import MODEL, stop


def export(
    model: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    to: Annotated[
        list[str],
        typer.Option(
            help="A format. May be repeated.",
            metavar="onnx|openvino|openvino_int8|torch|executorch",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder files go to.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Option(help="What files are checked on; the run's own data.", show_default=False),
    ] = None,
    of: Annotated[
        str,
        typer.Option(
            "--from", help="The torch student, or its student.onnx.", metavar="student|shipped"
        ),
    ] = "student",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Write a model in other formats, each seen to answer as the model does."""
    from tutelage.deployment.formats.formats import format_named
    from tutelage.recipe.exporting import export_words

    made = []
    names = [format_named(name).name for name in dict.fromkeys(to)]
    if len(names) == 1:
        made = export_words(model, names, out, data=data, of=of, force=force)
    else:  # the compilers of several formats end a process that they share
        given = [model, "--out", str(out), "--from", of, *(["--force"] if force else [])]
        given += [] if data is None else ["--data", data]
        for name in names:
            made += _alone([*given, "--to", name, "--json"])
    if as_json:
        typer.echo(json.dumps(made, indent=1))
        return
    for one in made:
        loss = one["accuracy_loss"]
        lost = "" if loss is None else "; accuracy lost {:.4f} [{:.4f}, {:.4f}]".format(*loss)
        typer.echo(
            f"{one['file']} ({one['format']}): {one['bytes']:,} bytes; largest difference "
            f"{one['max_difference']:.1e} of the largest logit, same answer for "
            f"{one['equal_top1']:.2%} of {one['examples']} validation examples{lost}."
        )


def _alone(words: list[str]) -> list[dict[str, Any]]:
    """The same command for one format, in a process of its own."""
    command = [sys.executable, "-m", "tutelage", "export", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}."]
        stop(lines[-1].removeprefix("tutelage: "), done.returncode if done.returncode > 0 else 1)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found
