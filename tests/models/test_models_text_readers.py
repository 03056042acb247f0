"""How language models of the transformers library take a batch of tokens."""

import pytest
import torch
from language_models import QUIET, SIZES, VOCABULARY, make, packed

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Observed, build_model, reader_of
from tutelage.models.text_readers import causal_lm, encoder, seq2seq

pytest.importorskip("transformers")
pytestmark = QUIET

APART = [
    (name, attention)
    for name in (
        "LlamaForCausalLM",
        "Qwen3ForCausalLM",
        "MistralForCausalLM",
        "Gemma3ForCausalLM",
        "GPT2LMHeadModel",
        "BertForMaskedLM",
        "RobertaForMaskedLM",
    )
    for attention in ("sdpa", "eager")
] + [("MPNetForMaskedLM", "eager"), ("gpt", "sdpa")]


def model_of(name, attention="sdpa"):
    if name != "gpt":
        return make(name, attention)
    torch.manual_seed(0)
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    return build_model({"gpt": options}, classes=VOCABULARY, shape=(8,)).eval()


@torch.no_grad()
def logits(model, **inputs):
    return Observed(model)(Batch(inputs)).logits


@pytest.mark.parametrize(("name", "attention"), APART)
def test_documents_that_share_a_row_answer_as_each_does_alone(name, attention):
    model = model_of(name, attention)
    batch, documents = packed()
    alone = torch.cat([logits(model, input_ids=one) for one in documents], dim=1)
    together = logits(model, **batch)
    torch.testing.assert_close(together[:, :12], alone, rtol=1e-4, atol=1e-4)
    assert bool(together.isfinite().all())
    other = dict(batch, input_ids=batch["input_ids"].clone())
    other["input_ids"][:, :5] = (other["input_ids"][:, :5] + 1) % VOCABULARY
    changed = logits(model, **other)
    assert torch.equal(changed[:, 5:12], together[:, 5:12])
    assert not torch.allclose(changed[:, :5], together[:, :5], atol=1e-2)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("name", "attention"), APART)
def test_padding_changes_no_answer(name, attention, side):
    model = model_of(name, attention)
    text, fill = packed()[1][0], torch.ones(1, 3, dtype=torch.long)
    mask = torch.tensor([[0] * 3 + [1] * 5 if side == "left" else [1] * 5 + [0] * 3])
    parts = [fill, text] if side == "left" else [text, fill]
    found = logits(model, input_ids=torch.cat(parts, dim=1), attention_mask=mask)
    real = found[:, 3:] if side == "left" else found[:, :5]
    torch.testing.assert_close(real, logits(model, input_ids=text), rtol=1e-4, atol=1e-4)


def test_a_model_that_lets_documents_see_each_other_is_refused():
    """OPT takes positions and makes no mask of them; nobody would see it in a loss."""
    model = make("OPTForCausalLM")
    with pytest.raises(ModelError, match=r"OPTForCausalLM lets documents .* see each other"):
        logits(model, **packed()[0])
    one = {"input_ids": torch.tensor([[3, 4, 5]]), "position_ids": torch.tensor([[0, 1, 2]])}
    assert logits(model, **one).shape == (1, 3, VOCABULARY)


def test_a_model_without_positions_and_one_with_windows_refuse_packed_rows():
    with pytest.raises(ModelError, match="BloomForCausalLM takes no position_ids"):
        logits(make("BloomForCausalLM", "eager"), **packed()[0])
    bert = make("BertForMaskedLM")
    bert.config.sliding_window = 4
    with pytest.raises(ModelError, match="layers that see a part of the text only"):
        logits(bert, **packed()[0])


def test_asking_whether_documents_stay_apart_leaves_the_model_as_it_was():
    model = make("LlamaForCausalLM").train()
    model.model.layers[1].eval()
    before = [module.training for module in model.modules()]
    answer = Observed(model).tap(["layers.0#0"])(Batch(packed()[0]))
    assert [module.training for module in model.modules()] == before
    assert answer["layers.0#0"].shape == (1, 14, 32)


