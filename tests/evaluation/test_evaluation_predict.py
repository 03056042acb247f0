import pytest
import torch
from evaluation_samples import CLASSES, Set
from torch import nn

from tutelage.core.errors import DataError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.evaluation import predict
from tutelage.models import Observed


@pytest.fixture
def examples():
    dice = torch.Generator().manual_seed(0)
    return Set(torch.rand(37, 6, generator=dice), torch.arange(37) % 4)


def model():
    torch.manual_seed(0)
    return Observed(
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
    )


def test_every_example_is_answered_once_in_order_whatever_the_batch_size(examples):
    answers = model()
    whole = predict(answers, examples)
    small = predict(answers, examples, batch_size=5)
    answers.eval()
    direct = answers(examples.batch(torch.arange(37))).logits
    assert torch.allclose(whole.logits, direct, atol=1e-6)
    assert torch.allclose(whole.logits, small.logits, atol=1e-6)
    assert torch.equal(whole.ids, examples.ids)
    assert torch.equal(whole.targets, examples.targets)
    assert whole.classes == CLASSES


def test_modes_are_restored_module_by_module_and_nothing_is_learned(examples):
    answers = model()
    answers.model[1].eval()
    before = {name: value.clone() for name, value in answers.state_dict().items()}
    logits = predict(answers, examples).logits
    assert [m.training for m in answers.model] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in answers.state_dict().items())
    assert not logits.requires_grad


def test_modes_are_restored_after_an_error(examples):
    answers = model()
    with pytest.raises(ShapeMismatch):
        predict(answers, Set(examples.inputs, examples.targets, ("one", "two")))
    assert answers.training


def test_lower_precision_is_used_and_comes_back_as_float32(examples):
    answers = model()
    exact, rough = predict(answers, examples), predict(answers, examples, precision="bf16")
    assert rough.logits.dtype == torch.float32
    assert not torch.equal(exact.logits, rough.logits)
    assert torch.allclose(exact.logits, rough.logits, atol=0.05)


def test_anything_that_answers_batches_can_be_evaluated(examples):
    found = predict(lambda batch: Outputs(batch.inputs[:, :4]), examples)
    assert torch.equal(found.logits, examples.inputs[:, :4])


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({"targets": None}, {}, DataError, "the data set has no targets"),
        ({"inputs": torch.zeros(0, 6)}, {}, DataError, "the data set is empty"),
        (
            {"classes": ("a", "b")},
            {},
            ShapeMismatch,
            r"logits of shape \(37, 4\), and the data has 2",
        ),
        ({}, {"precision": "fp8"}, DataError, "no precision 'fp8'. Known: bf16, fp16, fp32"),
        ({}, {"batch_size": 0}, DataError, "batch_size is 0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(examples, change, options, error, message):
    for name, value in change.items():
        setattr(examples, name, value)
    with pytest.raises(error, match=message) as caught:
        predict(model(), examples, **options)
    assert "\n" not in str(caught.value)


def test_sparse_answers_have_no_accuracy(examples):
    def sparse(batch):
        rows = len(batch)
        top = torch.zeros(rows, 2, dtype=torch.long)
        return SparseOutputs(torch.zeros(rows, 2), top=top, log_tail=torch.zeros(rows))

    with pytest.raises(SparseAnswer, match="needs the logits of all classes"):
        predict(sparse, examples)
