"""Commands of recipes: run, check, cache; and what there is to choose from."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from tutelage.cli.app import Recipe, Set, app, first, hold_to_gates, stop


@app.command()
def run(
    recipe: Recipe,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; runs/NAME by default.", show_default=False),
    ] = None,
    set_: Set = None,
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
        stop(f"stopped. {begun}", 130)
    except Interrupted as error:
        stop(f"{error} Go on with: {again}", 130)
    if first():
        typer.echo(f"\n{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")
    hold_to_gates(result.report)


@app.command()
def check(recipe: Recipe, set_: Set = None) -> None:
    """Try a recipe on one batch: files, shapes, features, loss scales, time and memory."""
    from tutelage.recipe.reading import assign, read

    data = assign(read(recipe), set_ or [])

    from tutelage.cli.checked import show
    from tutelage.recipe.check import check as look

    show(look(data))


@app.command()
def cache(
    recipe: Recipe,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The cache's folder, instead of teacher.cache.folder.", show_default=False
        ),
    ] = None,
    set_: Set = None,
) -> None:
    """Ask a recipe's teacher ahead for all answers that its students need, and keep them."""
    from tutelage.recipe.reading import assign, read

    data = assign(read(recipe), set_ or [])

    from tutelage.cli.cached import build
    from tutelage.core.errors import Interrupted

    try:
        build(data, out)
    except (KeyboardInterrupt, Interrupted):
        stop("stopped. The answers kept so far stay: the same command goes on from there.", 130)


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
