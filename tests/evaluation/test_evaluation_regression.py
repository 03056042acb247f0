"""Numbers as answers, against scikit-learn, SciPy-free loops and planted differences."""

import json

import numpy as np
import pytest
import torch
from sklearn import metrics

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.regression import (
    evaluate_regression,
    mean_absolute_error,
    pearson,
    r2,
    regression_figures,
    root_mean_squared_error,
)


def drawn(total, seed, scale=1.0, offset=0.0):
    dice = generator(seed, "regression")
    truth = torch.randn(total, generator=dice, dtype=torch.float64) * scale + offset
    return truth + 0.5 * scale * torch.randn(total, generator=dice, dtype=torch.float64), truth


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("total", "scale", "offset"), [(2, 1, 0), (17, 1, 0), (300, 1e-6, 5), (300, 1e6, -1e3)]
)
def test_figures_are_scikit_learns(seed, total, scale, offset):
    values, truth = drawn(total, seed, scale, offset)
    y, t = values.numpy(), truth.numpy()
    close = {"rel": 1e-6, "abs": 1e-6 * scale}
    assert mean_absolute_error(values, truth) == pytest.approx(
        metrics.mean_absolute_error(t, y), **close
    )
    assert root_mean_squared_error(values, truth) == pytest.approx(
        metrics.root_mean_squared_error(t, y), **close
    )
    assert r2(values, truth) == pytest.approx(metrics.r2_score(t, y), rel=1e-6, abs=1e-6)
    assert pearson(values, truth) == pytest.approx(np.corrcoef(t, y)[0, 1], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("values", [[3.25, 3.25, 3.25], [3.25, 3.25, 4.0]])
def test_targets_that_are_all_the_same_are_scored_as_scikit_learn_does(values):
    truth = [3.25] * 3
    expected = metrics.r2_score(truth, values)
    assert r2(torch.tensor(values), torch.tensor(truth)) == expected
    assert pearson(torch.tensor(values), torch.tensor(truth)) is None


def test_a_constant_that_no_float_holds_has_no_variance_by_rounding():
    assert r2(torch.tensor([0.1, 0.1, 0.3]), torch.tensor([0.1] * 3)) == 0
    assert pearson(torch.tensor([0.1] * 3), torch.tensor([1.0, 2.0, 3.0])) is None


def test_ties_and_a_constant_model():
    truth = torch.tensor([1.0, 1.0, 2.0, 2.0])
    assert r2(torch.full((4,), 1.5), truth) == pytest.approx(0.0)
    assert pearson(torch.full((4,), 1.5), truth) is None
    assert pearson(-truth, truth) == pytest.approx(-1)


def test_of_one_example_only_errors_are_known():
    found = regression_figures(torch.tensor([2.0]), torch.tensor([5.0]))
    assert found == {
        "examples": 1, "mae": 3.0, "rmse": 3.0, "r2": None, "pearson": None, "bias": -3.0
    }  # fmt: skip


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_values_are_refused(bad):
    with pytest.raises(DataError, match="1 of 2 values are NaN or infinite"):
        r2(torch.tensor([1.0, bad]), torch.tensor([1.0, 2.0]))
    with pytest.raises(DataError, match="1 of 2 targets are NaN"):
        evaluate_regression(torch.tensor([1.0, bad]), torch.tensor([1.0, 2.0]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"shape \(2,\) and targets of shape \(3,\)"):
        r2(torch.zeros(2), torch.zeros(3))
    with pytest.raises(DataError, match="shape"):
        r2(torch.zeros(0), torch.zeros(0))
    with pytest.raises(DataError, match="slice 'half'"):
        evaluate_regression(torch.zeros(3), torch.zeros(3), slices={"half": torch.tensor([0, 1])})
    column = evaluate_regression(torch.zeros(3), torch.ones(3, 1))
    assert column["models"]["student"]["mae"] == 1


def models(seed, total=400, worse=0.0):
    dice = generator(seed, "planted")
    truth, *noise = torch.randn(4, total, generator=dice, dtype=torch.float64)
    teacher = truth + 0.3 * noise[0]
    return truth, teacher + 0.1 * noise[1] + worse * noise[2], teacher, truth + 0.5 * noise[2]


def test_a_student_damaged_in_a_slice_is_found_there_and_not_elsewhere():
    truth, student, teacher, baseline = models(0)
    rows = torch.arange(len(truth)) < 60
    student[rows] += 1.5
    found = evaluate_regression(
        truth, student, teacher, baseline, slices={"damaged": rows, "whole": ~rows}
    )
    assert found["slices"]["damaged"]["differences"]["teacher"]["mae"]["low"] > 0
    assert found["slices"]["damaged"]["models"]["student"]["bias"] > 1
    whole = found["slices"]["whole"]["differences"]["teacher"]["mae"]
    assert whole["low"] < 0.05
    assert found["agreement"]["pearson"] > 0.5
    assert set(found["models"]) == {"student", "teacher", "baseline"}
    json.dumps(found, allow_nan=False)


def test_of_equally_good_models_few_look_different():
    alarms = 0
    for seed in range(20):
        dice = generator(seed, "equals")
        truth, one, two = torch.randn(3, 200, generator=dice, dtype=torch.float64)
        found = evaluate_regression(truth, truth + one, teacher=truth + two, seed=seed)
        change = found["differences"]["teacher"]["mae"]
        alarms += change["low"] > 0 or change["high"] < 0
    assert alarms <= 4  # 1 of 20 is what 95 % means; 5 or more have a chance of 1 in 400


def test_the_student_that_was_taught_agrees_more_than_its_control():
    found = evaluate_regression(*models(1))
    assert found["agreement"]["mae"]["high"] < found["control"]["mae"]["low"]
    alone = evaluate_regression(*models(1)[:2])
    assert alone["agreement"] is None
    assert alone["differences"] == {}


def test_an_empty_slice_says_nothing():
    truth, student, *_ = models(2)
    none = torch.zeros(len(truth), dtype=torch.bool)
    found = evaluate_regression(truth, student, slices={"nobody": none})
    assert found["slices"]["nobody"] == {"models": {"student": None}, "differences": {}}
