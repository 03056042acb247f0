"""Groups in the UCI Adult census: what teaching, temperature and weights do to gaps between them.

    python benchmarks/adult.py --data FOLDER           # 3 minutes on one core; appends its rows
    python benchmarks/adult.py --data FOLDER --quick   # two seeds, few epochs: it runs
    python benchmarks/adult.py --page                  # docs/adult.md from the rows there are

FOLDER holds adult.data and adult.test as the UCI Machine Learning Repository gives them. Whether
an income is above 50,000 dollars is predicted from the census columns; sex and race are groups, and
stay features. All students are one small network with one budget; arms of a seed share their
teacher, first weights and orders. Nothing is chosen here: settings are as written below, and the
test file is looked at once a model, at the end. ``weighted by sex`` means that each cell (sex,
income) of the training rows counts the same (`Groups.balanced`).
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import TutelageError
from tutelage.core.outputs import Outputs
from tutelage.data import Examples, Groups, Loader, Splits, csv
from tutelage.engine import Learner, adamw, fit, one_cycle
from tutelage.evaluation.examining import examine
from tutelage.evaluation.fairness.rates import gap, support, tally, worst_group
from tutelage.evaluation.parts.fairness import Fairness
from tutelage.evaluation.predict import predict
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed, build_model
from tutelage.objectives import AbstractWeighting, CrossEntropy, Reweighted, SoftTarget
from tutelage.settings import Alone, Classic

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.adult_page import CURVE, PAGE, curve, page
from benchmarks.shared import RESULTS, append, kept, stamp

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation"),
    *("relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week"),
    *("native-country", "income"),
)
WAYS = ("sex", "race")
TEACHER, STUDENT = (256, 128), (4,)
TEMPERATURES = (1, 2, 4, 8)
LABELS, SOFT, USUAL = 0.2, 0.8, 4  # weights of both terms; temperature of all other arms
BATCH, RATE, EPOCHS = 256, 0.005, 6


class ById(AbstractWeighting):
    """Examples count by weights of their own."""

    needs_teacher = False

    def __init__(self, ids: Tensor, weights: Tensor):
        self.table = torch.ones(int(ids.max()) + 1)
        self.table[ids] = weights

    def weights(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One an example."""
        assert batch.ids is not None
        return self.table[batch.ids]


def census(folder: Path) -> Splits:
    """The two files; a tenth of the first is kept for validation, and not used here."""
    return csv(
        str(folder / "adult.data"),
        target="income",
        columns=list(COLUMNS),
        ignore=["fnlwgt"],  # how many people a row stands for
        groups=list(WAYS),
        missing="mean",
        test_path=str(folder / "adult.test"),
        rename={"<=50K.": "<=50K", ">50K.": ">50K"},
    )


