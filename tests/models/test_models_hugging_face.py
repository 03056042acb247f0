"""Language models by name, and folders that others can read."""

import json
import stat
import sys

import pytest
import torch
from language_models import QUIET, SIZES, VOCABULARY, make
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, NotInstalled, RecipeError
from tutelage.models import Frozen, Observed, build_model
from tutelage.models.embedder import Embedder, pooled_states
from tutelage.models.hf_layout import save_hf

transformers = pytest.importorskip("transformers")
pytestmark = QUIET

TOKENS = torch.tensor([[3, 4, 5, 6]])


def build(folder, data=VOCABULARY, **options):
    return build_model({f"hf:{folder}": options}, classes=data, shape=(8,))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One of each task."""
    at = tmp_path_factory.mktemp("hf")
    makes = {
        "causal-lm": make("LlamaForCausalLM"),
        "masked-lm": make("BertForMaskedLM"),
        "sequence-classification": make(
            "BertForSequenceClassification", config="BertConfig", num_labels=3
        ),
        "bare": make("BertModel", config="BertConfig", **SIZES),
        "seq2seq-lm": make(
            "T5ForConditionalGeneration",
            config="T5Config",
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=1,
            num_heads=4,
        ),
    }
    return {task: save_hf(model, at / task) for task, model in makes.items()}


def asked(model, **more):
    return Observed(model.eval())(Batch({"input_ids": TOKENS} | more)).logits


@pytest.mark.parametrize("task", ["causal-lm", "masked-lm", "seq2seq-lm"])
def test_a_language_model_is_what_its_configuration_says(folders, task):
    more = {"decoder_input_ids": TOKENS} if task == "seq2seq-lm" else {}
    found = asked(build(folders[task]), **more)
    assert found.shape == (1, 4, VOCABULARY)
    torch.testing.assert_close(found, asked(build(folders[task], task=task), **more))
    assert asked(build(folders[task], classes=7), **more).shape[-1] == VOCABULARY


def test_a_tokenizer_that_knows_more_than_the_model_is_refused(folders):
    with pytest.raises(ModelError, match="knows 50 tokens, and the data's tokenizer has 51"):
        build(folders["causal-lm"], data=51)
    fresh = build(folders["causal-lm"], data=260, pretrained=False)
    assert asked(fresh).shape[-1] == 260
    small = build(folders["causal-lm"], data=2, pretrained=False)
    assert small.lm_head.out_features == 2


def test_weights_are_of_the_type_asked_for(folders):
    assert build(folders["causal-lm"]).dtype == torch.float32
    half = build(folders["causal-lm"], dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert asked(half).dtype == torch.bfloat16
    assert build(folders["causal-lm"], pretrained=False, dtype="float16").dtype == torch.float16


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("bare", {}, r"does not say what it is for \(BertModel\): set task"),
        ("bare", {"task": "masked-lm"}, "as masked-lm: its weights lack cls.* load it as it was"),
        (
            "bare",
            {"task": "sequence-classification", "classes": 2},
            r"lack classifier\.bias, classifier\.weight: set new_head: true",
        ),
        (
            "bare",
            {"task": "embedding", "classes": 3},
            "makes embeddings of 32 numbers, where classes: 3",
        ),
        ("seq2seq-lm", {"task": "embedding"}, "is an encoder-decoder, and an embedding is of an"),
        ("causal-lm", {"gguf": "model.gguf"}, "there is no file 'model.gguf' in it"),
    ],
)
def test_what_does_not_fit_is_one_line(folders, task, options, words):
    with pytest.raises(ModelError, match=words) as caught:
        build(folders[task], **options)
    assert "\n" not in str(caught.value)


def test_unknown_words_are_told_with_the_nearest():
    for options, words in (
        ({"task": "casual-lm"}, "no task 'casual-lm'. Did you mean 'causal-lm'"),
        ({"dtype": "bf16"}, "no dtype 'bf16'. Did you mean 'bfloat16'|Known: bfloat16"),
        ({"pooling": "men"}, "pooling must be 'mean' or 'cls' or 'last', got 'men'"),
    ):
        with pytest.raises((RecipeError, ModelError), match=words):
            Embedder(nn.Identity(), **options) if "pooling" in options else build("x/y", **options)


def test_a_gguf_file_needs_its_library(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(NotInstalled, match=r'gguf .*pip install "tutelage\[hf\]"'):
        build(tmp_path, gguf="model.gguf")


def write_gguf(model, path, leave_out=""):
    """A tiny Llama as llama.cpp would have it: halves of each head interleaved."""
    gguf = pytest.importorskip("gguf")
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        for part, heads in (("q_proj", 4), ("k_proj", 2)):
            if part in name:
                value = value.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
        if name != leave_out:
            writer.add_tensor(names.get_name(name, (".weight",)), value.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_loaded_and_can_be_saved_again(tmp_path):
    model = make("LlamaForCausalLM")
    write_gguf(model, tmp_path / "tiny.gguf")
    found = build(tmp_path, gguf="tiny.gguf")
    torch.testing.assert_close(asked(found), asked(model))
    assert build(tmp_path, gguf="tiny.gguf", dtype="bfloat16").dtype == torch.bfloat16
    again = build(save_hf(found, tmp_path / "out"))
    torch.testing.assert_close(asked(again), asked(model))
    write_gguf(model, tmp_path / "torn.gguf", leave_out="model.layers.1.mlp.up_proj.weight")
    with pytest.raises(ModelError, match=r"weights lack model\.layers\.1\.mlp\.up_proj\.weight"):
        build(tmp_path, gguf="torn.gguf")
    assert "quantization_config" not in json.loads((tmp_path / "out" / "config.json").read_text())


def test_a_broken_gguf_file_is_one_line(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ModelError, match="cannot be made with") as caught:
        build(tmp_path, gguf="model.gguf")
    assert "\n" not in str(caught.value)


def test_a_new_head_is_made_where_it_is_asked_for(folders):
    options = {"task": "sequence-classification", "new_head": True}
    assert asked(build(folders["bare"], data=4, **options)).shape == (1, 4)
    assert asked(build(folders["sequence-classification"], data=3)).shape == (1, 3)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_an_embedding_is_of_the_real_tokens(folders, pooling):
    model = build(folders["bare"], data=2, task="embedding", pooling=pooling, normalise=False)
    hidden = model.eval().body(TOKENS).last_hidden_state[0]
    wanted = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    torch.testing.assert_close(asked(model)[0], wanted)
    for left in (True, False):
        fill, zeros, ones = torch.full((1, 2), 9), torch.zeros(1, 2), torch.ones(1, 4)
        parts = ([fill, TOKENS], [zeros, ones]) if left else ([TOKENS, fill], [ones, zeros])
        inputs = {"input_ids": torch.cat(parts[0], 1), "attention_mask": torch.cat(parts[1], 1)}
        found = Observed(model)(Batch({k: v.long() for k, v in inputs.items()})).logits[0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_an_embedding_of_length_one_is_tapped_learns_and_refuses_packed_rows(folders):
    observed = Observed(build(folders["bare"], data=2, task="embedding")).tap(["layers.1"])
    answer = observed(Batch({"input_ids": TOKENS}))
    torch.testing.assert_close(answer.logits.norm(dim=-1), torch.ones(1))
    assert answer["layers.1"].shape == (1, 4, 32)
    answer.logits[0, 0].backward()
    assert observed.model.body.embeddings.word_embeddings.weight.grad.any()
    with pytest.raises(ModelError, match="an embedding is of one text a row"):
        observed(Batch({"input_ids": TOKENS, "position_ids": torch.tensor([[0, 1, 0, 1]])}))


def test_pooling_of_half_precision_and_of_nothing_is_finite():
    hidden = torch.full((1, 3000, 2), 100.0, dtype=torch.float16)
    assert pooled_states(hidden, torch.ones(1, 3000), "mean").tolist() == [[100.0, 100.0]]
    assert pooled_states(hidden, torch.zeros(1, 3000), "mean").tolist() == [[0.0, 0.0]]


def test_pooling_is_read_from_the_folder_and_written_into_it(folders, tmp_path):
    model = build(folders["bare"], data=2, task="embedding", pooling="cls", normalise=False)
    save_hf(Frozen(Observed(model)), tmp_path / "cls")
    found = build(tmp_path / "cls", data=2, task="embedding")
    assert (found.pooling, found.normalise) == ("cls", False)
    torch.testing.assert_close(asked(found), asked(model))
    modules = json.loads((tmp_path / "cls" / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "s.models.Dense"})
    (tmp_path / "cls" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="has a part 'Dense', which is not known here"):
        build(tmp_path / "cls", data=2, task="embedding")


def test_the_library_loads_what_was_saved(folders, tmp_path):
    model = build(folders["causal-lm"])
    for name in ("tokenizer.json", "tokenizer_config.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    target = save_hf(model, tmp_path / "deep" / "out", tokenizer_files=tmp_path)
    assert sorted(one.name for one in target.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o644 for one in target.iterdir())
    again = transformers.AutoModelForCausalLM.from_pretrained(target, use_safetensors=True)
    torch.testing.assert_close(asked(again), asked(model))
    save_hf(model, target, tokenizer_files=[tmp_path / "tokenizer.json"], dtype=torch.bfloat16)
    assert not (target / "tokenizer_config.json").exists()
    assert transformers.AutoModelForCausalLM.from_pretrained(target).dtype == torch.bfloat16
    assert model.dtype == torch.float32


def test_tied_weights_are_written_once_in_any_type(tmp_path):
    from safetensors import safe_open

    tied = make("LlamaForCausalLM", tie_word_embeddings=True)
    for dtype in (None, torch.bfloat16):
        target = save_hf(tied, tmp_path / "tied", dtype=dtype)
        with safe_open(target / "model.safetensors", "pt") as file:
            assert "lm_head.weight" not in file.keys()  # noqa: SIM118
        assert asked(build(target)).shape == (1, 4, VOCABULARY)


def test_the_zoo_s_gpt_is_saved_as_the_llama_it_is(tmp_path):
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    model = build_model({"gpt": options}, classes=VOCABULARY, shape=(8,))
    again = build(save_hf(model, tmp_path / "gpt"))
    torch.testing.assert_close(asked(again), asked(model))
    plain = build_model({"gpt": options | {"activation": "gelu"}}, classes=9, shape=(8,))
    with pytest.raises(ModelError, match="activation: gelu has no equal"):
        save_hf(plain, tmp_path / "gelu")


def test_what_cannot_be_saved_is_one_line_and_leaves_nothing(tmp_path):
    model = make("LlamaForCausalLM")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "thesis.txt").write_text("x")
    for wrong, words in (
        (lambda: save_hf(model, tmp_path / "kept"), "is there and holds no model"),
        (lambda: save_hf(nn.Linear(2, 2), tmp_path / "a"), "a Linear has no layout"),
        (lambda: save_hf(model, tmp_path / "a", tokenizer_files=tmp_path), "holds no files of a"),
        (lambda: save_hf(model, tmp_path / "a", tokenizer_files=[tmp_path / "x"]), "no file"),
        (lambda: save_hf(model, tmp_path / "kept" / "thesis.txt" / "a"), "cannot be written"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            wrong()
        assert "\n" not in str(caught.value)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="hold NaN or infinite numbers: not written"):
        save_hf(model, tmp_path / "a")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["kept"]
