"""The recipe's outside sets: read, made to fit, or refused in one line."""

import numpy as np
import pytest
import torch

from tutelage.core.errors import RecipeError, TutelageError
from tutelage.data import from_tensors
from tutelage.recipe.outside import outside_sets
from tutelage.recipe.sections import Named


def data(*shape):
    inputs = torch.rand(60, *shape, generator=torch.Generator().manual_seed(0))
    return from_tensors(inputs, torch.arange(60) % 3)


def source(folder, array, name="x.npz"):
    labels = np.arange(len(array)) % 3
    np.savez(folder / name, inputs=array, targets=labels)
    return Named(name="npz", options={"path": str(folder / name)})


def test_images_get_the_datas_size_and_channels(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (90, 20, 20, 3), dtype=np.uint8)
    found = outside_sets({"far": source(tmp_path, colour)}, data(1, 8, 8))
    assert found["far"].example_shape == (1, 8, 8)
    assert found["far"].targets is None


def test_rows_of_another_length_are_refused_with_the_key(tmp_path):
    rows = np.zeros((90, 5), dtype=np.float32)
    with pytest.raises(RecipeError, match=r"outside\.far: its examples have the shape \(5,\)"):
        outside_sets({"far": source(tmp_path, rows)}, data(1, 8, 8))


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(TutelageError, match=r"outside\.far.*npz"):
        outside_sets({"far": Named(name="npz", options={"path": "nowhere.npz"})}, data(1, 8, 8))
