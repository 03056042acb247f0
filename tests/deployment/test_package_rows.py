"""Raw rows of a table: a package says what the data source did to them, and a stranger can too."""

import csv as csv_format
import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from tutelage.core.errors import DataError, ExportError, PackageError
from tutelage.data import csv, from_tensors
from tutelage.deployment.raw_rows import check_columns, encode
from tutelage.evaluation.costs.latency import Effort, torch_latency
from tutelage.evaluation.faces import html
from tutelage.recipe import reporting
from tutelage.recipe.packaging import package_run
from tutelage.recipe.run import run

ADULT = (
    Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "fairness"
    / "adult"
)
RECIPE = Path(__file__).parents[2] / "recipes" / "adult.yaml"


@cache
def table():
    """600 rows of people: numbers, codes, words with commas and odd letters, holes."""
    path, dice = Path(mkdtemp()) / "people.csv", np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv_format.writer(file)
        writer.writerow(["age", "zone", "town", "flat", "id", "buys"])
        for number in range(600):
            age = dice.normal(40, 12)
            town = ["Köln", "Rio, RJ", "N'Djamena", " Oslo ", "?"][dice.integers(5)]
            cell = "" if number % 37 == 0 else f"{age:.3e}" if number % 3 else f"{age:.5f}"
            zone = dice.integers(1, 4)
            writer.writerow([cell, zone, town, "7", number, ["no", "yes"][int(age > 38)]])
    return path


OPTIONS = {"target": "buys", "categorical": ["zone"], "ignore": ["id"], "missing": "mean"}


def raw(path, columns=None):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv_format.DictReader(file, columns, skipinitialspace=True))


def through_json(splits):
    return json.loads(json.dumps(splits.stored))["columns"]


def differing(splits, rows):
    """How many numbers are not exactly those of the data source, over all splits."""
    found, wrong = encode(rows, through_json(splits)), 0
    for part in (splits.train, splits.validation, splits.test.open("a test")):
        given = part.batch(torch.arange(len(part))).inputs.numpy()
        assert found.dtype == given.dtype == np.float32
        wrong += int((found[part.ids.numpy()] != given).sum())
    return wrong


@pytest.mark.parametrize("standardise", [True, False])
def test_all_rows_become_exactly_the_numbers_that_the_data_source_made(standardise):
    splits = csv(str(table()), **OPTIONS, standardise=standardise)
    rows = raw(table())
    assert differing(splits, rows) == 0
    by_hand = csv(str(table()), **OPTIONS, standardise=not standardise)
    assert differing(by_hand, rows) == 0
    assert not np.array_equal(*(encode(rows, through_json(each)) for each in (splits, by_hand)))


@pytest.mark.data
@pytest.mark.skipif(not ADULT.is_dir(), reason=f"no Adult census data at {ADULT}")
def test_all_census_rows_do():
    options = yaml.safe_load(RECIPE.read_text())["data"]["source"]["csv"]
    files = ADULT / "adult.data", ADULT / "adult.test"
    splits = csv(**options | {"path": str(files[0]), "test_path": str(files[1])})
    rows = [row for file in files for row in raw(file, options["columns"])]
    rows = [row for row in rows if row["income"] and row["age"] != "age"]
    assert len(rows) == 48_842
    assert differing(splits, rows) == 0


def columns():
    return through_json(csv(str(table()), **OPTIONS))


def row(**changes):
    return {"age": "41", "zone": "2", "town": "Oslo", "flat": 7, **changes}


def test_what_training_never_saw_or_nobody_knows_is_as_the_source_has_it():
    age, zone, town, flat = columns()
    oslo = town["categories"].index("Oslo")
    unseen, unknown, number, spaced = encode(
        [row(town="Lima"), row(town=None, age=" ? "), row(age=41.0, zone=2), row(town="\tOslo ")],
        columns(),
    )
    assert unseen[4:8].tolist() == [0, 0, 0, 0]
    assert unknown[4:8].tolist() == pytest.approx(town["mean"])
    assert unknown[0] == 0
    assert number.tolist() == spaced.tolist()
    assert spaced[4 + oslo] == 1
    assert (age["kind"], zone["kind"], flat["std"]) == ("number", "category", 1.0)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([row(), row(age="old")], "row 2: column 'age' is 'old', expected a finite number"),
        ([row(age="1_000")], "expected a finite number"),
        ([row(age=float("nan"))], "is nan, expected a finite number"),
        ([row(age=10**400)], "expected a finite number"),
        ([row(age=True)], "is True, expected a finite number"),
        ([row(age=[1])], r"is \[1\], expected a finite number"),
        ([row(town=["Oslo"])], r"is \['Oslo'\], expected a text such as 'Köln'"),
        ([row(zone=2.5)], "column 'zone' is 2.5, expected a text such as '1'"),
        ([{"agee": "1"}], r"row 1 has no column 'age': .* Did you mean 'agee'\?"),
        ([[1, 2]], "row 1 is a list, expected an object"),
        ("abc", "rows are a str, expected a list of objects"),
        ({"age": 1}, "rows are a dict, expected a list of objects"),
    ],
)
def test_a_wrong_cell_is_one_line(rows, says):
    with pytest.raises(DataError, match=says) as caught:
        encode(rows, columns())
    assert "\n" not in str(caught.value)


