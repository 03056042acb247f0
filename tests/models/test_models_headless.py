"""Language models that stop before their head while they learn."""

import copy

import pytest
import torch
from language_models import QUIET, VOCABULARY, make
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tutelage.core.batch import Batch
from tutelage.core.errors import MissingFeature, ModelError
from tutelage.engine import Learner, Machine, fit, sgd
from tutelage.models import Frozen, Observed, build_model, class_order
from tutelage.models.headless import UnmadeLogits, with_head, without_head
from tutelage.objectives import CrossEntropy, LinearHead, SoftTarget
from tutelage.settings import Classic

pytest.importorskip("transformers")
pytestmark = QUIET

MAKES = ["LlamaForCausalLM", "GPT2LMHeadModel", "BertForMaskedLM", "gpt"]


def model_of(name, classes=VOCABULARY):
    if name != "gpt":
        return make(name, vocab_size=classes)
    torch.manual_seed(0)
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    return build_model({"gpt": options}, classes=classes, shape=(8,))


def words(rows=4, length=6):
    torch.manual_seed(2)
    tokens = torch.randint(3, VOCABULARY, (rows, length))
    mask = torch.rand(rows, length) > 0.3
    return Batch({"input_ids": tokens}, tokens.roll(-1, 1), mask, torch.arange(rows))


class Largest(TorchDispatchMode):
    """The most bytes that any one result had."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func(*args, **(kwargs or {}))
        for one in returned if isinstance(returned, (tuple, list)) else [returned]:
            if isinstance(one, torch.Tensor):
                self.bytes = max(self.bytes, one.untyped_storage().nbytes())
        return returned


@pytest.mark.parametrize("name", MAKES)
def test_in_training_the_head_is_not_multiplied_and_logits_are_never_made(name, monkeypatch):
    whole = Observed(model_of(name, 400)).train()
    headless, batch = without_head(whole).tap(["head:in"]).train(), words(rows=16, length=16)
    logits, calls, linear = 16 * 16 * 400 * 4, [], nn.Linear.forward
    monkeypatch.setattr(
        nn.Linear,
        "forward",
        lambda self, x: (calls.append(self.out_features), linear(self, x))[1],
    )
    with Largest() as largest:
        answer = headless(batch).float().detach()
    assert 400 not in calls
    assert largest.bytes < logits / 2
    assert answer.logits.shape == (16, 16, 400)
    with Largest() as largest:
        whole(batch)
    assert 400 in calls
    assert largest.bytes >= logits


@pytest.mark.parametrize("name", MAKES)
def test_what_the_head_would_read_is_tapped(name):
    model = model_of(name)
    whole = Observed(model).tap(["head:in"]).eval()
    wanted = whole(words())
    found = without_head(Observed(model), always=True).tap(["head:in"]).eval()(words())
    assert torch.equal(found["head:in"], wanted["head:in"])
    head = whole.lend(["head"])["head"]
    torch.testing.assert_close(head(found["head:in"]), wanted.logits)


def test_in_eval_mode_it_answers_unless_told_otherwise():
    model, batch = model_of("gpt"), words()
    wanted = Observed(model).eval()(batch).logits
    headless = without_head(Observed(model)).eval()
    assert torch.equal(headless(batch).logits, wanted)
    always = without_head(headless, always=True).eval()
    assert isinstance(always(batch).logits, UnmadeLogits)
    assert torch.equal(with_head(always)(batch).logits, wanted)
    assert "forward" not in vars(model.linear)


def test_reading_logits_that_were_not_made_is_one_line():
    answer = without_head(Observed(model_of("gpt"))).train()(words())
    objective = CrossEntropy()
    for wrong in (
        lambda: answer.logits.softmax(-1),
        lambda: answer.logits + 1,
        lambda: torch.zeros(()) * answer.logits,
        lambda: answer.logits[0],
        lambda: float(answer.logits.max()),
        lambda: objective(answer, answer, words()),
        lambda: SoftTarget()(answer, answer, words()),
    ):
        with pytest.raises(ModelError, match="these logits were never made") as caught:
            wrong()
        assert "\n" not in str(caught.value)
    assert answer.float().detach().logits.dtype == torch.float32


def taught(headless, accumulate=1):
    """A student's embedding after three updates, and its teacher's fingerprint before and after."""
    student, teacher = Observed(model_of("gpt")), Observed(make("LlamaForCausalLM"))
    if headless:
        objective = LinearHead("head:in", "head:in", "head", "head", temperature=2.0)
        objective = objective + 0.5 * CrossEntropy() if headless == "mixed" else objective
        student, teacher = without_head(student), without_head(teacher, always=True)
    else:
        objective = SoftTarget(2.0)
    learner = Learner(student, sgd(learning_rate=0.1))
    fit(
        Classic(learner, Frozen(teacher), objective),
        [words()],
        steps=3,
        machine=Machine(accumulate=accumulate),
    )
    return student.model.embed.weight.detach()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_student_learns_in_the_one_loop_as_through_its_logits(accumulate):
    start = model_of("gpt").embed.weight.detach()
    wanted = taught(headless=False)
    assert (wanted - start).abs().max() > 1e-3
    torch.testing.assert_close(taught(True, accumulate), wanted, rtol=1e-4, atol=1e-6)


def test_a_term_that_needs_logits_beside_it_is_refused():
    with pytest.raises(ModelError, match="Leave other terms out, or the head in"):
        taught(headless="mixed")


def test_a_model_is_itself_again_after_a_failure():
    model = model_of("gpt").train()
    headless = without_head(Observed(model))
    with pytest.raises(ModelError, match="this gpt knows 50"):
        headless(Batch({"input_ids": torch.tensor([[99]])}))
    assert "forward" not in vars(model.linear)
    copied = copy.deepcopy(headless).eval()
    assert copied(words()).logits.sum().isfinite()


def test_what_has_no_linear_head_is_refused():
    with pytest.raises(MissingFeature, match="no module 'head'"):
        without_head(Observed(nn.Linear(2, 2)))
    with pytest.raises(ModelError, match="the head 'norm' is a RMSNorm"):
        without_head(Observed(model_of("gpt")), head="norm")
    order = class_order(["a", "b"], ["b", "a"])
    with pytest.raises(ModelError, match="another order needs its own logits"):
        without_head(Observed(model_of("gpt"), classes=order))
