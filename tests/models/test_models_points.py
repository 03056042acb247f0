"""The same names for the same places, and what fused attention was given there."""

import math

import numpy as np
import pytest
import torch
from language_models import QUIET, VOCABULARY, make, packed
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import MissingFeature
from tutelage.models import Observed, build_model, feature_points
from tutelage.models.attention_calls import attention_matrix
from tutelage.models.points import named_points
from tutelage.objectives import MiniLM, MiniLMRelations

pytest.importorskip("transformers")
pytestmark = QUIET

HEADS = {"LlamaForCausalLM": (4, 2), "GPT2LMHeadModel": (4, 4), "BertForMaskedLM": (4, 4)}
MANY = [*HEADS, "gpt"]
SIDES = ["queries", "keys", "values", "attention"]


def model_of(name):
    if name != "gpt":
        return make(name)
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    return build_model({"gpt": options}, classes=VOCABULARY, shape=(8,)).eval()


def tapped(model, paths, inputs):
    return Observed(model).tap(paths)(Batch(inputs)).features


@pytest.mark.parametrize("name", MANY)
def test_the_same_names_have_the_same_shapes_in_every_make(name):
    model, inputs = model_of(name), {"input_ids": torch.ones(3, 7, dtype=torch.long)}
    heads, groups = HEADS.get(name, (4, 2))
    states = {"queries": heads, "keys": groups, "values": groups}
    wanted = {f"layers.1:{side}": (3, count, 7, 8) for side, count in states.items()}
    wanted |= dict.fromkeys(("embed", "layers.0", "layers.1", "head:in"), (3, 7, 32))
    wanted["layers.1:attention"] = (3, heads, 7, 7)
    found = tapped(model, list(wanted), inputs)
    assert {path: tuple(one.shape) for path, one in found.items()} == wanted


def test_common_names_are_feature_points():
    assert feature_points(make("GPT2LMHeadModel")) == ("embed", "layers.0", "layers.1")
    assert named_points(make("BertForMaskedLM"))["embed"] == "bert.embeddings"
    assert feature_points(nn.Linear(2, 2)) == ()


def test_what_is_wrapped_around_a_model_is_seen_through():
    body = make("BertModel", config="BertConfig")
    wrapped = nn.ModuleDict({"inner": body})
    assert named_points(wrapped)["layers.1"] == "inner.encoder.layer.1"
    assert "head" not in named_points(wrapped)


def test_two_stacks_are_told_apart():
    config = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    model = make("T5ForConditionalGeneration", config="T5Config", **config)
    inputs = {"input_ids": torch.ones(2, 6).long(), "decoder_input_ids": torch.ones(2, 3).long()}
    paths = ["encoder.layers.0", "decoder.layers.1:keys", "decoder.layers.1#1:keys"]
    found = tapped(model, paths, inputs)
    assert [tuple(found[path].shape) for path in paths] == [(2, 6, 32), (2, 4, 3, 8), (2, 4, 6, 8)]


@pytest.mark.parametrize("name", MANY)
def test_keys_are_the_same_whether_or_not_the_call_had_them_repeated(name):
    """The library repeats grouped keys where there is a mask, and not elsewhere."""
    model, (batch, documents) = model_of(name), packed()
    paths = [f"layers.0:{side}" for side in SIDES]
    alone = tapped(model, paths, {"input_ids": documents[0]})
    together = tapped(model, paths, batch)
    for path in paths:
        first = together[path][:, :, :5]
        first = first[..., :5] if path.endswith("attention") else first
        torch.testing.assert_close(first, alone[path], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "BertForMaskedLM", "GPT2LMHeadModel"])
def test_attention_is_what_the_eager_model_returns(name):
    fused, eager = make(name), make(name, "eager")
    inputs = packed()[0] | {"position_ids": torch.arange(14)[None]}
    found = tapped(fused, ["layers.1:attention"], inputs)["layers.1:attention"]
    wanted = eager(**inputs, output_attentions=True).attentions[1]
    torch.testing.assert_close(found[:, :, :12], wanted[:, :, :12], rtol=1e-4, atol=1e-5)


def test_documents_of_one_row_attend_to_themselves_alone():
    for name in MANY:
        found = tapped(model_of(name), ["layers.0:attention"], packed()[0])["layers.0:attention"]
        assert found[:, :, 5:9, :5].abs().max() == 0
        torch.testing.assert_close(found.sum(-1), torch.ones(1, 4, 14))


