"""Gates as a recipe writes them: both forms, wrong ones, and the parts that they bring along."""

import pytest

from tutelage.core.errors import RecipeError
from tutelage.recipe.proving import parts
from tutelage.recipe.sections import Named
from tutelage.recipe.trying import _check_gate
from tutelage.recipe.validated import recipe_from

BASE = {
    "recipe": 1,
    "name": "small",
    "data": {"source": "fashion_mnist_small"},
    "teacher": {"model": "lenet", "train": {"epochs": 1}},
    "student": {"model": "lenet"},
    "objective": ["kd"],
}


def recipe(gates, **more):
    return recipe_from({**BASE, "gates": gates, **more})


def test_a_number_and_a_mapping_are_both_kept_as_written():
    gates = {"accuracy_drop": 0.02, "ece": {"at_most": 0.1, "by": "estimate"}}
    made = recipe(gates)
    assert made.gates == gates
    assert made.model_dump(mode="json")["gates"] == gates


@pytest.mark.parametrize("wrong", ["high", [0.1], True, None])
def test_what_is_no_threshold_is_refused_with_its_place(wrong):
    with pytest.raises(RecipeError, match=r"gates\.accuracy: got .*write the threshold") as error:
        recipe({"accuracy": wrong})
    assert repr(wrong) in str(error.value)


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("acuracy", 1, r"gates\.acuracy: got 1: there is no gate 'acuracy'. Did you mean"),
        ("ece", {"at_least": 0.1}, r"gates\.ece: got .*write {at_most: 0\.1}"),
        ("gain", 0.01, r"gates\.gain: got 0\.01, and there is no baseline"),
        (
            "relative_negative_flips",
            {"at_most": 1.0},
            r"gates\.relative_negative_flips: got 1, and there is no baseline",
        ),
    ],
)
def test_a_gate_that_cannot_be_met_is_refused_before_the_run(name, asked, message):
    with pytest.raises(RecipeError, match=message) as error:
        _check_gate(name, asked, recipe({name: asked}, baseline=False))
    assert "\n" not in str(error.value)


def test_a_gate_brings_the_part_that_it_reads():
    none = [Named(name="none")]
    assert not parts(none)
    assert not parts(none, {"accuracy_drop": 0.05})
    assert list(parts(none, {"worst_class_flips": 0.1})) == ["flips"]


def test_a_part_that_was_asked_for_keeps_its_options():
    asked = [Named(name="flips", options={"shown": 3})]
    assert parts(asked, {"worst_class_flips": 0.1})["flips"].shown == 3
