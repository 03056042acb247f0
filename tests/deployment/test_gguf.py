"""GGUF files of language models: read back number by number, and by the transformers library."""

import sys

import numpy as np
import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, ModelError, NotInstalled
from tutelage.data.text import CharacterTokenizer, bpe_tokenizer
from tutelage.deployment.formats import gguf_tensors
from tutelage.deployment.formats.gguf import export_gguf
from tutelage.deployment.formats.gguf_back import GgufFile
from tutelage.models import Observed
from tutelage.models.shrunk import narrower
from tutelage.models.text_readers import causal_lm
from tutelage.models.zoo.gpt import gpt

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

TEXT = "It's 1984, isn't it?  They'd na\u00efve caf\u00e9s; \u4f60\u597d \U0001f600\n\n\tthe end of 12345.\n"
SIZE = 300
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
MAKES = {
    "llama": ("Llama", {}),
    "untied": ("Llama", {"tie_word_embeddings": False}),
    "heads pruned": ("Llama", {"num_key_value_heads": 4}),
    "biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama3 positions": ("Llama", {"rope_parameters": LLAMA3}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2", {"head_dim": 16}),
}


def model_of(name, size=SIZE, **more):
    """A tiny model of that make, with weights that tell tokens apart."""
    kind, changes = MAKES[name]
    words = {
        "vocab_size": size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "tie_word_embeddings": True,
        "initializer_range": 0.15,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    config = getattr(transformers, f"{kind}Config")(**{**words, **changes, **more})
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for key, value in model.named_parameters():
        if key.endswith("bias") or "norm" in key:
            torch.nn.init.normal_(value, 1.0 if "norm" in key else 0.0, 0.3)
    if name == "heads pruned":  # two of 16 numbers do not make up the width
        model = narrower(model, heads=[[0, 3], [1, 2]]).eval()
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return bpe_tokenizer([TEXT] * 3, size=SIZE)


def examples(tokenizer, rows=4, length=24):
    again = tokenizer.encode(TEXT * 20).tokens[: rows * length]
    return Batch({"input_ids": torch.tensor(again).view(rows, length)})


def exported(model, tokenizer, path, **words):
    reader = (
        {} if isinstance(model, type(gpt(classes=2, width=8, heads=1))) else {"read": causal_lm}
    )
    return export_gguf(Observed(model, **reader), examples(tokenizer), path, tokenizer, **words)


def side_by_side(rows, heads):
    """Number i of each head and its partner i + d/2 put beside it, by loops."""
    size, found = len(rows) // heads, []
    for head in range(heads):
        for i in range(size // 2):
            found += [rows[head * size + i], rows[head * size + size // 2 + i]]
    return np.stack(found)


def fields(path):
    reader = gguf.GGUFReader(path)
    return {key: field.contents() for key, field in reader.fields.items()}, reader.tensors


@pytest.mark.parametrize("name", ["llama", "untied", "heads pruned", "biases", "qwen2"])
def test_every_number_and_key_of_the_file_is_the_model_s(name, tokenizer, tmp_path):
    model = model_of(name)
    parity = exported(model, tokenizer, tmp_path / "a.gguf", source="tiny")
    assert (parity.max_difference, parity.equal_top1, parity.examples) == (0, 1, 4)
    said, tensors = fields(tmp_path / "a.gguf")
    config, arch = model.config, "qwen2" if name == "qwen2" else "llama"
    heads, size = config.num_attention_heads, 16
    wanted = {
        "general.architecture": arch,
        "general.name": "tiny",
        "general.file_type": 0,
        f"{arch}.context_length": 128,
        f"{arch}.embedding_length": 64,
        f"{arch}.block_count": 2,
        f"{arch}.feed_forward_length": 96,
        f"{arch}.attention.head_count": heads,
        f"{arch}.attention.head_count_kv": config.num_key_value_heads,
        f"{arch}.attention.key_length": size,
        f"{arch}.attention.value_length": size,
        f"{arch}.rope.dimension_count": size,
        f"{arch}.rope.freq_base": 500.0,
        f"{arch}.attention.layer_norm_rms_epsilon": float(np.float32(config.rms_norm_eps)),
        f"{arch}.vocab_size": SIZE,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_bos_token": False,
    }
    assert {key: said.get(key) for key in wanted} == wanted
    state, places = model.state_dict(), {"q": heads, "k": config.num_key_value_heads}
    parts = {"self_attn.o_proj": "attn_output", "input_layernorm": "attn_norm"}
    parts |= {"post_attention_layernorm": "ffn_norm"}
    parts |= {f"self_attn.{p}_proj": f"attn_{p}" for p in "qkv"}
    parts |= {f"mlp.{p}_proj": f"ffn_{p}" for p in ("gate", "up", "down")}
    expected = {"token_embd.weight": state["model.embed_tokens.weight"].numpy()}
    expected["output_norm.weight"] = state["model.norm.weight"].numpy()
    if not config.tie_word_embeddings:
        expected["output.weight"] = state["lm_head.weight"].numpy()
    for block in range(2):
        for (ours, theirs), end in ((p, e) for p in parts.items() for e in ("weight", "bias")):
            value = state.get(f"model.layers.{block}.{ours}.{end}")
            if value is None:
                continue
            turned = places.get(theirs[-1]) if theirs in ("attn_q", "attn_k") else None
            array = value.numpy()
            if turned and arch == "llama":
                array = side_by_side(array, turned)
            expected[f"blk.{block}.{theirs}.{end}"] = array
    found = {each.name: np.array(each.data) for each in tensors}
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert np.array_equal(found[key], array), key


# q8_0: in a block of 32 with its largest at 2.2 deviations, weights are off by 0.5 % of a deviation
# (uniform in a step of 1/127), and so is each of the fifteen products one after the other; the
# worst of 30,000 logits is some four deviations off. A wrong order of numbers is off by 1.
@pytest.mark.parametrize(
    ("kind", "most"), [("f32", 1e-4), ("f16", 5e-3), ("bf16", 3e-2), ("q8_0", 0.1)]
)
def test_transformers_answers_from_the_file_as_the_model_does(kind, most, tokenizer, tmp_path):
    model, ids = model_of("llama"), examples(tokenizer).inputs["input_ids"]
    exported(model, tokenizer, tmp_path / "a.gguf", kind=kind)
    types = GgufFile(tmp_path / "a.gguf").types
    assert {types.pop(key) for key in list(types) if "norm" in key} == {"F32"}
    assert set(types.values()) == {kind.upper()}
    other = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="a.gguf", dtype=torch.float32
    )
    with torch.no_grad():
        wanted, found = model(input_ids=ids).logits, other(input_ids=ids).logits
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    assert difference <= most
    assert kind == "f32" or difference > 0  # 0 would be the model itself


@pytest.mark.parametrize("name", ["llama3 positions", "mistral"])
def test_other_makes_come_back_from_the_file_alone(name, tokenizer, tmp_path):
    model, ids = model_of(name), examples(tokenizer).inputs["input_ids"]
    exported(model, tokenizer, tmp_path / "a.gguf")
    back = GgufFile(tmp_path / "a.gguf")
    assert ("rope_freqs.weight" in back.types) is (name != "mistral")
    with torch.no_grad():
        found = back.model()(input_ids=ids).logits
    assert torch.allclose(found, model(input_ids=ids).logits, atol=1e-4)


def test_the_zoo_s_gpt_is_a_llama_and_with_gelu_it_is_none(tokenizer, tmp_path):
    torch.manual_seed(0)
    words = {"classes": SIZE, "width": 24, "layers": 2, "heads": 2, "length": 64}
    model = gpt(**words).eval()
    parity = exported(model, tokenizer, tmp_path / "a.gguf")
    assert (parity.max_difference < 1e-5, parity.equal_top1) == (True, 1)
    exported(model, tokenizer, tmp_path / "b.gguf", kind="q8_0", least_equal=0)
    assert GgufFile(tmp_path / "b.gguf").types["blk.0.attn_q.weight"] == "F16"  # 24 is no block
    with pytest.raises(ExportError, match=r"GELU.*made of LlamaForCausalLM, Mistral.*gpt with swi"):
        exported(gpt(**words, activation="gelu"), tokenizer, tmp_path / "c.gguf")


def test_rows_beyond_the_tokenizer_are_filled_up(tokenizer, tmp_path):
    exported(model_of("llama", size=320), tokenizer, tmp_path / "a.gguf")
    said, _ = fields(tmp_path / "a.gguf")
    tokens, types = (said[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type"))
    assert (len(tokens), tokens[-1], types[-1]) == (320, "[PAD319]", 5)
    with pytest.raises(ExportError, match="has 300 tokens, and the model 290 rows"):
        exported(model_of("llama", size=290), tokenizer, tmp_path / "b.gguf")


def test_a_wrong_file_is_refused_and_an_older_one_stays(tokenizer, tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"older")
    monkeypatch.setattr(gguf_tensors, "neighbours", lambda rows, heads: rows)
    with pytest.raises(ExportError, match="the GGUF file differs from the model by"):
        exported(model_of("llama"), tokenizer, path)
    monkeypatch.undo()
    model = model_of("llama")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = 1e5
    with pytest.raises(ExportError, match=r"blk\.0\.ffn_up\.weight of the file is not the model's"):
        exported(model, tokenizer, path, kind="f16")
    assert [each.name for each in tmp_path.iterdir()] == ["a.gguf"]
    assert path.read_bytes() == b"older"


@pytest.mark.parametrize(
    ("name", "more", "told"),
    [
        ("llama", {"hidden_act": "gelu"}, "inner networks use gelu"),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "of type dynamic"),
        ("mistral", {"sliding_window": 8}, "see no further than 8 tokens"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(name, more, told, tokenizer, tmp_path):
    with pytest.raises(ExportError, match=told) as error:
        exported(model_of(name, **more), tokenizer, tmp_path / "a.gguf")
    assert "\n" not in str(error.value)


def test_other_models_tokenizers_and_kinds_are_refused_in_one_line(
    tokenizer, tmp_path, monkeypatch
):
    path, words = tmp_path / "a.gguf", {"vocab_size": SIZE, "n_embd": 8, "n_layer": 1, "n_head": 1}
    other = transformers.GPT2LMHeadModel(transformers.GPT2Config(**words))
    with pytest.raises(ExportError, match="not made of a GPT2LMHeadModel: it is made of Llama"):
        exported(other, tokenizer, path)
    with pytest.raises(ExportError, match=r"the tokenizer 'characters' does: train with bpe"):
        exported(model_of("llama"), CharacterTokenizer(TEXT), path)
    with pytest.raises(ExportError, match=r"no gguf files of 'q8'.*Did you mean 'q8_0"):
        exported(model_of("llama"), tokenizer, path, kind="q8")
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelError, match=r"no whole GGUF file"):
        GgufFile(tmp_path / "b.gguf")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(NotInstalled, match=r'pip install "tutelage\[hf\]"'):
        exported(model_of("llama"), tokenizer, path)
