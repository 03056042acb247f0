"""``tutelage monitor``: its options, and what it prints."""

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from tutelage.deployment.registry import Registry
    from tutelage.recipe.watched import Asked, Watched
    from tutelage.recipe.watching import Watch

_SHOWN = 8
_WORDS = re.compile(r"(?!.*\.zip$)[\w.-]{1,64}([@/][\w.-]{1,64})?")  # of the registry
_RULE = re.compile(r"(\d+)(?:/(\d+))?")


def monitor(
    package: Annotated[
        str,
        typer.Argument(
            help="A package, a run folder, or registry words with --registry.", show_default=False
        ),
    ],
    traffic: Annotated[
        Path, typer.Option(help="The folder of the traffic log.", show_default=False)
    ],
    registry: Annotated[
        str | None, typer.Option(help="Home of a registry, or its URI.", show_default=False)
    ] = None,
    window: Annotated[int, typer.Option(help="Examples in a window.")] = 500,
    false_alarms: Annotated[
        float, typer.Option(help="Share of undrifted windows that may raise an alarm.")
    ] = 0.01,
    rule: Annotated[
        str, typer.Option(help="K/M: alarm where K of the newest M windows exceed the level.")
    ] = "1/1",
    labels: Annotated[
        Path | None,
        typer.Option(
            help="CSV: time,label, or label,predicted[,confidence,version].", show_default=False
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Asked about kept inputs: RUN:teacher or an .onnx file.", show_default=False
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="A reference.safetensors beside the package.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that needs nothing else.", show_default=False)
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="What follows from an alarm (YAML).", show_default=False)
    ] = None,
    follow: Annotated[
        float | None,
        typer.Option(help="Look again every so many seconds, until stopped.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures as JSON.")] = False,
) -> None:
    """Compare a served model's traffic with its reference: exit status 0 quiet, 1 alarm."""
    from tutelage.core.errors import RecipeError
    from tutelage.recipe.watched import Asked

    needed, of = _rule(rule)
    if follow is not None and not follow > 0:
        raise RecipeError(f"--follow: {follow:g} was given: seconds above 0 are needed.")
    asked = Asked(window, false_alarms, needed, of, labels, teacher)
    look = _Look(package, traffic, registry, asked, reference, html, policy, as_json)
    while True:
        alarm = look.once(following=follow is not None)
        if follow is None:
            break
        time.sleep(follow)
    raise typer.Exit(1 if alarm else 0)


class _Look:
    """One look after the other, with levels drawn once for each version."""

    def __init__(
        self,
        package: str,
        traffic: Path,
        registry: str | None,
        asked: "Asked",
        reference: Path | None,
        html: Path | None,
        policy: Path | None,
        as_json: bool,
    ):
        from tutelage.monitoring.policy import policy_of
        from tutelage.recipe.reading import read

        self._package, self._traffic, self._asked = package, traffic, asked
        self._reference, self._html, self._as_json = reference, html, as_json
        self._policy = None if policy is None else policy_of(read(policy))
        goes_back = self._policy is not None and self._policy.do == "rollback"
        asked_for = registry is not None or goes_back or not Path(package).exists()
        self._registry = _registry(registry, package) if asked_for else None
        self._watch: Watch | None = None
        self._folder: Path | None = None

    def once(self, *, following: bool) -> bool:
        """Look, say what was found, and do what the policy asks for; whether it is an alarm."""
        from rich.console import Console

        from tutelage.monitoring.actions import LOG, read_actions

        found, watch = self._look(following)
        done = self._act(found)
        console = Console(highlight=False, markup=False)
        if self._html is not None:
            from tutelage.recipe.watched_page import page

            _write(self._html, page(found, watch.reference, read_actions(self._traffic / LOG)))
        if self._as_json:
            text = json.dumps({**found.as_dict(), "action": done}, allow_nan=False)
            console.file.write(text + "\n")
        else:
            show(found, done, console)
            if self._html is not None:
                console.print(str(self._html), soft_wrap=True)
        return found.alarm

    def _look(self, following: bool) -> "tuple[Watched, Watch]":
        from tutelage.recipe.watching import Watch

        folder, name = Path(self._package), ""
        if self._registry is not None and not folder.exists():
            version = self._registry.resolve(self._package)
            folder, name = version.folder, version.words
        if self._watch is None or folder != self._folder:
            self._watch = Watch(folder, self._asked, self._reference, name)
            self._folder = folder
        return self._watch.look(self._traffic, empty=following), self._watch

    def _act(self, found: "Watched") -> dict[str, Any] | None:
        from tutelage.core.errors import RecipeError
        from tutelage.monitoring.actions import LOG, act

        if self._policy is None:
            return None
        rollback: Callable[[str, str], str] | None = None
        if self._registry is not None:
            registry = self._registry

            def rollback(name: str, why: str) -> str:
                now = registry.resolve(name)
                if not now.digest.startswith(found.evidence.version[:12]):
                    raise RecipeError(
                        f"production of {name} is {now.digest[:12]} by now, and not the version "
                        f"with the alarm, {found.evidence.version[:12]}: it stays as it is."
                    )
                return str(registry.rollback(name, why=why).digest)

        return act(self._policy, found.evidence, self._traffic / LOG, rollback=rollback)


def show(found: "Watched", done: dict[str, Any] | None, console: "Console") -> None:
    """Print the verdict, the tests that moved most, and what was done."""
    from rich.table import Table
    from rich.text import Text

    from tutelage.recipe.watched_page import figures_of, verdict_words

    style = "bold red" if found.alarm else "bold"
    console.print(Text(f"{found.subject.name}: {verdict_words(found).lower()}", style=style))
    table = Table(box=None, pad_edge=False)
    advice: dict[str, None] = {}
    for head in ("looked at", "statistic", "found", "threshold", ""):
        table.add_column(head, overflow="fold")
    for windows in found.series.values():
        for one in windows[-1].findings[:_SHOWN] if windows else ():
            mark = Text("▲ alarm", style="bold red") if one.alarm else Text("")
            table.add_row(one.what, one.statistic, *figures_of(one), mark)
            if one.alarm:
                advice[one.advice] = None
    if table.row_count:
        console.print(table)
    for note in (*advice, *found.notes):
        console.print(note)
    if done is not None:
        console.print(f"policy: {done['do']}: {done['why']} ({done['result'] or 'nothing done'})")


def _rule(text: str) -> tuple[int, int]:
    from tutelage.core.errors import RecipeError

    match = _RULE.fullmatch(text)
    needed, of = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= needed <= of <= 40:
        raise RecipeError(f"--rule: got {text!r:.40}: write K/M, such as 2/3.")
    return needed, of


def _registry(words: str | None, package: str) -> "Registry":
    from tutelage.core.errors import RecipeError
    from tutelage.deployment.registry import Registry

    if not Path(package).exists() and not _WORDS.fullmatch(package):
        raise RecipeError(f"there is no package {package!r:.200}: check its path.")
    return Registry.at(words)


def _write(path: Path, text: str) -> None:
    from tutelage.core.errors import RecipeError

    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise RecipeError(
            f"--html: {path} cannot be written ({error.strerror}): choose another place."
        ) from error
