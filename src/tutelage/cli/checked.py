"""What ``tutelage check`` prints."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tutelage.data import Splits
from tutelage.evaluation import parameters
from tutelage.evaluation.language import reads_tokens
from tutelage.evaluation.wording import percent, size
from tutelage.recipe.check import Checked
from tutelage.recipe.measures import shown


def _kind(splits: Splits) -> str:
    shape = "x".join(map(str, splits.train.example_shape))
    if reads_tokens(splits.train):
        return f"rows of {shape} tokens, {splits.train.vocabulary:,} different ones"
    return f"examples {shape}, {len(splits.classes)} classes"


def show(found: Checked) -> None:
    """Tables of networks and loss terms, and the estimates."""
    console, splits = Console(highlight=False, markup=False), found.plan.splits
    console.print(
        f"data {splits.name}: {len(splits.train):,} to learn from, {len(splits.validation):,} "
        f"for validation, {len(splits.test):,} for the report; {_kind(splits)}"
    )
    console.print(_networks(found))
    terms = Table("term", "value at step 0", "gradient norm", "share")
    for share in found.shares:
        terms.add_row(
            Text(share.term), f"{share.value:.4g}", f"{share.gradient:.4g}", percent(share.share)
        )
    if found.shares:
        console.print(terms)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found.seconds.items())
    console.print(
        f"estimated time here and now: {stages}; in all {sum(found.seconds.values()):.0f} s"
    )
    console.print(f"memory at its peak so far: {size(found.memory)}")
    for warning in found.warnings:
        console.print(f"warning: {warning}", style="yellow", soft_wrap=True)
    if not found.warnings:
        console.print("nothing looks wrong.", style="green")


def _networks(found: Checked) -> Table:
    made = found.plan
    teacher = made.teacher.make(made.teacher.seed)
    student = made.learning(made.seeds[0], teacher)
    away = made.teacher.server is not None
    origin = "behind a server" if away else "given" if made.teacher.given else "trained first"
    if found.teacher is not None:
        origin += f", {shown(found.teacher, found.plan.splits.validation)} on validation"
    seeds = f"{len(made.seeds)} seed{'s' if len(made.seeds) > 1 else ''}"
    table = Table("network", "what", "parameters", "where from")
    for role, what, model, source in (
        ("teacher", made.teacher.shown, teacher, origin),
        ("student", made.shown, student, seeds),
    ):
        count = "not known" if away and role == "teacher" else f"{parameters(model).total:,}"
        table.add_row(role, Text(what), count, source)
    return table