class Arms:
    """All students of one seed, and their teachers."""

    def __init__(self, splits: Splits, epochs: int, seed: int):
        self.train, self.seed = splits.train, seed
        self.shape, self.steps = splits.example_shape, epochs * (len(splits.train) // BATCH)
        targets = splits.train.targets
        assert targets is not None
        ids = splits.train.ids
        self.by = {
            name: ById(ids, groups.balanced(ids, targets)) for name, groups in splits.groups.items()
        }

    def learner(self, hidden: Sequence[int], what: str) -> Learner:
        """A network from the seed."""
        torch.manual_seed(2 * self.seed + (what == "teacher"))
        net = build_model({"mlp": {"hidden": list(hidden)}}, classes=2, shape=self.shape)
        return Learner(Observed(net), adamw(learning_rate=RATE), schedule=one_cycle())

    def alone(self, hidden: Sequence[int], what: str, way: str | None = None) -> Observed:
        """Learns from labels."""
        learner, labels = self.learner(hidden, what), CrossEntropy()
        objective = Reweighted(labels, self.by[way]) if way else labels
        batches = Loader(self.train, BATCH, seed=self.seed)
        fit(Alone(learner, objective), batches, steps=self.steps, seed=self.seed)
        return learner.model

    def taught(self, teacher: Observed, temperature: float, way: str | None = None) -> Observed:
        """Learns from labels and a teacher."""
        learner, labels, soft = (
            self.learner(STUDENT, "student"),
            CrossEntropy(),
            SoftTarget(temperature),
        )
        if way:
            by = self.by[way]
            objective = LABELS * Reweighted(labels, by) + SOFT * Reweighted(soft, by)
        else:
            objective = LABELS * labels + SOFT * soft
        batches = Loader(self.train, BATCH, seed=self.seed)
        fit(Classic(learner, teacher, objective), batches, steps=self.steps, seed=self.seed)
        return learner.model

    def all(self, temperatures: Sequence[float]) -> dict[str, Observed]:
        """By name."""
        teacher = self.alone(TEACHER, "teacher")
        found = {"teacher": teacher, "student alone": self.alone(STUDENT, "student")}
        for temperature in temperatures:
            found[f"taught, T = {temperature:g}"] = self.taught(teacher, temperature)
        for way in WAYS:
            fair = self.alone(TEACHER, "teacher", way)
            found[f"teacher weighted by {way}"] = fair
            found[f"taught, weighted by {way}"] = self.taught(teacher, USUAL, way)
            found[f"taught by teacher weighted by {way}"] = self.taught(fair, USUAL)
            found[f"taught by teacher weighted by {way}, weighted"] = self.taught(fair, USUAL, way)
        return found


def figures(model: Observed, test: Examples, groups: Mapping[str, Groups]) -> dict[str, Any]:
    """Accuracy, and for each way of grouping its gaps, worst group and groups."""
    answers = predict(model, test)
    found: dict[str, Any] = {
        "value": float((answers.logits.argmax(-1) == answers.targets).double().mean()),
        "ways": {},
    }
    for name, way in groups.items():
        counted = tally(answers.logits, answers.targets, way.of(answers.ids), len(way.names))
        found["ways"][name] = {
            **{measure: gap(counted, measure) for measure in ("accuracy", "selection", "odds")},
            "worst": worst_group(counted)[1],
            "least": int(support(counted, "odds").min()),
            "groups": dict(zip(way.names, counted.accuracy.tolist(), strict=True)),
            "examples": dict(zip(way.names, counted.examples.tolist(), strict=True)),
        }
    return found


def measure(
    splits: Splits, seeds: Sequence[int], epochs: int, temperatures: Sequence[float]
) -> Any:
    """A row an arm, with a figure a seed."""
    test = splits.test.open("the benchmark")
    each: dict[str, list[dict[str, Any]]] = {}
    told: list[str] = []
    started = time.perf_counter()
    for seed in seeds:
        models = Arms(splits, epochs, seed).all(temperatures)
        for name, model in models.items():
            each.setdefault(name, []).append(figures(model, test, splits.groups))
        told = told or reported(models, test, splits.groups)
        print(f"seed {seed}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    for name, found in each.items():
        yield {
            "benchmark": "adult",
            "row": name,
            "value": sum(one["value"] for one in found) / len(found),
            "unit": "share of right answers, last weights",
            "runs": len(found),
            "each": found,
            "seeds": list(seeds),
            "train": len(splits.train),
            "test": len(test),
            "epochs": epochs,
            **stamp(),
        }
    yield {
        "benchmark": "adult",
        "row": "report",
        "value": len(told),
        "unit": "findings of the report",
        "runs": 1,
        "seed": seeds[0],
        "findings": told,
        **stamp(),
    }


def reported(
    models: Mapping[str, Observed], test: Examples, groups: Mapping[str, Groups]
) -> list[str]:
    """What a report says of the student of the usual temperature."""
    roles = {
        "teacher": models["teacher"],
        "student": models[f"taught, T = {USUAL}"],
        "baseline": models["student alone"],
    }
    found = examine(Subjects(models=roles, test=test, groups=groups), {"fairness": Fairness()})
    return [f"{one['status']}: {one['text']}" for one in found["fairness"]["findings"]]


def main() -> None:
    """Measure what is missing, or write the page."""
    usual = os.environ.get("TUTELAGE_DATA")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(usual) / "fairness" / "adult" if usual else None,
        help="folder with adult.data and adult.test; default: fairness/adult in $TUTELAGE_DATA",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--record", type=Path, default=RESULTS / "adult.jsonl")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE.name} and its picture")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.page:
        if given.data is None:
            raise SystemExit("--data FOLDER is needed: the one with adult.data and adult.test.")
        try:
            few = ([0, 1], 1, (1, 4)) if given.quick else (given.seeds, EPOCHS, TEMPERATURES)
            rows = list(measure(census(given.data), *few))
        except TutelageError as error:
            raise SystemExit(str(error)) from error
        if not given.quick:
            given.record.unlink(missing_ok=True)
            append(rows, given.record)
        print("\n".join(map(json.dumps, rows)))
        return
    rows = kept(given.record)
    if not rows:
        raise SystemExit(f"{given.record} has no rows yet: measure first.")
    CURVE.write_text(curve(rows), encoding="utf-8")
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
