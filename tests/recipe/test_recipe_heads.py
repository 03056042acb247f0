"""``linear_head`` in a recipe: no logits while the student learns, the same updates as ``kd``."""

import pytest
import torch
from language_samples import quick_latency as quick_latency
from language_samples import recipe, sentences
from recipe_samples import quiet_run

from tutelage.core.errors import TutelageError
from tutelage.models.headless import BeforeHead
from tutelage.recipe.check import check
from tutelage.recipe.plan import Given, load_data, plan
from tutelage.recipe.validated import recipe_from

KD, ONE_PASS = [{"kd": {"temperature": 1}}], ["linear_head"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "said.txt"
    path.write_text(sentences(900))
    return path


def run(text, folder, objective, **teacher):
    made = recipe(text, {"bpe": {"size": 290}}, objective=objective)
    made["train"] = {**made["train"], "optimizer": "sgd", "learning_rate": 0.1, "clip": 1.0}
    made["teacher"] = {
        **made["teacher"],
        "train": {"optimizer": {"adamw": {}}, "learning_rate": 0.01},
        **teacher,
    }
    return quiet_run(made, folder).student


@pytest.fixture
def made_logits(monkeypatch):
    """How often a head of 290 tokens or so was multiplied where gradients were to be had."""
    plain, found = torch.nn.functional.linear, []

    def linear(inputs, weight, bias=None):
        if len(weight) > 256 and weight.shape[1] == 16 and torch.is_grad_enabled():
            found.append(len(weight))
        return plain(inputs, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    return found


CACHES = {"live": {}, "kept": {"cache": {"form": "top", "k": 16, "precision": "fp32"}}}


@pytest.mark.parametrize("teacher", CACHES)
def test_one_pass_makes_the_updates_of_kd_without_logits(text, tmp_path, made_logits, teacher):
    kd = run(text, tmp_path / "kd", KD, **CACHES[teacher]).state_dict()
    assert made_logits
    made_logits.clear()
    student = run(text, tmp_path / "one", ONE_PASS, **CACHES[teacher])
    assert made_logits == []
    assert not isinstance(student.read, BeforeHead)
    read = recipe_from(recipe(text, {"bpe": {"size": 290}}))
    begun = plan(read, Given(load_data(read))).student(0).state_dict()
    assert max(float((kd[name] - begun[name]).abs().max()) for name in kd) > 1e-3
    for name, weights in student.state_dict().items():
        assert torch.allclose(weights, kd[name], atol=2e-5), name


def test_the_teacher_stops_before_its_head_too(text, tmp_path, monkeypatch):
    plain, wide = torch.nn.functional.linear, []

    def linear(inputs, weight, bias=None):
        if len(weight) > 256 and weight.shape[1] == 32:
            wide.append(torch.is_grad_enabled())
        return plain(inputs, weight, bias)

    made = recipe(text, {"bpe": {"size": 290}}, objective=ONE_PASS)
    quiet_run(made, tmp_path / "first")  # trains the teacher and keeps it
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    made["name"] = "again"
    quiet_run(made, tmp_path / "again")
    evaluations = len(wide)
    made["objective"] = KD
    made["name"] = "kd"
    wide.clear()
    quiet_run(made, tmp_path / "kd")
    assert evaluations < len(wide)


def test_beside_another_term_heads_stay_where_they_are(text, tmp_path, made_logits):
    both = [{"linear_head": {"weight": 0.5}}, {"ce": {"weight": 0.5}}]
    run(text, tmp_path / "both", both)
    assert made_logits


def test_check_weighs_one_pass_as_it_does_others(text):
    found = check(recipe(text, {"bpe": {"size": 290}}, objective=ONE_PASS))
    assert [share.term for share in found.shares] == ["linear_head"]
    assert found.shares[0].share == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": [{"linear_head": {"student_head": "hat"}}]}, "'hat'"),
        ({"objective": [{"linear_head": {"temperature": 0}}]}, "linear_head.temperature"),
        ({"objective": [{"linear_head": {"teacher": None}}]}, "teacher and teacher_head"),
    ],
    ids=["path", "temperature", "half"],
)
def test_a_wrong_head_is_told_in_one_line(text, tmp_path, changes, told):
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(recipe(text, {"bpe": {"size": 290}}, **changes), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
