"""llama.cpp's server for Python with a model that is written here: exact, and one place late."""

import copy
import importlib.util
import os
import sys

import pytest
import torch
from llama_server import llama_server
from small_server import Letters, model

from tutelage.core.batch import Batch
from tutelage.core.errors import ServerError
from tutelage.core.writing import Request
from tutelage.teachers.remote import Echo, OpenAIWriter, RemoteTeacher

PYTHON = os.environ.get("TUTELAGE_LLAMA_PYTHON", "")
TEXT, K, V = "Moons rise, tides follow: here once more.", 4, 264
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON and importlib.util.find_spec("llama_cpp") is None,
        reason="no llama_cpp (pip install 'llama-cpp-python[server]', or set "
        "TUTELAGE_LLAMA_PYTHON to an interpreter that has it)",
    ),
]


def plain():
    """The tiny model; half a character, which has no text of its own, is never likely."""
    made = copy.deepcopy(model())
    made.lm_head.weight.data[128:] = 0
    return made


def turned(weight, heads):
    """Rows of a projection in the order of llama.cpp's rotation: pairs side by side."""
    size = len(weight) // heads // 2
    return weight.reshape(heads, 2, size, -1).transpose(1, 2).reshape(weight.shape)


def write(path):
    """The model as a GGUF of float32, with a tokenizer of single bytes."""
    gguf = pytest.importorskip("gguf")
    made, to = plain(), gguf.GGUFWriter(path, "llama")
    own = made.config
    to.add_context_length(256)
    to.add_embedding_length(own.hidden_size)
    to.add_block_count(own.num_hidden_layers)
    to.add_feed_forward_length(own.intermediate_size)
    to.add_head_count(own.num_attention_heads)
    to.add_head_count_kv(own.num_key_value_heads)
    to.add_layer_norm_rms_eps(own.rms_norm_eps)
    to.add_rope_dimension_count(own.hidden_size // own.num_attention_heads)
    to.add_vocab_size(V)
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    odd = [byte for byte in range(256) if byte not in shown]
    letters = [chr(b) if b in shown else chr(256 + odd.index(b)) for b in range(256)]
    kinds = gguf.TokenType
    to.add_tokenizer_model("gpt2")
    to.add_tokenizer_pre("gpt-2")
    to.add_token_list([*letters, *(f"<{n}>" for n in range(256, V))])
    to.add_token_types([kinds.NORMAL] * 256 + [kinds.CONTROL] * (V - 256))
    to.add_token_merges(["\u00ff \u00fe"])
    to.add_bos_token_id(261)
    to.add_eos_token_id(262)
    to.add_add_bos_token(False)

    def put(name, weight):
        to.add_tensor(f"{name}.weight", weight.detach().float().contiguous().numpy())

    put("token_embd", made.model.embed_tokens.weight)
    put("output_norm", made.model.norm.weight)
    put("output", made.lm_head.weight)
    for number, layer in enumerate(made.model.layers):
        at, mind, mlp = f"blk.{number}", layer.self_attn, layer.mlp
        put(f"{at}.attn_norm", layer.input_layernorm.weight)
        put(f"{at}.ffn_norm", layer.post_attention_layernorm.weight)
        put(f"{at}.attn_q", turned(mind.q_proj.weight, own.num_attention_heads))
        put(f"{at}.attn_k", turned(mind.k_proj.weight, own.num_key_value_heads))
        put(f"{at}.attn_v", mind.v_proj.weight)
        put(f"{at}.attn_output", mind.o_proj.weight)
        put(f"{at}.ffn_gate", mlp.gate_proj.weight)
        put(f"{at}.ffn_up", mlp.up_proj.weight)
        put(f"{at}.ffn_down", mlp.down_proj.weight)
    to.write_header_to_file()
    to.write_kv_data_to_file()
    to.write_tensors_to_file()
    to.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    write(folder / "tiny.gguf")
    # Keys and values in float32.
    options = ["--n_ctx", "256", "--type_k", "0", "--type_v", "0", "--n_threads", "1"]
    python, log = PYTHON or sys.executable, folder / "log.txt"
    with llama_server(python, folder / "tiny.gguf", log, *options, name="tiny") as found:
        yield found


def test_scores_are_the_models_own_and_one_late(server):
    tokens = Letters()
    ids = torch.tensor([tokens.encode(TEXT).tokens])
    assert bytes(ids[0].tolist()) == TEXT.encode()
    options = {"tokenizer": tokens}
    with (
        RemoteTeacher(server, K, V, telling=Echo("text"), **options) as one,
        pytest.raises(ServerError, match="off by one"),
    ):
        one(Batch({"input_ids": ids}))
    with RemoteTeacher(server, K, V, telling=Echo("text", late=True), **options) as one:
        answer = one(Batch({"input_ids": ids}))
    with torch.no_grad():
        log_p = plain()(input_ids=ids).logits.log_softmax(-1)
    best = log_p.topk(K, -1)
    assert torch.equal(answer.top, best.indices)
    apart = (answer.logits - best.values).abs().max()
    print(f"\n|log p| apart by {float(apart):.1e} at most")
    assert apart < 1e-4


def test_it_writes_by_those_scores(server):
    asked = [Request(f"q{n}", (("user", f"{n} moons"),), most_tokens=8) for n in range(4)]
    with OpenAIWriter(server) as one:
        answers = list(one.write(asked))
    assert not [each.error for each in answers if each.error]
    assert all(each.tokens_written for each in answers)
    assert one.spent.requests == 4
    assert one.spent.reckoned == 0
