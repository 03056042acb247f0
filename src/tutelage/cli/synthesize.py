"""``tutelage synthesize``: its options, and what it prints."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.app import Recipe, Set, stop


def synthesize(
    plan: Recipe,
    out: Annotated[
        Path | None, typer.Option(help="The folder; else the plan's own.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a stopped run.")] = False,
    cost: Annotated[
        bool, typer.Option("--estimate", help="Say what it will cost at most, and ask nobody.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(help="The last stage to do.", metavar="STAGE", show_default=False),
    ] = None,
    set_: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Make examples: a teacher writes, judges and mends them, stage by stage."""
    words = ["tutelage", "synthesize", str(plan)]
    words += ["--out", str(out)] if out else []
    words += [word for change in set_ or [] for word in ("--set", change)]
    again = shlex.join([*words, "--resume"])
    try:
        from tutelage.recipe.reading import assign, read

        data = assign(read(plan), set_ or [])

        from tutelage.recipe.synthesizing import synthesis

        made = synthesis(data)
        if cost:
            _estimate(made.estimate(), as_json=as_json)
            return
        folder = out or (Path(made.plan.out) if made.plan.out else Path("data") / made.plan.name)
        facts = made.run(folder, resume=resume, until=until)
    except KeyboardInterrupt:
        stop(f"stopped. What was answered is kept. Go on with: {again}", 130)
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        _told(facts, folder)
    if facts["stopped"]:
        stop(f"stopped: {facts['stopped']}. Raise it, and go on with: {again}", 1)


def _estimate(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for row in [*found["stages"], {**found, "stage": "all"}]:
        typer.echo(
            f"{row['stage']}: {row['requests']:,} requests, {row['tokens_read']:,} tokens to read, "
            f"at most {row['tokens_written']:,} to write: {row['money']:,.2f} {found['currency']}"
        )


def _told(facts: dict[str, Any], folder: Path) -> None:
    for row in facts["stages"]:
        reasons = ", ".join(f"{count} {reason}" for reason, count in row["dropped"].items())
        lost = f"; dropped: {reasons}" if reasons else ""
        typer.echo(f"{row['stage']}: {row['came']} in, {row['left']} out{lost}")
    spent = facts["spent"]
    typer.echo(
        f"{facts['sent']} requests now, {spent['requests']} in all: {spent['tokens_read']:,} "
        f"tokens read, {spent['tokens_written']:,} written, {spent['money']:.2f} "
        f"{spent['currency']}"
    )
    typer.echo(f"{folder}: {', '.join(sorted(facts['files']))}, DATA_CARD.md, synthesis.json")
