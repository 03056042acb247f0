"""Students that learn by adapters of low rank."""

import copy
import sys

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, NotInstalled, RecipeError
from tutelage.engine import Learner, fit
from tutelage.engine.optimizers import adamw
from tutelage.models import Frozen, Observed
from tutelage.models.shrunk import fewer_layers, merged, with_lora
from tutelage.objectives import SoftTarget
from tutelage.objectives.language.heads import linear_of
from tutelage.settings import Classic

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

IDS = torch.randint(0, 30, (4, 6), generator=torch.Generator().manual_seed(0))


def llama(**options):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=20, vocab_size=30, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.3, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def adapted(model, **options):
    """With adapters that are not zero."""
    student = with_lora(model, **{"rank": 3, "alpha": 6.0} | options)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    return student.eval()


@torch.no_grad()
def test_it_begins_as_the_model_and_only_adapters_in_blocks_learn():
    teacher = llama()
    student = with_lora(teacher, rank=3)
    torch.testing.assert_close(student.eval()(IDS).logits, teacher(IDS).logits)
    learning = [name for name, p in student.named_parameters() if p.requires_grad]
    assert len(learning) == 2 * 7 * 2  # A and B of seven layers in each of two blocks
    assert all("lora_" in name and "layers." in name for name in learning)
    assert all(p.requires_grad for p in teacher.parameters())
    assert type(student) is type(teacher)
    assert {p.data_ptr() for p in teacher.parameters()}.isdisjoint(
        p.data_ptr() for p in student.parameters()
    )


@torch.no_grad()
def test_an_adapter_adds_its_product_by_the_formula():
    teacher = llama()
    student = adapted(teacher, targets=["v_proj"])
    layer = student.model.layers[1].self_attn.v_proj
    x = torch.randn(5, 16)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    plain = teacher.model.layers[1].self_attn.v_proj(x)
    assert a.shape == (3, 16)
    torch.testing.assert_close(layer(x), plain + 6.0 / 3 * x @ a.T @ b.T)


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_a_merged_model_answers_as_the_unmerged_and_is_plain(tied, tmp_path):
    student = adapted(llama(tie_word_embeddings=tied))
    before = copy.deepcopy(student.state_dict())
    plain = merged(student)
    assert not torch.allclose(plain(IDS).logits, llama(tie_word_embeddings=tied)(IDS).logits)
    torch.testing.assert_close(plain(IDS).logits, student(IDS).logits, atol=1e-5, rtol=1e-5)
    assert set(plain.state_dict()) == set(llama().state_dict())
    assert all(p.requires_grad for p in plain.parameters())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    plain.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    torch.testing.assert_close(again.eval()(IDS).logits, plain(IDS).logits)


def test_fit_trains_the_adapters_only_and_the_student_comes_nearer():
    teacher = Frozen(Observed(llama()))
    student = Observed(with_lora(fewer_layers(llama(), [0]), rank=4, dropout=0.1))
    before = {name: p.clone() for name, p in student.named_parameters()}
    batch = Batch({"input_ids": IDS}, torch.zeros_like(IDS), torch.ones_like(IDS).bool())
    learner = Learner(student, adamw(learning_rate=1e-2))
    setting = Classic(learner, teacher, SoftTarget(1.0))

    def loss():
        with torch.no_grad():
            return float(
                sum(SoftTarget(1.0)(student.eval()(batch), teacher(batch), batch).values())
            )

    start = loss()
    fit(setting, [batch], steps=12)
    moved = {name for name, p in student.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "lora_" in name}
    assert loss() < start


def test_the_head_cannot_have_an_adapter_and_says_why():
    with pytest.raises(ModelError, match=r"'lm_head' is the head .*linear_head"):
        with_lora(llama(), targets=["q_proj", "lm_head"])
    with pytest.raises(ModelError, match="embed_tokens' is the head"):
        with_lora(llama(tie_word_embeddings=True), targets=["embed_tokens"])


def test_a_head_with_an_adapter_is_what_the_one_pass_objective_refuses():
    inside = adapted(nn.Sequential(nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])))[0][0]
    with pytest.raises(RecipeError, match=r"linear_head multiplies .* with base_layer"):
        linear_of(inside, "lm_head", "linear_head")
    head = with_lora(llama()).lm_head  # adapters elsewhere leave it plain
    assert linear_of(head, "lm_head", "linear_head") is head


def test_modules_may_learn_whole_beside_the_adapters():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, intermediate_size=20, vocab_size=30, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    model = transformers.BertForSequenceClassification(config)
    student = with_lora(model, rank=2, targets=["query", "value"], whole=["classifier"])
    learning = {name for name, p in student.named_parameters() if p.requires_grad}
    assert {name for name in learning if "lora_" not in name} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert len(learning) == 2 * 2 * 2 + 2


def test_models_of_other_kinds_have_adapters_too():
    body = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
    model = nn.Sequential()
    model.body, model.head = body, nn.Linear(4, 2)
    student = with_lora(model, rank=2)
    assert {name for name, p in student.named_parameters() if p.requires_grad} == {
        f"body.{block}.lora_{side}.default.weight" for block in (0, 1) for side in "AB"
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"targets": ["q_porj"]}, "no linear layer is called so. Did you mean 'q_proj'"),
        ({"targets": ["input_layernorm"]}, "targets has 'input_layernorm', and no linear layer"),
        ({"targets": "q_proj"}, "targets must be a list of ends of paths, got 'q_proj'"),
        ({"targets": []}, "targets must be a list"),
        ({"rank": 0}, "rank must be a whole number of at least 1, got 0"),
        ({"rank": 2.5}, "rank must be a whole number of at least 1, got 2.5"),
        ({"alpha": -1}, "alpha must be a number greater than 0, got -1"),
        ({"dropout": 1}, "dropout must be a number from 0 to below 1, got 1"),
        ({"whole": ["clasifier"]}, "whole has 'clasifier', and no module is called so"),
    ],
)
def test_wrong_options_are_one_line(options, words):
    with pytest.raises(ModelError, match=words) as caught:
        with_lora(llama(), **options)
    assert "\n" not in str(caught.value)


def test_adapters_on_adapters_and_merging_none_are_refused():
    with pytest.raises(ModelError, match="has adapters already: merge them first"):
        with_lora(with_lora(llama(), rank=2), rank=2)
    with pytest.raises(ModelError, match="has no adapters to merge"):
        merged(llama())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(NotInstalled, match=r'pip install "tutelage\[hf\]"'):
        with_lora(llama())
