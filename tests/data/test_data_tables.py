import os
from pathlib import Path

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data import csv

ADULT = (
    Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "fairness"
    / "adult"
)
ADULT_COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def rows(count=40):
    """Age, work, pay: all known."""
    return [f"{20 + i},{'abc'[i % 3]},{'high' if i % 2 else 'low'}" for i in range(count)]


def saved(root, lines, header="age,work,pay", name="table.csv", end="\n"):
    text = end.join([*([header] if header is not None else []), *lines]) + end
    (root / name).write_bytes(text.encode())
    return str(root / name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": 2}, "csv target is 2, expected the name of a column"),
        ({"path": None}, "csv path is None, expected the path of a file or folder"),
    ],
)
def test_a_target_or_path_of_another_kind_is_refused(tmp_path, options, words):
    with pytest.raises(DataError, match=words):
        csv(**{"path": saved(tmp_path, rows()), "target": "pay", **options})


def whole(splits):
    parts = (splits.train, splits.validation, splits.test.open("looking"))
    inputs, ids = torch.cat([p.inputs for p in parts]), torch.cat([p.ids for p in parts])
    targets = torch.cat([p.targets for p in parts])
    order = ids.argsort()
    return inputs[order], targets[order]


def test_numbers_are_scaled_and_words_are_one_hot(tmp_path):
    splits = csv(saved(tmp_path, rows()), target="pay")
    assert splits.classes == ("high", "low")
    assert splits.origin["features"] == ["age", "work=a", "work=b", "work=c"]
    inputs, targets = whole(splits)
    age = torch.arange(20.0, 60.0)
    mean, std = splits.origin["mean"][0], splits.origin["std"][0]
    assert torch.allclose(inputs[:, 0], (age - mean) / std, atol=1e-6)
    assert torch.equal(inputs[:, 1:], torch.eye(3)[torch.arange(40) % 3])
    assert torch.equal(targets, 1 - torch.arange(40) % 2)


def test_statistics_belong_to_the_train_split(tmp_path):
    splits = csv(saved(tmp_path, rows()), target="pay", validation=0.25, test=0.25)
    train = 20.0 + splits.train.ids
    assert splits.origin["mean"][0] == pytest.approx(train.mean().item())
    assert splits.origin["std"][0] == pytest.approx(train.std(correction=0).item())
    assert abs(splits.train.inputs[:, 0].mean()) < 1e-6
    assert splits.train.inputs[:, 0].std(correction=0).item() == pytest.approx(1)


def test_numbers_leave_as_they_are_where_asked(tmp_path):
    inputs, _ = whole(csv(saved(tmp_path, rows()), target="pay", standardise=False))
    assert torch.equal(inputs[:, 0], torch.arange(20.0, 60.0))


def test_a_column_of_codes_can_be_one_hot(tmp_path):
    lines = [f"{i % 4},{'ab'[i % 2]}" for i in range(40)]
    splits = csv(saved(tmp_path, lines, "zone,pay"), target="pay", categorical=["zone"])
    assert splits.origin["features"] == ["zone=0", "zone=1", "zone=2", "zone=3"]


def test_ignored_columns_leave_no_trace(tmp_path):
    splits = csv(saved(tmp_path, rows()), target="pay", ignore=["age"])
    assert splits.example_shape == (3,)


def test_a_missing_cell_is_an_error_that_names_column_and_line(tmp_path):
    lines = rows()
    lines[4] = "24,?,low"
    with pytest.raises(DataError, match=r"'work' of .* 1 missing values, first in line 6 \('\?'\)"):
        csv(saved(tmp_path, lines), target="pay")


