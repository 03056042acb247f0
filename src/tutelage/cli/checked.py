"""What ``tutelage check`` prints."""

from rich.console import Console
from rich.table import Table

from tutelage.evaluation import parameters
from tutelage.evaluation.wording import percent, size
from tutelage.recipe.check import Checked


def show(found: Checked) -> None:
    """Tables of networks and loss terms, and the estimates."""
    console, made = Console(), found.plan
    splits = made.splits
    console.print(
        f"data {splits.name}: {len(splits.train):,} to learn from, {len(splits.validation):,} "
        f"for validation, {len(splits.test):,} for the report; examples "
        f"{'x'.join(map(str, splits.train.example_shape))}, {len(splits.classes)} classes"
    )
    networks = Table("network", "what", "parameters", "where from")
    teacher, student = made.teacher.make(0), made.student(0)
    origin = "given" if made.teacher.given else "trained first"
    if found.teacher is not None:
        origin += f", {percent(found.teacher)} on validation"
    networks.add_row("teacher", made.teacher.shown, f"{parameters(teacher).total:,}", origin)
    networks.add_row(
        "student",
        str(made.recipe["student"]["model"]),
        f"{parameters(student).total:,}",
        f"{len(made.seeds)} seed{'s' if len(made.seeds) > 1 else ''}",
    )
    console.print(networks)
    terms = Table("term", "value at step 0", "gradient norm", "share")
    for share in found.shares:
        terms.add_row(
            share.term, f"{share.value:.4g}", f"{share.gradient:.4g}", percent(share.share)
        )
    console.print(terms)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found.seconds.items())
    console.print(
        f"estimated time here and now: {stages}; in all {sum(found.seconds.values()):.0f} s"
    )
    console.print(f"memory at its peak so far: {size(found.memory)}")
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}", highlight=False)
    if not found.warnings:
        console.print("[green]nothing looks wrong.[/green]")
