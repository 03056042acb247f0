"""Groups of examples: from a column, by ids, and weights that even them out."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tutelage.core.errors import DataError
from tutelage.data import Groups, csv, load
from tutelage.recipe.reading import read
from tutelage.recipe.run import run

ADULT = (
    Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "fairness"
    / "adult"
)
RECIPE = Path(__file__).parents[2] / "recipes" / "adult.yaml"


def table(folder, count=60, name="table.csv", start=0):
    """Age, sex, town, pay; every tenth sex is not known."""
    lines = ["age,sex,town,pay"]
    for i in range(start, start + count):
        sex = "?" if i % 10 == 9 else "FM"[i % 2]
        lines.append(f"{20 + i % 50},{sex},{10 * (i % 3)},{'high' if i % 4 < 2 else 'low'}")
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def splits(folder, **options):
    return csv(table(folder), target="pay", missing="mean", **options)


def test_a_column_becomes_groups_and_stays_a_feature(tmp_path):
    found = splits(tmp_path, groups=["sex", "town"])
    assert list(found.groups) == ["sex", "town"]
    sex = found.groups["sex"]
    assert sex.names == ("F", "M")
    ids = torch.arange(60)
    expected = torch.where(ids % 10 == 9, -1, ids % 2)
    assert torch.equal(sex.of(ids), expected)
    assert "sex=F" in found.origin["features"]
    assert found.groups["town"].names == ("0", "10", "20")  # numbers by size


def test_numbers_are_sorted_by_size_and_words_as_words():
    ids = torch.arange(3)
    assert Groups.from_values("band", ["100", "20", "3"], ids).names == ("3", "20", "100")
    assert Groups.from_values("band", ["100", "20", "x"], ids).names == ("100", "20", "x")


def test_an_ignored_column_still_groups(tmp_path):
    found = splits(tmp_path, groups=["sex"], ignore=["sex"])
    assert found.origin["features"] == ["age", "town"]
    assert set(found.groups) == {"sex"}


def test_without_groups_there_are_none_and_features_stay_the_same(tmp_path):
    plain, grouped = splits(tmp_path), splits(tmp_path, groups=["sex"])
    assert plain.groups == {}
    assert torch.equal(plain.train.inputs, grouped.train.inputs)


def test_rows_of_a_second_file_are_grouped_on(tmp_path):
    second = table(tmp_path, 20, "test.csv", start=5)
    found = splits(tmp_path, groups=["sex"], test_path=second)
    test = found.test.open("looking")
    rows = torch.arange(5, 25)
    assert torch.equal(found.groups["sex"].of(test.ids), torch.where(rows % 10 == 9, -1, rows % 2))


def test_fewer_labels_keep_the_groups(tmp_path):
    found = splits(tmp_path, groups=["sex"])
    assert found.unlabelled(10).groups is found.groups


def test_a_source_by_name_takes_groups(tmp_path):
    source = {"csv": {"path": table(tmp_path), "target": "pay", "missing": "mean"}}
    source["csv"]["groups"] = ["town"]
    assert set(load(source).groups) == {"town"}


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["sx"], "column 'sx' is no column of .* Did you mean 'sex'"),
        (["code"], "'code' of .* has 100 different values, expected 1 to 64"),
        (["none"], "'none' of .* has 0 different values"),
    ],
)
def test_a_column_that_groups_nothing_is_refused(tmp_path, groups, words):
    rows = "\n".join(f"{i},,{'ab'[i % 2]},{'xy'[i % 2]}" for i in range(100))
    path = tmp_path / "table.csv"
    path.write_text(f"code,none,sex,pay\n{rows}\n")
    with pytest.raises(DataError, match=words):
        csv(str(path), target="pay", groups=groups, ignore=["none"])


def test_balanced_weights_make_all_cells_count_the_same():
    dice = np.random.default_rng(0)
    numbers, targets = dice.integers(-1, 3, 500), dice.integers(-1, 4, 500)
    numbers[targets == 3] = 1  # empty cells
    groups = Groups("g", ("a", "b", "c"), torch.arange(500), torch.from_numpy(numbers))
    weights = groups.balanced(torch.arange(500), torch.from_numpy(targets)).double().numpy()
    known = (numbers >= 0) & (targets >= 0)
    assert (weights[~known] == 1).all()
    assert weights[known].mean() == pytest.approx(1, abs=1e-6)
    sums = {
        (g, t): weights[(numbers == g) & (targets == t)].sum()
        for g, t in {(g, t) for g, t in zip(numbers[known], targets[known], strict=True)}
    }
    assert len(sums) == 10
    assert max(sums.values()) == pytest.approx(min(sums.values()), abs=1e-4)


def test_weights_of_unknown_groups_are_one_and_shapes_are_checked():
    groups = Groups("g", ("a",), torch.arange(2), torch.tensor([-1, -1]))
    assert groups.balanced(torch.arange(5), torch.zeros(5).long()).tolist() == [1] * 5
    with pytest.raises(DataError, match="one class number for each id"):
        groups.balanced(torch.arange(5), torch.zeros(4).long())


@pytest.mark.data
@pytest.mark.skipif(not ADULT.is_dir(), reason=f"no Adult census data at {ADULT}")
class TestAdult:
    @pytest.mark.filterwarnings("ignore")
    def test_a_whole_run_reports_by_sex_and_race(self, tmp_path):
        recipe = read(RECIPE)
        source = recipe["data"]["source"]["csv"]
        source |= {"path": str(ADULT / "adult.data"), "test_path": str(ADULT / "adult.test")}
        recipe |= {"seeds": [0], "report": ["fairness"], "export": False}
        recipe["train"]["epochs"] = 3
        recipe["teacher"]["train"]["epochs"] = 1
        report = run(recipe, tmp_path / "run", console=Console(quiet=True)).report
        part = report["parts"]["fairness"]
        assert part["left_out"] is None
        ways = part["figures"]["ways"]
        assert [row["name"] for row in ways["sex"]["groups"]] == ["Female", "Male"]
        assert [row["examples"] for row in ways["sex"]["groups"]] == [5421, 10860]
        assert len(ways["race"]["groups"]) == 5
        assert 0.05 < ways["sex"]["gaps"]["selection"]["student"]["mean"] < 0.5
        assert any("By sex" in one["text"] for one in part["findings"])
        page = (tmp_path / "run" / "report.html").read_text()
        assert "Accuracy by sex" in page