def test_missing_cells_become_the_training_mean_where_asked(tmp_path):
    lines = rows()
    lines[4], lines[7] = "24,?,low", ",b,high"
    splits = csv(saved(tmp_path, lines), target="pay", missing="mean", standardise=False)
    inputs, _ = whole(splits)
    mean = torch.tensor(splits.origin["mean"])
    assert torch.allclose(inputs[4, 1:], mean[1:])
    assert inputs[7, 0].item() == pytest.approx(mean[0].item())
    known = [i for i in splits.train.ids.tolist() if i != 7]
    assert mean[0].item() == pytest.approx(sum(20 + i for i in known) / len(known))
    assert mean[1:].sum().item() == pytest.approx(1)


def test_a_value_not_seen_in_training_is_all_zeros(tmp_path):
    test = saved(tmp_path, ["30,z,high", "31,a,low"], name="test.csv")
    splits = csv(saved(tmp_path, rows()), target="pay", test_path=test)
    seen = splits.test.open("looking")
    assert seen.inputs[:, 1:].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert seen.ids.tolist() == [40, 41]


def test_line_ends_that_only_unicode_knows_do_not_split_rows(tmp_path):
    lines = [f"{i},one\u0085two\u2028{'ab'[i % 2]},{'cd'[i % 2]}" for i in range(40)]
    splits = csv(saved(tmp_path, lines), target="pay")
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 40
    assert splits.origin["features"][1] == "work=one\u0085two\u2028a"


def test_quoted_cells_may_hold_commas_and_line_ends(tmp_path):
    lines = [f'{i},"a,\nb{i % 2}",{"cd"[i % 2]}' for i in range(40)]
    splits = csv(saved(tmp_path, lines, end="\r\n"), target="pay")
    assert splits.origin["features"][1:] == ["work=a,\nb0", "work=a,\nb1"]


def test_blank_lines_spaces_and_a_byte_order_mark_are_passed_over(tmp_path):
    lines = ["", *(line.replace(",", " ,  ") for line in rows()), "", " "]
    splits = csv(saved(tmp_path, lines, "\ufeffage, work, pay"), target="pay")
    clean = csv(saved(tmp_path, rows(), name="clean.csv"), target="pay")
    assert splits.train.fingerprint() == clean.train.fingerprint()


def test_a_file_without_header_takes_the_columns_given(tmp_path):
    splits = csv(saved(tmp_path, rows(), header=None), target="pay", columns=["age", "work", "pay"])
    assert splits.origin["features"][0] == "age"
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 40


def test_a_test_file_may_have_a_header_and_other_spellings(tmp_path):
    names = ["age", "work", "pay"]
    path = saved(tmp_path, rows(), header=None)
    test = saved(tmp_path, ["30,a,high.", "31,b,low."], header="AGE,job,wage", name="test.csv")
    with pytest.raises(DataError, match=r"line 2 of .* class 'high\.', which train lacks. Did you"):
        csv(path, target="pay", columns=names, test_path=test)
    splits = csv(
        path,
        target="pay",
        columns=names,
        test_path=test,
        rename={"high.": "high", "low.": "low"},
    )
    assert splits.test.open("looking").targets.tolist() == [0, 1]


def test_a_first_row_with_missing_numbers_is_no_header(tmp_path):
    lines = ["?,a,low", *rows()]
    splits = csv(
        saved(tmp_path, lines, header=None), "pay", columns=["age", "work", "pay"], missing="mean"
    )
    assert sum(map(len, (splits.train, splits.validation, splits.test))) == 41


def test_columns_may_be_called_by_numbers(tmp_path):
    lines = [f"{i},{i * i},{'ab'[i % 2]}" for i in range(40)]
    splits = csv(saved(tmp_path, lines, "0,1,pay"), "pay")
    assert splits.origin["features"] == ["0", "1"]


def test_classes_that_are_numbers_are_sorted_by_size(tmp_path):
    lines = [f"{i},{i % 12}" for i in range(240)]
    splits = csv(saved(tmp_path, lines, "age,kind"), "kind")
    assert splits.classes == tuple(map(str, range(12)))


def changed(at, line):
    lines = rows()
    lines[at] = line
    return lines


NAMES = ["age", "work", "pay"]


