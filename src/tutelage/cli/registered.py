"""``tutelage registry ...`` and ``tutelage track``: their options."""

from pathlib import Path
from typing import Annotated

import typer

registry = typer.Typer(
    name="registry",
    help="Versions of models: add, promote through gates, roll back; kept by MLflow.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Where = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="HOME_OR_URI",
        help="A folder, http://HOST:PORT of an MLflow server, or sqlite:////FILE; "
        "$TUTELAGE_REGISTRY by default.",
        show_default=False,
    ),
]
_Name = Annotated[str, typer.Argument(help="Of the model.", show_default=False)]
_Number = Annotated[int, typer.Argument(help="Of the version.", min=1, show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


@registry.command("list")
def list_(where: _Where = None, as_json: _Json = False) -> None:
    """All models: how many versions, and which one is in production."""
    from tutelage.cli.registry_shown import models

    models(where, as_json)


@registry.command()
def show(
    words: Annotated[
        str, typer.Argument(metavar="NAME[@ALIAS|/NUMBER]", help="A model or one version of it.")
    ],
    where: _Where = None,
    as_json: _Json = False,
) -> None:
    """A model's versions and history; or where one version comes from, and its figures."""
    from tutelage.cli.registry_shown import shown

    shown(words, where, as_json)


@registry.command()
def add(
    name: _Name,
    package: Annotated[
        Path, typer.Argument(help="A package: a .zip or a folder.", show_default=False)
    ],
    key: Annotated[
        Path | None, typer.Option(help="What it must be signed with.", show_default=False)
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="A name for it, like candidate.", show_default=False)
    ] = None,
    where: _Where = None,
) -> None:
    """Check a package and keep it as a new version; the same package is the same version."""
    from tutelage.deployment.registry import Registry

    with Registry.at(where) as opened:
        version, new = opened.adding(name, package, key=key, alias=alias)
    how = "is new" if new else "was there already"
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    typer.echo(
        f"{version.words}{aliases} {how}: package {version.digest[:12]}, student "
        f"{version.lineage['student']['sha256'][:12]}; {version.lineage['signature']}."
    )


@registry.command()
def promote(
    name: _Name,
    number: _Number,
    alias: Annotated[str, typer.Option(help="What is to point to it.")] = "production",
    data: Annotated[
        str | None,
        typer.Option(
            help="Whose test split decides: a source, a recipe or a run folder; the data of the "
            "version's own recipe by default.",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Over the usual ones: negative_flips={at_most: 0.02, by: shown} and "
            "accuracy_drop={at_most: 0, by: not_refuted}. May be repeated.",
        ),
    ] = None,
    without_gates: Annotated[
        str | None,
        typer.Option(metavar="WHY", help="Ask no gate, and say why: it stays.", show_default=False),
    ] = None,
    where: _Where = None,
    as_json: _Json = False,
) -> None:
    """Hold a version against the one in production, and put it in its place if it passes."""
    from tutelage.cli.promoted import work

    work(name, number, alias, data, gate or [], without_gates, where=where, as_json=as_json)


@registry.command()
def rollback(
    name: _Name,
    why: Annotated[str, typer.Option(help="It stays in the history.", show_default=False)] = "",
    alias: Annotated[str, typer.Option(help="Which alias goes back.")] = "production",
    where: _Where = None,
) -> None:
    """Go back to the version that was in production before; again: further back."""
    from tutelage.deployment.registry import Registry

    with Registry.at(where) as opened:
        held = {a: each.number for each in opened.versions(name) for a in each.aliases}
        version = opened.rollback(name, alias=alias, why=why)
    typer.echo(f"{alias} of {name}: {held.get(alias)} -> {version.number}.")


def track(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    where: _Where = None,
) -> None:
    """Write finished runs into MLflow: recipe, curves, figures and report; each once."""
    from tutelage.deployment.registry import Registry
    from tutelage.recipe.tracking import track_run

    with Registry.at(where) as opened:
        for run in runs:
            number, new = track_run(run, opened)
            typer.echo(f"{run}: MLflow run {number}{'' if new else ', which was there already'}.")
