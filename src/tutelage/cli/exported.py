"""``tutelage export``: its options, and what it prints."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.app import MODEL


def export(
    model: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            "--format",
            help="A format. May be repeated. GGUF is for language models.",
            metavar="onnx|openvino|openvino_int8|torch|executorch|gguf|gguf_f16|gguf_bf16|gguf_q8_0",
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
    from tutelage.recipe.exporting import export_words

    made = export_words(model, to, out, data=data, of=of, force=force)
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