@pytest.mark.parametrize(
    ("lines", "header", "options", "message"),
    [
        (rows(), "age,work,pay", {"target": "pays"}, "target 'pays' is no column of .* mean 'pay'"),
        (rows(), "age,work,pay", {"ignore": ["wrk"]}, "column 'wrk' is no column .* mean 'work'"),
        (rows(), None, {}, "line 1 of .* should be a header, and has '20' as a name"),
        (
            rows(),
            "age,work,pay",
            {"columns": NAMES},
            "line 1 of .* is a header .* leave columns out",
        ),
        (
            rows(),
            None,
            {"columns": ["age", "pay"]},
            "columns has 2 names, and line 1 of .* 3 cells",
        ),
        (rows(), "age,age,pay", {}, "repeat: 'age'"),
        (changed(2, "1,a,b,low"), "age,work,pay", {}, "line 4 of .* has 4 cells, expected 3"),
        (changed(2, "22,a,?"), "age,work,pay", {}, r"line 4 of .* has no class \('pay' is '\?'\)"),
        (
            changed(2, "inf,a,low"),
            "age,work,pay",
            {},
            "'age' of .* has 'inf' in line 4, expected a",
        ),
        ([], "age,work,pay", {}, "has a header and no rows"),
        ([], None, {}, "is empty"),
        (["1,a,x"] * 9, "age,work,pay", {}, "has one value, 'x'"),
        (
            [f"v{i},a,{'xy'[i % 2]}" for i in range(99)],
            "age,work,pay",
            {},
            "'age' of .* different values",
        ),
        (
            rows(),
            "age,work,pay",
            {"missing": "skip"},
            "missing is 'skip', expected 'error' or 'mean'",
        ),
        (rows(), "age,work,pay", {"delimiter": ", "}, "expected one character"),
        (rows(), "age,work,pay", {"ignore": ["age", "work"]}, "no column beside target 'pay'"),
        (rows(), "age,work,pay", {"validation": 1}, "of 1 examples is too small for 2 classes"),
        (['1,"a,low'], "age,work,pay", {}, "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_one_line(lines, header, options, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        csv(saved(tmp_path, lines, header), **{"target": "pay", **options})
    assert "\n" not in str(caught.value)


def test_one_odd_cell_in_a_column_of_numbers_is_found(tmp_path):
    lines = rows(200)
    lines[150] = "l70,a,low"
    with pytest.raises(DataError, match=r"not all numbers \(line 152 has 'l70'\)"):
        csv(saved(tmp_path, lines), target="pay", validation=2, test=2)


def test_other_encodings_are_refused(tmp_path):
    (tmp_path / "table.csv").write_bytes("age,work,pay\n1,café,low\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        csv(str(tmp_path / "table.csv"), target="pay")


def test_a_missing_table_suggests_the_nearest(tmp_path):
    saved(tmp_path, rows())
    with pytest.raises(DataError, match=r"Did you mean 'table\.csv'"):
        csv(str(tmp_path / "tabel.csv"), target="pay")


@pytest.mark.data
@pytest.mark.skipif(not ADULT.is_dir(), reason=f"no Adult census data at {ADULT}")
class TestAdult:
    def test_the_census_table_is_read_whole(self):
        options = {"target": "income", "columns": ADULT_COLUMNS}
        with pytest.raises(DataError, match=r"'workclass' .* missing values, first in line 28"):
            csv(str(ADULT / "adult.data"), **options)
        splits = csv(
            str(ADULT / "adult.data"),
            **options,
            missing="mean",
            test_path=str(ADULT / "adult.test"),
            rename={"<=50K.": "<=50K", ">50K.": ">50K"},
        )
        assert len(splits.train) + len(splits.validation) == 32_561
        assert splits.classes == ("<=50K", ">50K")
        test = splits.test.open("counting")
        assert torch.bincount(test.targets).tolist() == [12_435, 3_846]
        assert len(splits.origin["features"]) == splits.example_shape[0]
        assert abs(splits.train.inputs[:, 0].mean()) < 1e-4
