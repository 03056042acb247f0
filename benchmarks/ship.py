"""What a run ships beside its teacher: size, time of one answer, accuracy, the same answers.

    tutelage run recipes/ship.yaml --out runs/ship
    python benchmarks/ship.py runs/ship [--record benchmarks/results/ship.jsonl]

Teacher, student and shipped file are ONNX files in one runtime, on one thread, in turns; teacher
and student in PyTorch besides. All answer the whole test split. Last come lines of JSON.
"""

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shared import stamp, told
from tutelage.deployment import export_onnx
from tutelage.deployment.shipped import shipped
from tutelage.evaluation import newcombe, onnx_latency, predict, torch_latency, wilson
from tutelage.evaluation.costs.latency import Effort
from tutelage.evaluation.fidelity import agreement, negative_flip_rate
from tutelage.evaluation.metrics import right
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.predict import Predictions
from tutelage.recipe.candidates import candidate
from tutelage.recipe.shelf import Shelf, data_of

EFFORT = Effort(warmup=50, calls=5000, seconds=60)
QUICK = Effort(warmup=5, calls=200, seconds=5)


def main() -> None:
    """Measure, print a table, and keep the rows where that is asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--quick", action="store_true", help="few calls: it runs")
    parser.add_argument("--record", type=Path, help="append the lines to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    effort = QUICK if given.quick else EFFORT
    with tempfile.TemporaryDirectory() as spare:
        rows = measured(given.run, Path(spare), effort)
    table(rows)
    told([{**row, **stamp()} for row in rows], given.record)


def measured(run: Path, spare: Path, effort: Effort) -> list[dict[str, Any]]:
    """A row for each form of teacher, student and shipped file."""
    shelf = Shelf()
    data = data_of(str(run), shelf)
    networks = {
        role: candidate(role, f"{run}:{role}", data, shelf).answers
        for role in ("teacher", "student")
    }
    files = {
        "teacher": spare / "teacher.onnx",
        "student": run / "student.onnx",
        "shipped": shipped(run).path,
    }
    few = data.validation.batch(torch.arange(64))
    export_onnx(networks["teacher"], few, files["teacher"], names=data.classes)
    example = data.validation.batch(torch.arange(1))
    times = {
        **{("torch", k): v for k, v in torch_latency(networks, example, effort=effort).items()},
        **{("onnx", k): v for k, v in onnx_latency(files, example, effort=effort).items()},
    }
    test = data.test.open("benchmarks/ship.py")
    answers = {("torch", role): predict(model, test) for role, model in networks.items()}
    answers |= {("onnx", role): predict(OnnxModel(path), test) for role, path in files.items()}
    teacher, student = answers["torch", "teacher"], answers["torch", "student"]
    return [
        {
            "row": f"{role}, {form}",
            "bytes": files[role].stat().st_size,
            "p50_ms": times[form, role].p50,
            "p99_ms": times[form, role].p99,
            **against(found, teacher, student),
        }
        for (form, role), found in answers.items()
    ]


def against(found: Predictions, teacher: Predictions, student: Predictions) -> dict[str, Any]:
    """Accuracy, and what became of the teacher's and of the torch student's answers."""
    hits, theirs = (right(each.logits, each.targets) for each in (found, teacher))
    pairs = (hits & theirs, hits & ~theirs, ~hits & theirs, ~hits & ~theirs)
    return {
        "accuracy": wilson(int(hits.sum()), len(hits)).as_dict(),
        "change": newcombe(*(int(pair.sum()) for pair in pairs)).as_dict(),
        "newly_wrong": negative_flip_rate(teacher.logits, found.logits, found.targets),
        "as_the_student": agreement(student.logits, found.logits),
        "largest_difference": float((student.logits - found.logits).abs().max()),
        "examples": len(hits),
    }


def table(rows: list[dict[str, Any]]) -> None:
    """Markdown, with ratios to the teacher as ONNX."""
    first: Mapping[str, Any] = next(row for row in rows if row["row"] == "teacher, onnx")
    print("| | file | smaller | p50 ms | faster | accuracy | against the teacher, points |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        change = {key: 100 * row["change"][key] for key in ("mean", "low", "high")}
        print(
            f"| {row['row']} | {row['bytes']:,} | {first['bytes'] / row['bytes']:.1f}x "
            f"| {row['p50_ms']:.3f} | {first['p50_ms'] / row['p50_ms']:.1f}x "
            f"| {100 * row['accuracy']['mean']:.2f} % "
            f"| {change['mean']:+.2f} ({change['low']:+.2f} to {change['high']:+.2f}) |"
        )


if __name__ == "__main__":
    main()