def test_queries_and_keys_are_those_that_attention_multiplies():
    """With rotary positions in them, which those of the projections have not."""
    model = make("LlamaForCausalLM")
    paths = ["layers.0:queries", "layers.0:values", "model.layers.0.self_attn.v_proj"]
    paths += ["model.layers.0.self_attn.q_proj"]
    found = tapped(model, paths, {"input_ids": packed()[1][0]})
    values = found["model.layers.0.self_attn.v_proj"].unflatten(-1, (2, 8)).transpose(1, 2)
    torch.testing.assert_close(found["layers.0:values"], values)
    plain = found["model.layers.0.self_attn.q_proj"].unflatten(-1, (4, 8)).transpose(1, 2)
    torch.testing.assert_close(found["layers.0:queries"][:, :, 0], plain[:, :, 0])
    assert not torch.allclose(found["layers.0:queries"], plain, atol=1e-2)


def test_gradients_reach_the_model_through_all_of_them():
    model = make("LlamaForCausalLM").train()
    found = tapped(model, [f"layers.0:{side}" for side in SIDES], {"input_ids": packed()[1][0]})
    for one in found.values():
        model.zero_grad()
        (one**2).sum().backward(retain_graph=True)
        assert model.model.embed_tokens.weight.grad.abs().sum() > 0


def test_relations_of_a_grouped_model_are_taught_to_another():
    student, teacher = model_of("gpt"), make("LlamaForCausalLM")
    sides = {side: {f"layers.1:{side}": f"layers.0:{side}"} for side in SIDES[:3]}
    objectives = MiniLM(4, **sides, key_heads=2, causal=True), MiniLMRelations(2, **sides)
    for objective in objectives:
        ours, theirs = (
            Observed(model).tap(paths)
            for model, paths in zip((student, teacher), objective.taps, strict=True)
        )
        batch = Batch({"input_ids": torch.cat(packed()[1], dim=1)})
        (value,) = objective(ours(batch), theirs(batch), batch).values()
        assert value > 0
        value.backward()
        assert student.layer2.attention.queries.weight.grad.abs().sum() > 0


def test_attention_is_its_formula():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 4, 3, 6)), rng.normal(size=(2, 2, 5, 6))
    mask = rng.random((2, 1, 3, 5)) > 0.3
    mask[0, 0, 1] = False
    found = attention_matrix(torch.tensor(q), torch.tensor(k), mask=torch.tensor(mask)).numpy()
    for n in range(2):
        for head in range(4):
            for i in range(3):
                scores = [
                    math.exp(q[n, head, i] @ k[n, head // 2, j] / math.sqrt(6)) for j in range(5)
                ]
                seen = [s if mask[n, 0, i, j] else 0.0 for j, s in enumerate(scores)]
                wanted = np.array(seen) / (sum(seen) or 1.0)
                np.testing.assert_allclose(found[n, head, i], wanted, atol=1e-12)


def test_numbers_added_and_a_scale_are_followed_in_half_precision_too():
    q, k = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    added = torch.randn(1, 1, 3, 3)
    wanted = (q @ k.transpose(-1, -2) * 0.3 + added).softmax(-1)
    torch.testing.assert_close(attention_matrix(q, k, mask=added, scale=0.3), wanted)
    half = attention_matrix(q.bfloat16(), k.bfloat16(), mask=added.bfloat16(), scale=0.3)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, wanted, rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("layers.7", r"no module 'layers.7'. Did you mean .*'layers"),
        ("relu():queries", "is no feature path"),
        ("embed:keys", "number 0 of the calls of scaled_dot_product_attention inside 'embed'"),
        ("layers.0#1:keys", "number 1 of the calls of scaled_dot_product_attention inside"),
    ],
)
def test_a_path_that_is_wrong_is_one_line(path, words):
    with pytest.raises(MissingFeature, match=words) as caught:
        tapped(make("LlamaForCausalLM"), [path], {"input_ids": torch.ones(1, 2).long()})
    assert "\n" not in str(caught.value)


def test_a_model_that_attends_in_another_way_is_told_what_to_do():
    model, inputs = make("LlamaForCausalLM", "eager"), {"input_ids": torch.ones(1, 2).long()}
    with pytest.raises(MissingFeature, match=r"set_attn_implementation\('sdpa'\)"):
        tapped(model, ["layers.0:keys"], inputs)


def test_modules_are_lent_by_common_names():
    model = make("GPT2LMHeadModel")
    assert Observed(model).lend(["head"]) == {"head": model.lm_head}
    with pytest.raises(MissingFeature, match=r"no module 'haed' to lend. Did you mean 'head'"):
        Observed(model).lend(["haed"])
