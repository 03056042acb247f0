"""Rounding as formulas say it, its gradient, and the tensors that have hardly a range."""

import copy
import shutil

import pytest
import torch
from torch import nn

from tutelage.compression import qat_finished, qat_float, qat_prepared
from tutelage.compression.agreement import answers
from tutelage.compression.folding import fold
from tutelage.compression.qdq import weights_in
from tutelage.compression.spans import Rounding, Span, rounded_layer
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ExportError, ModelError, RecipeError, TutelageError
from tutelage.deployment import export_onnx
from tutelage.models import Observed


def spanned(low, high):
    span = Span().eval()
    span.watch(torch.tensor([low, high]))
    return span


def by_hand(values, low, high):
    """Affine rounding of Jacob et al., equation 1, and where its gradient passes."""
    low, high = min(low, 0.0), max(high, 0.0)
    step = (high - low) / 255
    whole = torch.round(values.double() / step) + round(-low / step)
    return (whole.clamp(0, 255) - round(-low / step)) * step, (whole >= 0) & (whole <= 255)


@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.0, 6.0), (0.5, 3.0), (-4.0, -1.0)])
def test_rounding_and_its_gradient_are_those_of_the_formula(low, high):
    torch.manual_seed(0)
    values = (14 * torch.rand(801) - 7).requires_grad_()
    weights = torch.randn(801)
    out = spanned(low, high)(values)
    wanted, passes = by_hand(values.detach(), low, high)
    assert torch.allclose(out.double(), wanted, atol=1e-5)
    (out * weights).sum().backward()
    assert torch.equal(values.grad, weights * passes)
    assert 0 < passes.sum() < 801


def test_a_layers_gradients_are_those_of_its_rounded_tensors():
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    rounding = Rounding("none", None, answers=False, momentum=0.01)
    rounding.intake.watch(torch.tensor([-1.0, 1.1]))
    made = rounded_layer(layer, rounding).eval()
    x, upstream = (2 * torch.randn(9, 6)).requires_grad_(), torch.randn(9, 4)
    made(x).backward(upstream)
    step = layer.weight.detach().abs().amax(1, keepdim=True) / 127
    weight = (layer.weight.detach() / step).round() * step
    rounded, passes = by_hand(x.detach(), -1.0, 1.1)
    assert torch.allclose(made.weight.grad, upstream.T @ rounded.float(), atol=1e-4)
    assert torch.allclose(x.grad, upstream @ weight * passes, atol=1e-5)
    assert torch.allclose(made.bias.grad, upstream.sum(0), atol=1e-5)


def test_folding_is_what_the_two_compute():
    torch.manual_seed(0)
    layer, norm = nn.Conv2d(3, 8, 3, groups=1), nn.BatchNorm2d(8)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.2, 2)
    x = torch.randn(4, 3, 6, 6)
    wanted = norm.eval()(layer(x))
    fold(layer, norm)
    assert torch.allclose(layer(x), wanted, atol=1e-5)


def odd():
    """A channel of zeros with a bias, one that is always zero, and a layer that is constant."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.ReLU6(), nn.Flatten(),
        nn.Linear(3 * 16, 5), nn.Linear(5, 10),
    )  # fmt: skip
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = 0, 0.5
        net[0].weight[2], net[0].bias[2] = 0, -1
        net[2].weight.zero_()
        net[2].bias.copy_(torch.tensor([0.0, 3.0, 9.0]))
    return Observed(net.eval())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The odd model, the student made of it, and that as a float file."""
    model, x = odd(), Batch(torch.rand(40, 1, 8, 8))
    student = qat_prepared(model, [x])
    student.train()(x)
    source = tmp_path_factory.mktemp("odd") / "float.onnx"
    export_onnx(qat_float(student.eval()), x[:4], source)
    return model, student, source, x


def test_zero_channels_and_constant_activations_are_the_same_in_the_file(exported, tmp_path):
    model, student, source, x = exported
    first = student.model[0]
    steps = first.rounding.weight_steps(first.weight, first.bias)
    assert ((first.bias / steps / first.rounding.incoming.steps()[0]).abs() < 2**31).all()
    change = qat_finished(
        student, tmp_path / "odd.onnx", x, lambda plain, path: shutil.copy(source, path)
    )
    assert change.agreement.equal_top1 >= 0.975
    assert change.agreement.max_difference < 0.02
    assert (answers(student, x) - answers(model, x)).abs().max() < 0.05


def test_a_tensor_that_is_always_zero_stays_so_and_a_broken_batch_moves_no_range():
    span = Span()
    assert torch.equal(span(torch.zeros(5)), torch.zeros(5))
    before = span.high.clone()
    span(torch.tensor([1.0, torch.nan]))
    span(torch.tensor([1.0, torch.inf]))
    assert torch.equal(span.high, before)
    span(torch.ones(2))
    assert span.high == pytest.approx(0.01)


class Branches(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :10] if x.sum() > 0 else x.flatten(1)[:, 10:20]


class Normed(nn.BatchNorm2d):
    pass


CONV = nn.Conv2d(1, 4, 3)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Linear(8, 8), "one bare layer"),
        (nn.Sequential(CONV, Normed(4), nn.Flatten()), r"after '0' \(Normed\) cannot be folded"),
        (nn.Sequential(CONV, Branches()), "graph cannot be taken"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "nothing of it can learn in int8"),
    ],
)
def test_models_that_cannot_learn_so_are_refused_in_one_line(net, words):
    x = torch.rand(4, 8) if isinstance(net, nn.Linear) else torch.rand(4, 1, 8, 8)
    with pytest.raises(ModelError, match=words) as caught:
        qat_prepared(Observed(net.eval()), [Batch(x)])
    assert "\n" not in str(caught.value)


def test_wrong_arguments_are_one_line(exported, tmp_path):
    model, student, _, x = exported
    target = tmp_path / "a.onnx"
    broken = Batch(torch.full((4, 1, 8, 8), torch.nan))
    attempts = [
        (lambda: qat_prepared(model, [x], momentum=0), RecipeError, "momentum must be above 0"),
        (lambda: qat_prepared(model, []), DataError, "no calibration examples"),
        (lambda: qat_prepared(model, [broken]), DataError, "NaN or infinite"),
        (lambda: qat_prepared(model.model, [x]), ModelError, "got a Sequential: wrap it"),
        (lambda: qat_prepared(student, [x]), ModelError, "learns in int8 already"),
        (lambda: qat_finished(model, target, x, print), ModelError, "made by qat_prepared"),
    ]
    for attempt, kind, words in attempts:
        with pytest.raises(TutelageError, match=words) as caught:
            attempt()
        assert isinstance(caught.value, kind)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_other_weights_is_refused_and_an_older_one_stays(exported, tmp_path):
    _, student, source, x = exported
    target = tmp_path / "a.onnx"
    other = copy.deepcopy(student)
    with torch.no_grad():
        other.model[5].weight.add_(1)
    with pytest.raises(ExportError, match=r"changed 'model\.5\.weight'"):
        qat_finished(other, target, x, lambda plain, path: shutil.copy(source, path))
    assert list(tmp_path.iterdir()) == []
    target.write_bytes(b"older")
    with pytest.raises(ExportError, match="say replace=True"):
        qat_finished(student, target, x, print)
    assert target.read_bytes() == b"older"
    with pytest.raises(ExportError, match=r"has no weight 'model\.9\.weight'"):
        weights_in(source, {"model.9": torch.zeros(2).numpy()})
