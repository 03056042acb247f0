import copy
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import MissingFeature, ModelError
from tutelage.models import Observed, build_model
from tutelage.models.taps import Taps

Answer = namedtuple("Answer", "main extra")


class Cell(nn.Module):
    def forward(self, first, second=None, *, mask):
        return Answer(first + 1, [second * 2, {"hidden": mask * 3}])


class Odd(nn.Module):
    """Tuples, keywords, bare functions, a shared module, and names with dots."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.cell = Cell()
        self.shared = nn.Tanh()
        self.never = nn.Linear(4, 4)

    def forward(self, x):
        a = F.relu(self.first(x))
        b = torch.relu(self.blocks[0](a))
        c = self.blocks[1](b).relu()
        d = self.shared(self.shared(c) - 1)
        cell = self.cell(a, b, mask=c)
        q = cell.main.view(len(x), 1, 2, 2)
        e = F.scaled_dot_product_attention(q, q + 1, q + 2)
        return d + e.flatten(1)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Odd()


def tapped(model, paths, inputs=None):
    inputs = torch.rand(3, 4) if inputs is None else inputs
    return Observed(model).tap(paths)(Batch(inputs)).features


def steps(model, x):
    a = F.relu(model.first(x))
    b = torch.relu(model.blocks[0](a))
    c = model.blocks[1](b).relu()
    return a, b, c


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("first", lambda m, x, a, b, c: m.first(x)),
        ("first:out", lambda m, x, a, b, c: m.first(x)),
        ("first:in", lambda m, x, a, b, c: x),
        ("blocks.1", lambda m, x, a, b, c: m.blocks[1](b)),
        ("blocks.1:in", lambda m, x, a, b, c: b),
        ("cell", lambda m, x, a, b, c: a + 1),
        ("cell:out.1", lambda m, x, a, b, c: b * 2),
        ("cell:out.2", lambda m, x, a, b, c: c * 3),
        ("cell:in.1", lambda m, x, a, b, c: b),
        ("cell:in.2", lambda m, x, a, b, c: c),
        ("cell:in.mask", lambda m, x, a, b, c: c),
        ("shared#0", lambda m, x, a, b, c: c.tanh()),
        ("shared#1", lambda m, x, a, b, c: (c.tanh() - 1).tanh()),
        ("shared#1:in", lambda m, x, a, b, c: c.tanh() - 1),
        ("shared", lambda m, x, a, b, c: (c.tanh() - 1).tanh()),
        ("relu()", lambda m, x, a, b, c: a),
        ("relu()#0", lambda m, x, a, b, c: a),
        ("relu()#1", lambda m, x, a, b, c: b),
        ("relu()#2", lambda m, x, a, b, c: c),
        ("relu()#2:in", lambda m, x, a, b, c: m.blocks[1](b)),
        (
            "scaled_dot_product_attention()#0:in.1",
            lambda m, x, a, b, c: (a + 1).view(-1, 1, 2, 2) + 1,
        ),
        (
            "scaled_dot_product_attention()",
            lambda m, x, a, b, c: F.scaled_dot_product_attention(
                *((a + 1).view(-1, 1, 2, 2) + i for i in range(3))
            ),
        ),
    ],
)
def test_a_path_shows_what_passed_there(model, path, expected):
    x = torch.rand(3, 4)
    a, b, c = steps(model, x)
    torch.testing.assert_close(tapped(model, [path], x)[path], expected(model, x, a, b, c))


@pytest.mark.parametrize("path", ["", "()", "a:b", "a:in.", "a#", "a()#x", "a::in", 3, "a:in.1.2"])
def test_what_is_no_path_is_refused(model, path):
    with pytest.raises(MissingFeature, match="is no feature path: write 'layer3'"):
        Observed(model).tap([path])


def test_a_wrong_module_names_the_nearest_and_taps_nothing(model):
    observed = Observed(model)
    with pytest.raises(MissingFeature, match=r"no module 'block.1'. Did you mean 'blocks.1'"):
        observed.tap(["first", "block.1"])
    assert observed.taps == []


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "cell:out.7",
            r"'cell' was returned 3 tensors \(counted from 0\), so there is no number 7",
        ),
        ("cell:in.musk", r"no tensor by the name of 'musk'. Did you mean 'mask'\?"),
        ("never", "the model's forward pass never reached it"),
        ("shared#5", "the model's forward pass never reached it"),
        ("relu()#3", "the model called 'relu' only 3 times"),
        ("rellu()", r"called no function 'rellu'. Did you mean 'relu'\?"),
    ],
)
def test_what_never_passes_is_told_in_one_line(model, path, words):
    with pytest.raises(MissingFeature, match=words) as caught:
        tapped(model, [path])
    assert "\n" not in str(caught.value)


def test_a_recurrent_layer_shows_its_tuple():
    model = build_model({"gru": {"hidden": 5, "layers": 2}}, classes=3, shape=(7, 4))
    seen = tapped(model, ["gru", "gru:out.1"], torch.rand(2, 7, 4))
    assert seen["gru"].shape == (2, 7, 5)
    assert seen["gru:out.1"].shape == (2, 2, 5)
    torch.testing.assert_close(seen["gru"][:, -1], seen["gru:out.1"][-1])


def test_attention_of_a_vision_transformer_is_heard_by_block():
    model = build_model({"vit": {"dim": 8, "depth": 2, "heads": 2}}, classes=3, shape=(3, 8, 8))
    path = "scaled_dot_product_attention()#1:in.0"
    seen = tapped(model, [path, "layer2.attention.qkv"], torch.rand(2, 3, 8, 8))
    assert seen[path].shape == (2, 2, 5, 4)
    both = seen["layer2.attention.qkv"][..., :8].unflatten(-1, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(seen[path], both)


def test_a_feature_is_kept_as_it_was_before_a_change_in_place():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    observed = Observed(model).tap(["0", "1:in", "1", "2:in"])
    for _ in range(3):  # the first pass learns which features need a copy
        x = torch.randn(8, 4)
        before = F.linear(x, model[0].weight, model[0].bias)
        answer = observed(Batch(x))
        torch.testing.assert_close(answer["0"], before)
        torch.testing.assert_close(answer["1:in"], before)
        torch.testing.assert_close(answer["1"], before.relu())
        answer["0"].sum().backward()
        torch.testing.assert_close(model[0].weight.grad, x.sum(0).expand(4, 4))
        model.zero_grad()


def test_features_are_copied_only_where_they_are_changed():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    inner = {}
    model[2].register_forward_pre_hook(lambda m, args: inner.update(now=args[0]))
    observed = Observed(model).tap(["0", "2:in"])
    observed(Batch(torch.randn(2, 4)))
    answer = observed(Batch(torch.randn(2, 4)))
    assert answer["2:in"].data_ptr() == inner["now"].data_ptr()
    assert answer["0"].data_ptr() != inner["now"].data_ptr()


def test_a_change_in_place_only_in_training_is_no_surprise_after_a_pass_in_eval():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5, inplace=True), nn.Linear(4, 2))
    observed = Observed(model).tap(["0"])
    x = torch.randn(8, 4)
    for mode in (False, False, True, True):
        answer = observed.train(mode)(Batch(x))
        torch.testing.assert_close(answer["0"], F.linear(x, model[0].weight, model[0].bias))


def test_features_work_in_inference_mode_and_carry_gradients_outside():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True))
    observed = Observed(model).tap(["0"])
    x = torch.randn(8, 4)
    with torch.inference_mode():
        inside = observed(Batch(x))["0"]
    torch.testing.assert_close(inside, F.linear(x, model[0].weight, model[0].bias))
    assert observed(Batch(x))["0"].requires_grad


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_hooks_are_on_the_model_only_during_a_pass(model):
    observed = Observed(model).tap(["first", "cell:in.mask", "relu()"])
    assert hooks(model) == 0
    during = []
    observed.read = lambda m, x: (during.append(hooks(m)), m(x))[1]
    observed(Batch(torch.rand(2, 4)))
    assert during == [2]
    assert hooks(model) == 0
    observed.release()
    assert observed.taps == []
    assert observed(Batch(torch.rand(2, 4))).features == {}


def test_hooks_go_when_the_pass_fails(model):
    observed = Observed(model).tap(["first", "relu()"])
    with pytest.raises(RuntimeError, match="shapes"):
        observed(Batch(torch.rand(2, 5)))
    assert hooks(model) == 0
    assert set(observed(Batch(torch.rand(2, 4))).features) == {"first", "relu()"}


def test_every_pass_shows_its_own_features(model):
    observed = Observed(model).tap(["first", "relu()#1"])
    x, y = torch.rand(2, 4), torch.rand(2, 4)
    one, two = observed(Batch(x)), observed(Batch(y))
    model(torch.rand(2, 4))  # somebody else calls the model
    torch.testing.assert_close(one["first"], model.first(x))
    torch.testing.assert_close(two["first"], model.first(y))
    torch.testing.assert_close(one["relu()#1"], steps(model, x)[1])


def test_two_observers_of_one_model_do_not_meet(model):
    one, two = Observed(model).tap(["first"]), Observed(model).tap(["blocks.0"])
    x = torch.rand(2, 4)
    assert set(one(Batch(x)).features) == {"first"}
    assert set(two(Batch(x)).features) == {"blocks.0"}


def test_tapping_twice_is_tapping_once(model):
    observed = Observed(model).tap(["first"]).tap(["first", "cell"])
    assert observed.taps == ["cell", "first"]


def test_a_copy_of_a_tapped_model_shows_its_own_features(model):
    observed = Observed(model).tap(["first", "relu()"])
    x = torch.rand(2, 4)
    observed(Batch(x))
    copied = copy.deepcopy(observed)
    nn.init.zeros_(copied.model.first.weight)
    torch.testing.assert_close(copied(Batch(x))["first"], copied.model.first(x))
    torch.testing.assert_close(observed(Batch(x))["first"], model.first(x))
    copied.release()
    assert observed.taps == ["first", "relu()"]


def test_compiling_and_tapping_refuse_each_other(model):
    with pytest.raises(ModelError, match=r"torch.compile and tapped features \(first\)"):
        Observed(model).tap(["first"]).compile_model("eager")
    observed = Observed(model)
    observed.compile_model("eager")
    with pytest.raises(ModelError, match=r"is compiled, and features \(first\) cannot be tapped"):
        observed.tap(["first"])
    inner = Odd()
    inner.first.compile(backend="eager")
    with pytest.raises(ModelError, match="is compiled"):
        Taps(inner).add(["cell"])
    with pytest.raises(ModelError, match="is compiled"):
        Taps(torch.compile(nn.Linear(2, 2), backend="eager")).add(["weight"])
    assert observed.tap([]).taps == []


def test_functions_inside_other_functions_are_not_heard():
    attention = nn.MultiheadAttention(4, 2, batch_first=True)

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    x = torch.rand(2, 3, 4)
    assert tapped(Holder(), ["multi_head_attention_forward()"], x)
    with pytest.raises(MissingFeature, match="called no function 'scaled_dot_product_attention'"):
        tapped(Holder(), ["scaled_dot_product_attention()"], x)
