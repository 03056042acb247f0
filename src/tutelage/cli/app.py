"""What all commands share: the application, words that several take, and how a command ends."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(
    name="tutelage",
    help="Distil neural networks: teach a small model what a large one knows, and prove it.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Recipe = Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change a value: train.epochs=3. May be repeated.", metavar="KEY=VALUE"
    ),
]

MODEL = (
    "A run folder (FOLDER:teacher, FOLDER:baseline: its others), an .onnx file, or "
    "{model: NAME, weights: FILE}, here or in a YAML file."
)


def stop(message: str, code: int) -> NoReturn:
    """End with one line on stderr."""
    if first():
        sys.stdout.flush()
        typer.echo(f"tutelage: {' '.join(message.split())}", err=True)
    raise SystemExit(code)


def hold_to_gates(report: dict[str, Any]) -> None:
    """Exit status 1 with what failed, where a gate was not passed."""
    failed = [gate for gate in report["gates"] if not gate["passed"]]
    told = [
        f"{g['name']} is {g['value']} ({g['rule']} {g['threshold']}): {g['evidence']}"
        for g in failed
    ]
    if told:
        stop(f"gate failed: {'; '.join(told)}.", 1)


def first() -> bool:
    """Whether this process speaks: of those that torchrun starts, the first one does."""
    return os.environ.get("RANK", "0") == "0"
