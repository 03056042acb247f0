"""Several labels at once, against scikit-learn, with planted damage and clean twins."""

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.multilabel import (
    average_precision,
    evaluate_multilabel,
    f1_scores,
    multilabel_figures,
)


def drawn(total, labels, seed, *, ties=False, share=0.3):
    dice = generator(seed, "multilabel")
    truth = (torch.rand(total, labels, generator=dice) < share).long()
    scores = 2.0 * truth - 1 + 1.5 * torch.randn(total, labels, generator=dice)
    return (scores.mul(2).round() / 2 if ties else scores), truth


def reference(scores, truth):
    y, t = (scores.numpy() > 0).astype(int), truth.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        there = [i for i in range(t.shape[1]) if t[:, i].any()]
        areas = [metrics.average_precision_score(t[:, i], scores[:, i].numpy()) for i in there]
        return {
            "macro_f1": metrics.f1_score(t, y, average="macro", zero_division=0),
            "micro_f1": metrics.f1_score(t, y, average="micro", zero_division=0),
            "mean_average_precision": np.mean(areas) if areas else None,
            "subset_accuracy": metrics.accuracy_score(t, y),
            "label_accuracy": 1 - metrics.hamming_loss(t, y),
        }


def assert_same(scores, truth):
    found = multilabel_figures(scores, truth)
    for key, value in reference(scores, truth).items():
        assert found[key] == (None if value is None else pytest.approx(value, abs=1e-6)), key


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("total", "labels"), [(1, 3), (2, 2), (50, 4), (400, 7)])
def test_figures_are_scikit_learns(seed, ties, total, labels):
    scores, truth = drawn(total, labels, seed, ties=ties)
    assert_same(scores, truth)


def test_a_label_that_no_example_has_is_left_out_of_the_mean_average_precision():
    scores, truth = drawn(60, 4, 0)
    truth[:, 2] = 0
    assert_same(scores, truth)
    found = multilabel_figures(scores, truth)
    assert found["labels_absent"] == 1
    assert evaluate_multilabel(truth, scores)["labels"][2]["models"]["student"] | {
        "accuracy": None
    } == {"accuracy": None, "f1": 0.0, "average_precision": None}


def test_nothing_given_and_nothing_there():
    scores, truth = -torch.ones(3, 2), torch.zeros(3, 2).long()
    found = multilabel_figures(scores, truth)
    assert (found["macro_f1"], found["micro_f1"], found["subset_accuracy"]) == (0.0, 0.0, 1.0)
    assert found["mean_average_precision"] is None


def test_all_scores_the_same_is_the_share_of_positives():
    truth = torch.tensor([1, 0, 0, 1, 0])
    assert average_precision(torch.zeros(5), truth) == pytest.approx(0.4)
    assert average_precision(torch.full((5,), torch.inf), truth) == pytest.approx(0.4)


def test_f1_is_that_of_counts():
    given, truth = torch.tensor([[1, 0], [1, 1]]).bool(), torch.tensor([[1, 1], [0, 1]]).bool()
    assert f1_scores(given, truth).tolist() == [pytest.approx(2 / 3), pytest.approx(2 / 3)]


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        (torch.tensor([[float("nan"), 0.0]]), torch.zeros(1, 2), "1 of 1 examples are NaN"),
        (torch.zeros(2, 2), torch.full((2, 2), 2), "other than 0 and 1"),
        (torch.zeros(2, 2), torch.zeros(2, 3), r"shape \(2, 2\) and targets of shape \(2, 3\)"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "is needed of both"),
    ],
)
def test_what_is_no_multilabel_answer_is_refused(scores, targets, message):
    with pytest.raises(DataError, match=message):
        multilabel_figures(scores, targets)


def test_names_must_fit():
    with pytest.raises(DataError, match="3 names were given for 2 labels"):
        evaluate_multilabel(torch.zeros(1, 2), torch.zeros(1, 2), labels=("a", "b", "c"))


def test_a_damaged_label_is_named_and_the_others_are_not():
    scores, truth = drawn(600, 6, 1)
    teacher = scores + 0.05 * torch.randn(scores.shape, generator=generator(1, "near"))
    student = scores.clone()
    student[:, 4] = -student[:, 4]
    found = evaluate_multilabel(truth, student, teacher, scores, labels=tuple("abcdef"))
    assert [row["label"] for row in found["labels"] if row["clear"]] == ["e"]
    assert found["labels"][4]["change"]["high"] < 0
    assert found["differences"]["teacher"]["subset_accuracy"]["high"] < 0
    assert found["agreement"]["labels"] < found["control"]["labels"]
    json.dumps(found, allow_nan=False)


def test_of_equal_students_few_labels_look_changed():
    alarms = 0
    for seed in range(20):
        first, truth = drawn(300, 5, seed)
        second = (
            2.0 * truth - 1 + 1.5 * torch.randn(truth.shape, generator=generator(seed, "another"))
        )
        found = evaluate_multilabel(truth, first, second)
        alarms += any(row["clear"] for row in found["labels"])
    assert alarms <= 4
