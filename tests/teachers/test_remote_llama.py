"""A real llama.cpp server with a real model: run by hand where both are at hand.

``TUTELAGE_LLAMA_PYTHON`` names an interpreter that has ``llama-cpp-python[server]``,
``TUTELAGE_LLAMA_GGUF`` a model of its, and ``TUTELAGE_LLAMA_HF`` a folder with the same model and
its tokenizer for transformers.
"""

import os
from pathlib import Path

import pytest
import torch
from llama_server import llama_server

from tutelage.core.batch import Batch
from tutelage.core.errors import ServerError
from tutelage.core.text import Encoded
from tutelage.core.writing import Request
from tutelage.teachers.remote import Echo, Limits, OpenAIWriter, RemoteTeacher

PYTHON, GGUF, FOLDER = (
    os.environ.get(f"TUTELAGE_LLAMA_{name}", "") for name in ("PYTHON", "GGUF", "HF")
)
TEXT = (
    "The Moon is the only natural satellite of the Earth. It orbits at an average distance of "
    "384,400 kilometres, about thirty times the diameter of the Earth, and always shows the same "
    "side. Its gravity is what mostly causes the tides of the seas."
)
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not all(Path(each).exists() and each for each in (PYTHON, GGUF, FOLDER)),
        reason="no llama.cpp server (set TUTELAGE_LLAMA_PYTHON, _GGUF and _HF)",
    ),
]


class Tokens:
    """The model's tokenizer, of bytes in the manner of GPT-2."""

    name, begin, end, padding = "llama", None, None, 0

    def __init__(self):
        from tokenizers import Tokenizer

        self._all = Tokenizer.from_file(f"{FOLDER}/tokenizer.json")
        self.size = self._all.get_vocab_size()
        self.special = frozenset(self._all.get_added_tokens_decoder())
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        odd = [byte for byte in range(256) if byte not in plain]
        self._bytes = {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(odd)}

    def encode(self, text):
        found = self._all.encode(text, add_special_tokens=False)
        return Encoded(tuple(found.ids), tuple(found.offsets))

    def decode(self, tokens):
        return self._all.decode(list(tokens))

    def token_bytes(self, token):
        if token in self.special:
            return b""
        return bytes(self._bytes[letter] for letter in self._all.id_to_token(token))

    def fingerprint(self):
        return "0" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    log = tmp_path_factory.mktemp("llama") / "log.txt"
    with llama_server(PYTHON, GGUF, log, "--n_ctx", "512", name="llama") as found:
        yield found


def test_it_writes(server):
    questions = ("Name three colours.", "What is 2 + 2?", "Who wrote Hamlet?")
    asked = [Request(f"q{i}", (("user", q),), most_tokens=16) for i, q in enumerate(questions)]
    with OpenAIWriter(server, limits=Limits(lanes=2)) as one:
        answers = list(one.write(asked))
    assert not [a.error for a in answers if a.error]
    assert all(a.text.strip() and a.tokens_read > 20 for a in answers)
    print(f"\n{one.spent.tokens_written / one.spent.seconds:.1f} tokens/s written")


def test_what_it_tells_is_found_out_to_be_one_late_and_read_right(server):
    tokens = Tokens()
    ids = torch.tensor([tokens.encode(TEXT).tokens])
    batch = Batch({"input_ids": ids})
    options = {"telling": Echo("text"), "tokenizer": tokens}
    with (
        RemoteTeacher(server, 16, tokens.size, **options) as one,
        pytest.raises(ServerError, match="off by one"),
    ):
        one(batch)
    options["telling"] = Echo("text", late=True)
    with RemoteTeacher(server, 16, tokens.size, **options) as one:
        answer = one(batch)
        print(f"\n{ids.numel() / one.spent.seconds:.1f} tokens/s scored")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    with torch.no_grad():
        log_p = model(input_ids=ids).logits.log_softmax(-1)
    apart = (log_p.gather(-1, answer.top) - answer.logits).abs()[0, :, :8]
    same = (log_p.argmax(-1) == answer.top[..., 0]).float().mean()
    print(f"top 1 the same at {float(same):.3f}, |log p| apart by {float(apart.median()):.4f}")
    assert same > 0.9
    assert apart.median() < 0.15  # its weights are of 4 bits here and there, its sums of 8
    off = (log_p[:, 1:].gather(-1, answer.top[:, :-1]) - answer.logits[:, :-1]).abs()
    assert off[..., :8].median() > 1
