"""The command line. It loads torch only for commands that need it."""

import os
import sys
from typing import Annotated, NoReturn

import typer

import tutelage.cli.runs
import tutelage.cli.trials  # noqa: F401  # their commands
from tutelage import __version__
from tutelage.cli import exported, packaged, registered, served, watched
from tutelage.cli.app import app, stop
from tutelage.cli.synthesize import synthesize

# The base of typer's complaints about arguments: its own since 0.25, click's before.
_Misused: type[typer.BadParameter] = typer.BadParameter.__bases__[0]

app.command()(packaged.package)
app.command()(packaged.verify)
app.command()(exported.export)
app.add_typer(registered.registry)
app.command()(registered.track)
app.command()(watched.monitor)
app.command()(served.serve)
app.command()(synthesize)


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

    Exit status 0: done; 1: a gate failed, a run diverged, a promotion was refused, a package is not
    whole, or traffic drifted; 2: the input is wrong; 130: stopped.
    """
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        stop("stopped.", 130)
    except _Misused as error:
        told = error.format_message()
        stop(f"{told}{'' if told.endswith(('.', '?')) else '.'} See tutelage --help.", 2)
    except BrokenPipeError:  # `tutelage methods | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        _expected(error)
    raise SystemExit(code or 0)


def _expected(error: Exception) -> NoReturn:
    """One line for errors raised on purpose; others are bugs, and keep their traceback."""
    from tutelage.core.errors import Diverged, PackageError, TeacherChanged, TutelageError

    if not isinstance(error, TutelageError):
        raise error
    failed = isinstance(error, (Diverged, PackageError, TeacherChanged))
    stop(str(error), 1 if failed else 2)
