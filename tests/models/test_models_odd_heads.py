"""Folders of BERTs that lost heads: ``hf:FOLDER`` opens them, as teacher and as student."""

import pytest
import torch
from language_models import QUIET, make

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Embedder, Observed, build_model, save_hf
from tutelage.models.shrunk import fewer_layers, narrower

pytest.importorskip("transformers")
pytestmark = QUIET

IDS = torch.randint(3, 50, (3, 6), generator=torch.Generator().manual_seed(0))
BATCHES = [Batch({"input_ids": IDS, "attention_mask": torch.ones_like(IDS)})]
CLASSIFIER = ("BertForSequenceClassification", {"config": "BertConfig"})
TASKS = {
    "masked-lm": ("BertForMaskedLM", {}),
    "embedding": ("BertModel", {"config": "BertConfig"}),
    "sequence-classification": CLASSIFIER,
}


def cut(kind, options):
    return narrower(make(kind, **options), heads=3, batches=BATCHES)


def answer(model):
    with torch.no_grad():
        return Observed(model)(BATCHES[0]).logits


@pytest.mark.parametrize("task", TASKS)
def test_it_answers_as_what_was_saved_and_can_be_cut_and_saved_again(task, tmp_path):
    model = cut(*TASKS[task])
    model = Embedder(model, pooling="cls") if task == "embedding" else model
    folder = save_hf(model, tmp_path / "student")
    classes = {"masked-lm": 50, "sequence-classification": 2, "embedding": 32}[task]
    spec = {f"hf:{folder}": {"task": task}}
    opened = build_model(spec, classes=classes, shape=(6,))
    torch.testing.assert_close(answer(opened), answer(model))
    again = save_hf(fewer_layers(opened, 1), tmp_path / "again")
    small = build_model({f"hf:{again}": {"task": task}}, classes=classes, shape=(6,))
    torch.testing.assert_close(answer(small), answer(fewer_layers(opened, 1)))


def test_fresh_weights_a_new_head_and_another_precision(tmp_path):
    model = cut(*CLASSIFIER)
    name = f"hf:{save_hf(model, tmp_path / 'student')}"
    fresh = build_model({name: {"pretrained": False}}, classes=2, shape=(6,))
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in model.parameters()]
    assert not torch.allclose(answer(fresh), answer(model))
    other = build_model({name: {"new_head": True}}, classes=5, shape=(6,))
    assert answer(other).shape == (3, 5)
    body = other.bert.encoder.layer[1].attention.self.query.weight
    assert torch.equal(body, model.bert.encoder.layer[1].attention.self.query.weight)
    half = build_model({name: {"dtype": "bfloat16"}}, classes=2, shape=(6,))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    with pytest.raises(ModelError, match="has 2 classes where 5 were asked for: set new_head"):
        build_model(name, classes=5, shape=(6,))


def test_another_task_than_it_was_cut_as_is_refused_in_one_line(tmp_path):
    name = f"hf:{save_hf(cut(*CLASSIFIER), tmp_path / 'student')}"
    with pytest.raises(ModelError, match="was cut as BertForSequenceClassification") as caught:
        build_model({name: {"task": "masked-lm"}}, classes=50, shape=(6,))
    assert "\n" not in str(caught.value)