def test_a_missing_cell_is_refused_where_training_had_none():
    strict = [{**each, "missing": "error"} for each in columns()]
    with pytest.raises(DataError, match=r"row 1: column 'town' is not known \('\?'\), and"):
        encode([row(town="?")], strict)
    assert encode([], strict).shape == (0, 9)


@pytest.mark.parametrize(
    "spoil",
    [
        {"kind": "picture"},
        {"std": 0},
        {"mean": float("inf")},
        {"missing": "zero"},
        {"missing_cells": "?"},
        {"name": "town"},
        {"scaled": 1},
    ],
)
def test_columns_that_are_none_are_refused(spoil):
    made = columns()
    assert check_columns(made) == 9
    made[0] |= spoil
    with pytest.raises(DataError, match=r"is not as preprocessing.json states columns"):
        encode([row()], made)
    with pytest.raises(DataError, match="columns are no list"):
        encode([row()], {})


def test_it_needs_no_torch():
    lines = "import sys, importlib.util as u, pathlib\n"
    lines += "import numpy, tutelage.core.errors\n"
    for name in ("raw_rows", "raw_images"):
        path = Path(sys.modules[encode.__module__].__file__).with_name(f"{name}.py")
        lines += f"s=u.spec_from_file_location('{name}', {str(path)!r}); m=u.module_from_spec(s)\n"
        lines += "s.loader.exec_module(m)\n"
    lines += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", lines], check=True, timeout=60)


@cache
def finished():
    source = {"csv": {"path": str(table()), **OPTIONS, "validation": 60, "test": 100}}
    recipe = {
        "recipe": 1,
        "name": "people",
        "data": {"source": source},
        "teacher": {"model": {"mlp": {"hidden": [8]}}, "train": {"epochs": 3}},
        "student": {"model": {"mlp": {"hidden": [4]}}},
        "objective": ["kd"],
        "train": {"epochs": 3, "batch_size": 32, "learning_rate": 0.1},
        "baseline": None,
        "report": "none",
    }
    place = Path(mkdtemp()) / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(html, "page", lambda figures: "<!doctype html>")
        patch.setattr(reporting, "torch_latency", partial(torch_latency, effort=Effort(1, 5)))
        run(recipe, place, console=Console(quiet=True))
    return place, source["csv"]


def test_raw_rows_and_a_package_are_enough_to_get_the_runs_own_answers(tmp_path):
    place, source = finished()
    package_run(place, tmp_path / "p")
    stated = json.loads((tmp_path / "p" / "preprocessing.json").read_text())
    assert "raw_rows.encode" in stated["what_to_do"]
    test = csv(**source).test.open("a test")
    rows = raw(table())
    inputs = encode([rows[number] for number in test.ids.tolist()], stated["columns"])
    session = onnxruntime.InferenceSession(str(tmp_path / "p" / "student.onnx"))
    (found,) = session.run(None, {"inputs": inputs})
    kept = load_file(place / "answers.safetensors")
    logits = next(value for name, value in kept.items() if "student" in name)
    np.testing.assert_allclose(found, logits.float().numpy(), atol=2e-2)
    assert (found.argmax(1) == test.batch(torch.arange(100)).targets.numpy()).mean() > 0.8
    assert "| town | category | 4 categories |" in (tmp_path / "p" / "DATA_CARD.md").read_text()


def test_an_account_that_does_not_fit_the_model_makes_no_package(tmp_path):
    import shutil

    place = shutil.copytree(finished()[0], tmp_path / "run")
    stored = json.loads((place / "stored.json").read_text())
    (place / "stored.json").write_text(json.dumps({"columns": stored["columns"][1:]}))
    with pytest.raises(ExportError, match=r"columns make 8 features, and the model takes \[9\]"):
        package_run(place, tmp_path / "p")
    (place / "stored.json").write_text("{")
    with pytest.raises(PackageError, match=r"stored.json is no whole JSON"):
        package_run(place, tmp_path / "p")
    (place / "stored.json").unlink()
    package_run(place, tmp_path / "p")
    stated = json.loads((tmp_path / "p" / "preprocessing.json").read_text())
    assert stated["columns"] is None
    assert "not in this package" in stated["what_to_do"]


def test_a_source_that_does_nothing_says_so():
    rows = from_tensors(torch.rand(40, 3), torch.arange(40) % 2)
    assert "Nothing was done" in rows.stored["treatment"]
    assert rows.unlabelled(10).stored == rows.stored
    assert from_tensors(torch.rand(40, 1, 4, 4), torch.arange(40) % 2).stored == {}
