import copy

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import (
    Frozen,
    Intake,
    Observed,
    build_model,
    checksum,
    keywords,
    plain,
    reader_of,
)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, tokens, mask=None):
        return self.linear(tokens if mask is None else tokens * mask)


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Everything(nn.Module):
    """Parameters and buffers of every awkward kind."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(5, 7))
        self.brain = nn.Parameter(torch.randn(3).to(torch.bfloat16))
        self.wide = nn.Parameter(torch.randn(3).double())
        self.scalar = nn.Parameter(torch.tensor(1.5))
        self.turned = nn.Parameter(torch.randn(4, 6).t())
        self.images = nn.Parameter(torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("empty", torch.empty(0))
        self.register_buffer("unsaved", torch.arange(3), persistent=False)
        self.register_buffer("small", torch.arange(11, dtype=torch.uint8)[3:])
        self.register_buffer("none", None)
        self.norm = nn.BatchNorm2d(2)


def test_one_flipped_bit_of_any_tensor_changes_the_checksum():
    module = Everything()
    clean = checksum(module)
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    tried = 0
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            continue
        bits = 8 * tensor.element_size()
        for at in {0, tensor.numel() // 2, tensor.numel() - 1}:
            for bit in {0} if tensor.dtype == torch.bool else {0, 3, bits // 2, bits - 1}:
                # bit by bit, in the tensor's own memory: `set_` would lose strides
                place = tensor.data.as_strided((1,), (1,), tensor.storage_offset() + at)
                raw = place.view(torch.uint8)
                raw[bit // 8] ^= 1 << (bit % 8)
                assert checksum(module) != clean, (name, at, bit)
                raw[bit // 8] ^= 1 << (bit % 8)
                tried += 1
    assert checksum(module) == clean
    assert tried > 100


def test_flipped_signs_do_not_cancel():
    layer = nn.Linear(8, 8, bias=False)
    clean = checksum(layer)
    seen = {clean}
    for pattern in range(1, 256):
        rows = [row for row in range(8) if pattern >> row & 1]
        layer.weight.data[rows] *= -1
        seen.add(checksum(layer))
        layer.weight.data[rows] *= -1
    assert checksum(layer) == clean
    assert len(seen) == 256


def test_swapped_values_change_the_checksum():
    layer = nn.Linear(6, 6)
    clean = checksum(layer)
    layer.weight.data = layer.weight.data.flip(0)
    assert checksum(layer) != clean


def test_the_checksum_sees_past_its_first_piece():
    layer = nn.Linear(600, 700, bias=False)
    clean = checksum(layer)
    layer.weight.data.view(torch.int32)[-1, -1] ^= 1
    assert checksum(layer) != clean
    layer.weight.data.view(torch.int32)[-1, -1] ^= 1
    layer.weight.data.view(-1)[[0, 2**17]] = layer.weight.data.view(-1)[[2**17, 0]]
    assert checksum(layer) != clean


def test_the_checksum_does_not_depend_on_memory_format_and_is_stable():
    model = nn.Conv2d(3, 4, 3)
    clean = checksum(model)
    assert checksum(copy.deepcopy(model)) == clean
    model.to(memory_format=torch.channels_last)
    assert checksum(model) == clean
    assert 0 <= clean < 2**63


def frozen(model=None):
    torch.manual_seed(0)
    model = model or nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3)
    )
    return Frozen(Observed(model))


def test_a_teacher_does_not_change_while_it_answers():
    teacher = frozen()
    before = teacher.fingerprint()
    batch = Batch(torch.rand(8, 1, 4, 4))
    first = teacher(batch).logits
    for _ in range(3):
        assert torch.equal(teacher(batch).logits, first)
    assert teacher.fingerprint() == before
    assert not first.requires_grad


def test_a_teacher_stays_in_eval_whoever_switches_it_and_wherever():
    teacher = frozen()
    batch = Batch(torch.rand(8, 1, 4, 4))
    before, first = teacher.fingerprint(), teacher(batch).logits
    teacher.train()
    assert not teacher.observed.model[1].training
    teacher.observed.model.train()
    teacher.observed.model[2].train()
    assert torch.equal(teacher(batch).logits, first)
    assert teacher.fingerprint() == before
    assert not any(m.training for m in teacher.modules())


def test_a_moved_teacher_is_found_out():
    teacher = frozen()
    before = teacher.fingerprint()
    teacher.observed.model[1].num_batches_tracked += 1
    assert teacher.fingerprint() != before
    teacher.observed.model[1].num_batches_tracked -= 1
    teacher.observed.model[1].running_var[2] += 1e-6
    assert teacher.fingerprint() != before


def test_a_teacher_shows_features_without_a_graph():
    teacher = frozen().tap(["0"])
    answer = teacher(Batch(torch.rand(2, 1, 4, 4)))
    assert answer["0"].shape == (2, 4, 2, 2)
    assert not answer["0"].requires_grad
    teacher.release()
    assert teacher(Batch(torch.rand(2, 1, 4, 4))).features == {}


def test_logits_are_put_in_the_order_of_the_data():
    model = nn.Linear(4, 5)
    x = torch.rand(2, 4)
    observed = Observed(model, classes=[3, 0, 4])
    assert torch.equal(observed(Batch(x)).logits, model(x)[:, [3, 0, 4]])
    assert "classes" not in observed.state_dict()


@pytest.mark.parametrize("classes", [[], [0, -1]])
def test_class_numbers_that_are_none_are_refused(classes):
    with pytest.raises(ModelError, match="classes must be class numbers from 0"):
        Observed(nn.Linear(4, 5), classes=classes)


def test_a_class_that_the_model_does_not_have_is_refused():
    observed = Observed(nn.Linear(4, 5), classes=[0, 5])
    with pytest.raises(ModelError, match="number 5 of the model's, which has 5"):
        observed(Batch(torch.rand(2, 4)))


def test_inputs_by_name_pass_an_intake_for_images_unchanged():
    model = Named()
    inputs = {"tokens": torch.rand(2, 4), "mask": torch.ones(2, 1)}
    answer = Observed(model, intake=Intake(0.5, 0.5), read=keywords)(Batch(inputs))
    assert torch.equal(answer.logits, model(**inputs))


def test_inputs_by_name_meet_the_intake_of_their_name():
    model = Named()
    inputs = {"tokens": torch.rand(2, 4), "mask": torch.ones(2, 1)}
    observed = Observed(model, intake={"tokens": Intake(0.5, 0.5)}, read=keywords)
    expected = model((inputs["tokens"] - 0.5) / 0.5, inputs["mask"])
    torch.testing.assert_close(observed(Batch(inputs)).logits, expected)


def test_an_intake_stands_between_the_data_and_the_model():
    model = nn.Linear(4, 3)
    x = torch.rand(2, 4)
    observed = Observed(model, intake=Intake(0.5, 0.25))
    torch.testing.assert_close(observed(Batch(x)).logits, model((x - 0.5) / 0.25))


def test_a_model_that_returns_no_tensor_is_told_in_one_line():
    with pytest.raises(ModelError, match=r"Pair returned a tuple where a tensor of logits"):
        Observed(Pair())(Batch(torch.rand(2, 4)))


def test_keywords_refuse_a_tensor_without_a_name():
    with pytest.raises(ModelError, match="one tensor without a name"):
        Observed(Named(), read=keywords)(Batch(torch.rand(2, 4)))


def test_an_ordinary_model_is_read_plainly():
    assert reader_of(Named()) is plain
    assert Observed(Named()).read is plain


def test_a_compiled_model_answers_the_same_and_its_copy_is_its_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    x = Batch(torch.rand(2, 4))
    observed = Observed(model)
    before, names = observed(x).logits, list(observed.state_dict())
    observed.compile_model("eager")
    torch.testing.assert_close(observed(x).logits, before)
    assert list(observed.state_dict()) == names
    copied = copy.deepcopy(observed)
    nn.init.zeros_(copied.model[2].weight)
    nn.init.zeros_(copied.model[2].bias)
    assert copied(x).logits.abs().max() == 0  # an average of weights must run its own weights
    torch.testing.assert_close(observed(x).logits, before)


def test_compiling_runs_the_compiler():
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    observed = Observed(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    observed.compile_model(backend)
    observed(Batch(torch.rand(2, 4)))
    assert len(seen) == 1
    assert len([node for node in seen[0].graph.nodes if node.op.startswith("call")]) == 2


def test_channels_last_changes_memory_and_not_the_answer():
    torch.manual_seed(0)
    model = build_model({"resnet": {"depth": 8}}, classes=3, shape=(3, 8, 8)).eval()
    x = torch.rand(2, 3, 8, 8)
    observed = Observed(model)
    before = observed(Batch(x)).logits
    observed.use_channels_last()
    answer = observed.tap(["layer1"])(Batch(x))
    assert answer["layer1"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(answer.logits, before, rtol=1e-4, atol=1e-5)


def test_channels_last_leaves_inputs_by_name_that_are_no_images():
    model = Named()
    observed = Observed(model, read=keywords)
    observed.use_channels_last()
    inputs = {"tokens": torch.rand(2, 4)}
    assert torch.equal(observed(Batch(inputs)).logits, model(**inputs))
