"""``tutelage package`` and ``tutelage verify``: their options, and what they print."""

from pathlib import Path
from typing import Annotated

import typer

_Key = Annotated[
    Path | None,
    typer.Option(
        help="A file of at least 32 secret bytes (HMAC-SHA256), or an Ed25519 key in PEM.",
        show_default=False,
    ),
]


def _licence(of: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        help=f"The licence of the {of}, where the cards do not state it.", show_default=False
    )
    return option


def package(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="What to make: NAME.zip, or a folder.", show_default=False)
    ],
    key: _Key = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a package that is there.")
    ] = False,
    with_weights: Annotated[
        bool,
        typer.Option("--with-weights", help="Put the full weights beside a compressed file, too."),
    ] = False,
    licence_student: Annotated[str | None, _licence("student")] = None,
    licence_teacher: Annotated[str | None, _licence("teacher")] = None,
    licence_data: Annotated[str | None, _licence("data")] = None,
) -> None:
    """Put a run's student, its cards, lists and checksums into one package, and sign it."""
    from tutelage.recipe.packaging import package_run

    given = {"student": licence_student, "teacher": licence_teacher, "data": licence_data}
    checked = package_run(
        run,
        out,
        key=key,
        force=force,
        weights=with_weights,
        licences={role: licence for role, licence in given.items() if licence is not None},
    )
    typer.echo(f"{out}: {checked.files} files, {checked.bytes:,} bytes: {checked.signature}.")


def verify(
    package: Annotated[
        Path, typer.Argument(help="A package: a .zip or a folder.", show_default=False)
    ],
    key: _Key = None,
) -> None:
    """Check a package: files, checksums, signature, and that its models load and answer."""
    from tutelage.deployment.verify import verify as check

    checked = check(package, key)
    typer.echo(
        f"{package} is whole: {checked.files} files, {checked.bytes:,} bytes; run "
        f"{checked.name} ({checked.identity[:12]}), packed {checked.date} by tutelage "
        f"{checked.version}.\n"
        f"Its models load and answer finite numbers ({', '.join(checked.models)}).\n"
        f"Signature: {checked.signature}."
    )
