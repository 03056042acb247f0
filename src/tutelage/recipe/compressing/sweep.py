"""The whole of ``compress``: steps made, measured, one chosen and put at ``shipped.onnx``."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import CheckpointError
from tutelage.evaluation import Predictions, predict
from tutelage.evaluation.fidelity import agreement, negative_flip_rate, positive_flip_rate
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.metrics import right
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.wording import percent, points, span
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.compressing.choosing import best, gate, limits_of, preferred
from tutelage.recipe.compressing.making import Workshop
from tutelage.recipe.compressing.measuring import difference, points_of
from tutelage.recipe.compressing.planning import steps
from tutelage.recipe.compressing.tree import STUDENT
from tutelage.recipe.plan import Plan
from tutelage.recipe.teaching import Taught

SHIPPED = "shipped.onnx"
_STAGE = "compress"


@dataclass(frozen=True)
class Compressed:
    """What a sweep came to.

    Attributes:
        facts: Plain data, as ``report.json`` holds it under ``compression``.
        file: The file that was chosen; None where none is within the budget.
    """

    facts: dict[str, Any]
    file: Path | None


def compress(made: Plan, taught: Taught, student: Trained, desk: Desk) -> Compressed:
    """Make all files, measure them on validation, and choose one; the test set stays closed.

    A sweep that was finished before is taken from the run's folder as it was measured then.

    Raises:
        CheckpointError: A finished sweep has lost the file that it chose.
    """
    assert made.compress is not None
    assert desk.folder is not None
    found = desk.folder.finished(_STAGE)
    if found is None:
        found = _sweep(made, taught, student, desk)
        if found["chosen"] is not None:
            _ship(desk.folder.path / found["file"], desk.folder.path / SHIPPED)
        desk.folder.finish(_STAGE, found)
    desk.say(_said(found))
    file = None if found["chosen"] is None else desk.folder.path / SHIPPED
    if file is not None and not file.is_file():
        raise CheckpointError(
            f"{file} is gone: remove {desk.folder.stage(_STAGE)} to choose it again, and go on "
            "with --resume."
        )
    return Compressed(found, file)


def on_test(shipped: Path, student: Predictions, teacher: Predictions, test: Any) -> dict[str, Any]:
    """The chosen file on the test set, asked once, beside the answers of student and teacher.

    Returns:
        ``accuracy`` with its interval, and against each of the two ``accuracy_change`` (the
        file's minus theirs, Newcombe), ``agreement``, ``negative_flip_rate`` and
        ``positive_flip_rate``.
    """
    answers = predict(OnnxModel(shipped), test)
    hits = right(answers.logits, answers.targets)
    against = {}
    for role, other in (("student", student), ("teacher", teacher)):
        both = other.logits, answers.logits
        against[role] = {
            "accuracy_change": difference(hits, right(other.logits, other.targets)),
            "agreement": agreement(*both),
            "negative_flip_rate": negative_flip_rate(*both, other.targets),
            "positive_flip_rate": positive_flip_rate(*both, other.targets),
        }
    return {
        "examples": len(hits),
        "accuracy": wilson(int(hits.sum()), len(hits)).as_dict(),
        "against": against,
    }


def notes(found: Mapping[str, Any] | None) -> list[str]:
    """What a reader of the report must know of it; nothing where there was no sweep."""
    if found is None:
        return []
    healed = [stage["healed"] for point in found["points"] for stage in point["stages"][-1:]]
    seconds = sum(each["seconds"] for each in healed if each is not None)
    took = f" Healing took {seconds:.0f} s." if seconds else ""
    if found["chosen"] is None:
        return [f"No smaller file is shipped: {found['gate']['evidence']}.{took}"]
    change, share = found["test"]["against"]["student"], found["test"]["accuracy"]["mean"]
    return [
        f"{SHIPPED} is the file {found['chosen']}: {percent(share)} on the test examples, "
        f"{points(change['accuracy_change']['mean'])} points ({span(change['accuracy_change'])}) "
        f"against the student it was made of.{took}"
    ]


def _sweep(made: Plan, taught: Taught, student: Trained, desk: Desk) -> dict[str, Any]:
    assert made.compress is not None
    nodes = steps(made)
    shop = Workshop(made, taught, student, desk)
    desk.say(f"compressing: {len(made.compress.ways)} ways, {len(nodes)} files")
    shop.make_all(nodes)
    files = {name: shop.path(name) for name in shop.facts}
    measured = points_of(files, STUDENT, made.splits.validation)
    found = [
        {**point, "file": str(files[point["name"]].relative_to(shop.folder)), **facts}
        for point, facts in zip(measured, shop.facts.values(), strict=True)
    ]
    limits, prefer = limits_of(made.compress.budget), preferred(made.compress)
    name = best(found, limits, prefer)
    chosen = next((point for point in found if point["name"] == name), None)
    return {
        "points": found,
        "failed": shop.failed,
        "budget": limits,
        "prefer": prefer,
        "chosen": name,
        "file": None if chosen is None else chosen["file"],
        "validation": len(made.splits.validation),
        "gate": gate(found, limits, prefer),
        "test": None,
    }


def _ship(source: Path, target: Path) -> None:
    """Copy a file so that it is there whole or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with source.open("rb") as given, temporary.open("wb") as written:
            shutil.copyfileobj(given, written)
            written.flush()
            os.fsync(written.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _said(found: dict[str, Any]) -> str:
    """One line for people."""
    evidence = found["gate"]["evidence"]
    if found["chosen"] is None:
        return f"compressing: {evidence}"
    return f"compressing: {found['chosen']} is shipped: {evidence}"
