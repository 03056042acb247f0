"""What a recipe calls: everything at once, measured on the whole teacher."""

import pytest
import torch
from torch import nn

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError, RecipeError
from tutelage.models import Frozen, Observed
from tutelage.models.shrunk import (
    chosen_layers,
    fewer_layers,
    merged,
    narrower,
    needs_batches,
    shrunk,
)

transformers = pytest.importorskip("transformers")

IDS = torch.randint(0, 30, (3, 6), generator=torch.Generator().manual_seed(0))
BATCHES = [Batch({"input_ids": IDS, "attention_mask": torch.ones_like(IDS)})]


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=24, intermediate_size=20, vocab_size=30, num_hidden_layers=5,
        num_attention_heads=6, num_key_value_heads=3, initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_everything_is_measured_on_the_whole_teacher():
    teacher = llama()
    options = {"layers": 2, "choose": "importance", "heads": 4, "mlp": 8, "width": 12}
    student = shrunk(teacher, iter(BATCHES), **options)
    narrow = narrower(teacher, heads=4, mlp=8, width=12, batches=BATCHES)
    kept = chosen_layers(teacher, 2, choose="importance", batches=BATCHES)
    torch.testing.assert_close(student(IDS).logits, fewer_layers(narrow, kept)(IDS).logits)
    config = student.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (2, 12, 8)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)


def test_a_frozen_teacher_stays_frozen_and_its_student_learns():
    teacher = Frozen(Observed(llama()))
    before = teacher.fingerprint()
    student = shrunk(teacher, BATCHES, layers=2, mlp=8)
    assert all(p.requires_grad for p in student.parameters())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher.fingerprint() == before
    assert isinstance(student, transformers.LlamaForCausalLM)
    loss = Observed(student)(BATCHES[0]).logits.square().mean()
    assert all(g is not None for g in torch.autograd.grad(loss, list(student.parameters())))


@torch.no_grad()
def test_adapters_go_onto_what_is_left():
    pytest.importorskip("peft")
    student = shrunk(llama(), layers=2, lora={"rank": 2, "targets": ["q_proj"]})
    learning = [name for name, p in student.named_parameters() if p.requires_grad]
    assert len(learning) == 4
    torch.testing.assert_close(
        merged(student)(IDS).logits, fewer_layers(llama(), 2)(IDS).logits, atol=1e-5, rtol=1e-5
    )


def test_what_it_needs_is_said_before():
    assert not needs_batches(layers=2)
    assert not needs_batches(layers=[0, 1], choose="importance", lora={"rank": 2})
    assert needs_batches(layers={"encoder": 2}, choose="left_out")
    assert needs_batches(width=8)
    with pytest.raises(DataError, match="none was given"):
        shrunk(llama(), mlp=4)


def test_nothing_to_shrink_and_unknown_options_are_refused():
    with pytest.raises(RecipeError, match="say at least one of them"):
        shrunk(llama())
    with pytest.raises(RecipeError, match=r"lora has no option 'rnak'. Did you mean 'rank'"):
        shrunk(llama(), lora={"rnak": 2})
    with pytest.raises(ModelError, match="a teacher to shrink is a torch module, got a str"):
        shrunk("teacher", layers=2)


def test_its_signature_is_a_schema_for_recipes():
    known = registry.options_of(shrunk)
    assert list(known)[2:] == ["layers", "choose", "heads", "mlp", "width", "lora"]
    assert all(known[name].default in (None, "even") for name in list(known)[2:])


def test_a_model_of_ones_own_needs_no_transformers():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])

        def forward(self, x):
            for block in self.blocks:
                x = x + block(x)
            return x

    student = shrunk(Own(), [Batch(torch.rand(5, 4))], layers=2, choose="importance")
    assert len(student.blocks) == 2