def test_the_right_reader_is_found():
    assert reader_of(make("LlamaForCausalLM")) is causal_lm
    assert reader_of(make("BertForMaskedLM")) is encoder
    assert reader_of(make("LlamaForSequenceClassification", config="LlamaConfig")) is causal_lm
    assert reader_of(make("T5ForConditionalGeneration", config="T5Config", **T5)) is seq2seq


T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}


def test_an_encoder_decoder_reads_two_texts():
    model = make("T5ForConditionalGeneration", config="T5Config", **T5)
    torch.manual_seed(1)
    source, target = (torch.randint(3, VOCABULARY, (2, length)) for length in (6, 4))
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    found = logits(model, input_ids=source, attention_mask=mask, decoder_input_ids=target)
    assert found.shape == (2, 4, VOCABULARY)
    short = logits(model, input_ids=source[1:, :4], decoder_input_ids=target[1:])
    torch.testing.assert_close(found[1:], short, rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="reads decoder_input_ids beside input_ids"):
        logits(model, input_ids=source)
    with pytest.raises(ModelError, match="turn packing off"):
        logits(model, **packed()[0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_classifier_finds_the_end_of_a_text_whatever_token_pads(side):
    options = {"config": "LlamaConfig", "num_labels": 3, "pad_token_id": 0}
    model = make("LlamaForSequenceClassification", **options)
    text, fill = packed()[1][0], torch.full((1, 3), 7)
    mask = torch.tensor([[0] * 3 + [1] * 5 if side == "left" else [1] * 5 + [0] * 3])
    parts = [fill, text] if side == "left" else [text, fill]
    found = logits(model, input_ids=torch.cat(parts, dim=1), attention_mask=mask)
    torch.testing.assert_close(found, logits(model, input_ids=text), rtol=1e-4, atol=1e-4)
    model.config.pad_token_id = None
    with pytest.raises(ModelError, match=r"set model\.config\.pad_token_id"):
        logits(model, input_ids=text, attention_mask=torch.ones_like(text))


def test_an_encoder_classifies_a_text():
    model = make("BertForSequenceClassification", config="BertConfig", num_labels=3)
    assert reader_of(model) is encoder
    assert logits(model, input_ids=torch.ones(4, 5, dtype=torch.long)).shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("LlamaForCausalLM", {"input_ids": [[3, 99]]}, "knows 50 tokens .* the batch has token 99"),
        ("GPT2LMHeadModel", {"input_ids": [[3] * 65]}, "64 positions, and .* 65 positions"),
        (
            "LlamaForCausalLM",
            {"input_ids": [[3]], "atention_mask": [[1]]},
            "takes no input 'atention_mask', .* Did you mean 'attention_mask'",
        ),
        ("gpt", {"input_ids": [[3, 99]]}, "number 99, and this gpt knows 50"),
        ("gpt", {"input_ids": [[3] * 1025]}, "reads 1024 tokens, and got 1025"),
    ],
)
def test_what_a_model_cannot_read_is_one_line(name, inputs, words):
    with pytest.raises(ModelError, match=words) as caught:
        logits(model_of(name), **{key: torch.tensor(value) for key, value in inputs.items()})
    assert "\n" not in str(caught.value)


def test_a_model_without_a_head_is_told():
    with pytest.raises(ModelError, match="BertModel answers without logits: load it with a head"):
        logits(make("BertModel", config="BertConfig", **SIZES), input_ids=torch.ones(1, 3).long())


def test_nothing_is_kept_for_writing_on():
    model, seen = make("LlamaForCausalLM"), {}
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    logits(model, input_ids=torch.tensor([[3, 4]]))
    assert seen["use_cache"] is False


def test_a_model_with_adapters_is_read_as_the_one_inside():
    peft = pytest.importorskip("peft")
    options = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(make("LlamaForCausalLM"), options).eval()
    assert reader_of(model) is causal_lm
    batch, documents = packed()
    alone = torch.cat([logits(model, input_ids=one) for one in documents], dim=1)
    torch.testing.assert_close(logits(model, **batch)[:, :12], alone, rtol=1e-4, atol=1e-4)
    observed = Observed(model).tap(["layers.1:keys", "head:in"])
    assert observed(Batch({"input_ids": documents[0]}))["layers.1:keys"].shape == (1, 2, 5, 8)
