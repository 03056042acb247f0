"""Runs side by side: their figures, and what is beyond doubt between them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError, RecipeError
from tutelage.evaluation import Predictions, agreement, mcnemar, newcombe, right, wilson
from tutelage.evaluation.answers import Kept, load_answers
from tutelage.evaluation.metrics import broken
from tutelage.evaluation.schema import validate_report

_LEVEL = 0.95


@dataclass(frozen=True)
class Reported:
    """A folder with a report.

    Attributes:
        folder: Where it is.
        report: As in ``report.json``.
        kept: What its models answered; None where the folder does not hold it.
    """

    folder: Path
    report: Mapping[str, Any]
    kept: Kept | None


def compare_runs(folders: Sequence[Path]) -> dict[str, Any]:
    """Every run's figures, and each later run against the first one.

    Args:
        folders: Of ``tutelage run`` or ``tutelage evaluate``, at least two; the first one is what
            the others are held against.

    Returns:
        ``runs``: figures of each, as plain data; ``against_first``: of each later run the change
        of accuracy with its interval, McNemar's test (``p_holm`` allows for several runs), flips
        and agreement of the two students. Where a folder keeps no answers, these are null and
        ``why`` says so.

    Raises:
        RecipeError: Fewer than two folders, or one twice.
        DataError: A folder holds no report, or they are on different test examples.
    """
    if len(folders) < 2:
        raise RecipeError(f"{len(folders)} run was named: name at least two to compare.")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise RecipeError(f"{folder} is named twice: name different runs.")
    runs = [_reported(folder) for folder in folders]
    names = _names(folders)
    for other in runs[1:]:
        _same_test(runs[0], other)
    against = [
        {"run": name, "first": names[0], **_against(runs[0], other)}
        for name, other in zip(names[1:], runs[1:], strict=True)
    ]
    _allow_for_several(against)
    return {
        "runs": [_figures(name, run) for name, run in zip(names, runs, strict=True)],
        "against_first": against,
        "level": _LEVEL,
    }


def _reported(folder: Path) -> Reported:
    path = folder / "report.json"
    if not path.is_file():
        raise DataError(
            f"there is no report in {str(folder)!r}: name folders that 'tutelage run' or 'tutelage "
            "evaluate' made (they hold report.json)."
        )
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        validate_report(report)
    except (ValueError, DataError) as error:
        raise DataError(f"{path} is no report of this program: {error}") from error
    return Reported(folder, report, load_answers(folder))


def _names(folders: Sequence[Path]) -> list[str]:
    """Their last words, or their whole paths where these are the same."""
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _same_test(first: Reported, other: Reported) -> None:
    mine, theirs = first.report["data"], other.report["data"]
    place = f"{first.folder} and {other.folder} were tested on different examples"
    remedy = "compare runs on one and the same test split"
    if mine["classes"] != theirs["classes"] or mine["test"] != theirs["test"]:
        raise DataError(
            f"{place} ({mine['test']:,} of {mine['name']}, {theirs['test']:,} of "
            f"{theirs['name']}): {remedy}."
        )
    if first.kept is None or other.kept is None:
        if mine["name"] != theirs["name"]:
            raise DataError(f"{place} ({mine['name']}, {theirs['name']}): {remedy}.")
        return
    one, two = (kept.models["student"] for kept in (first.kept, other.kept))
    if not torch.equal(one.ids, two.ids) or first.kept.fingerprint != other.kept.fingerprint:
        prints = f"{first.kept.fingerprint[:8]}, {other.kept.fingerprint[:8]}"
        raise DataError(f"{place} (fingerprints {prints}): {remedy}.")


def _figures(name: str, run: Reported) -> dict[str, Any]:
    report, models = run.report, run.report["models"]
    student, comparison = models["student"], report["comparison"]
    latency = student["latency_ms"]
    failed = [gate["name"] for gate in report["gates"] if not gate["passed"]]
    return {
        "name": name,
        "folder": str(run.folder),
        "student": student["name"],
        "seed": report["seed"],
        "seeds": len(comparison["seeds"]) or 1,
        **{key: student[key] for key in ("accuracy", "nll", "ece", "brier")},
        "accuracy_interval": student.get("accuracy_interval"),
        "teacher_accuracy": models["teacher"] and models["teacher"]["accuracy"],
        "baseline_accuracy": models["baseline"] and models["baseline"]["accuracy"],
        "gain": comparison["gain"],
        "agreement": comparison["agreement"],
        "negative_flip_rate": comparison["negative_flip_rate"],
        **{key: student[key] for key in ("parameters", "bytes", "macs")},
        "latency": dict(latency),
        "gates": len(report["gates"]),
        "gates_failed": failed,
    }


def _against(first: Reported, other: Reported) -> dict[str, Any]:
    empty = dict.fromkeys(("accuracy_change", "mcnemar", "flips", "agreement"))
    for run in (first, other):
        if run.kept is None:
            return {**empty, "why": f"{run.folder} keeps no answers (answers.safetensors)"}
    assert first.kept is not None
    assert other.kept is not None
    before, after = first.kept.models["student"], other.kept.models["student"]
    if bool(broken(before.logits).any() | broken(after.logits).any()):
        return {**empty, "why": "some answers are NaN or infinite"}
    was, now = (right(each.logits, each.targets) for each in (before, after))
    counts = [int(count.sum()) for count in (now & was, now & ~was, ~now & was, ~now & ~was)]
    test = mcnemar(now, was)
    both, gained, lost, neither = counts
    total = len(was)
    return {
        "accuracy_change": newcombe(both, gained, lost, neither, level=_LEVEL).as_dict(),
        "mcnemar": {"p": test.p, "only_this_right": gained, "only_first_right": lost},
        "flips": {
            "negative": wilson(lost, total, level=_LEVEL).as_dict(),
            "positive": wilson(gained, total, level=_LEVEL).as_dict(),
            "negative_examples": _worst(before, after, was & ~now),
        },
        "agreement": agreement(before.logits, after.logits),
        "why": None,
    }


def _worst(before: Predictions, after: Predictions, which: Tensor, most: int = 10) -> list[int]:
    """Ids of examples newly wrong, where the later student is surest of its mistake first."""
    sure = after.logits.double().softmax(-1).amax(-1)
    rows = which.nonzero().flatten()
    order: Tensor = sure[rows].argsort(descending=True, stable=True)[:most]
    found: list[int] = before.ids[rows[order]].tolist()
    return found


def _allow_for_several(against: Sequence[dict[str, Any]]) -> None:
    """Adds ``p_holm``: with several runs one looks different by chance (Holm, 1979)."""
    tests = sorted((row["mcnemar"] for row in against if row["mcnemar"]), key=lambda t: t["p"])
    highest = 0.0
    for place, test in enumerate(tests):
        highest = max(highest, min(1.0, test["p"] * (len(tests) - place)))
        test["p_holm"] = highest
