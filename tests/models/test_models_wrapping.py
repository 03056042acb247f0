"""What can be wrapped, and what wrapping does to it."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Frozen, Observed


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda: Observed(3), "Observed takes a torch module, got a int"),
        (lambda: Observed(nn.Linear), "Observed takes a torch module, got a type"),
        (lambda: Frozen(nn.Linear(2, 2)), r"got a Linear: wrap .* Frozen\(Observed\(model\)\)"),
        (lambda: Frozen(3), "Frozen takes an Observed, got a int"),
    ],
)
def test_what_cannot_be_wrapped_is_told_in_one_line(wrap, words):
    with pytest.raises(ModelError, match=words) as caught:
        wrap()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [[0, 1.5], [0.0, 1.0], ["0"], 3, [1, -2], torch.rand(2)])
def test_classes_that_are_no_whole_numbers_from_0_are_refused(classes):
    with pytest.raises(ModelError, match="classes must be class numbers from 0, got"):
        Observed(nn.Linear(4, 5), classes=classes)


@pytest.mark.parametrize("classes", [(2, 0), np.array([2, 0]), torch.tensor([2, 0]), iter([2, 0])])
def test_class_numbers_of_any_integer_kind_are_taken(classes):
    assert Observed(nn.Linear(4, 5), classes=classes).classes.tolist() == [2, 0]


def test_a_frozen_model_is_the_callers_own_and_a_copy_is_not():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    Frozen(Observed(copy.deepcopy(model)))
    assert all(p.requires_grad for p in model.parameters())
    assert model[1].training
    Frozen(Observed(model))
    assert not any(p.requires_grad for p in model.parameters())
    assert not model[1].training


def test_images_of_bytes_are_told_where_a_model_fails_on_them():
    images = Batch(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ModelError, match=r"images of uint8, \(2, 1, 8, 8\).* / 255") as caught:
        Observed(nn.Conv2d(1, 3, 3))(images)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Observed(nn.Linear(4, 3))(Batch(torch.zeros(2, 5)))


def test_a_model_that_reads_bytes_itself_is_left_to_it():
    class Scales(nn.Module):
        def forward(self, images):
            return (images / 255).flatten(1)

    images = torch.full((2, 1, 2, 2), 255, dtype=torch.uint8)
    assert Observed(Scales())(Batch(images)).logits.tolist() == [[1.0] * 4] * 2
