"""GGUF files in llama.cpp itself: the same tokens, and the model's logits at every position."""

import numpy as np
import pytest
import torch
from test_gguf import MAKES, TEXT, examples, exported, model_of
from test_gguf_tokens import begins, trained

from tutelage.data.text import ByteTokenizer, LibraryTokenizer
from tutelage.deployment.formats.gguf_tokens import CUTS

SENTENCES = (
    TEXT,
    "Hello, world! We'll go\n\nto   the 100th     place.",
    " leading, trailing \t\r\n  \n end  ",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0663\u0664 \u00bd \u2168 x\u00b2 \u3000\u00a0 \U0001f1e9\U0001f1ea",
    "\n",
    "   ",
    "DON'T hello12345hello <|end|>",
)


def opened(path):
    """The file in llama.cpp, with keys and values in float32: its default rounds them."""
    llama_cpp = pytest.importorskip("llama_cpp")
    return llama_cpp.Llama(
        str(path), n_ctx=128, logits_all=True, verbose=False, n_threads=1, type_k=0, type_v=0
    )


def logits_of(llama, ids):
    found = []
    for row in ids.tolist():
        llama.reset()
        llama.eval(row)
        found.append(np.array(llama.scores[: len(row)]))
    return torch.from_numpy(np.stack(found))


# float32 sums in another order, and an exponential by polynomial: some 1e-6 of the largest logit
# after two blocks; a hundred times that would still show every wrong pair, head or position.
@pytest.mark.slow
@pytest.mark.parametrize("name", list(MAKES))
@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_gives_the_model_s_logits(name, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = ByteTokenizer()
    model, ids = model_of(name, size=257), examples(tokenizer, length=48).inputs["input_ids"]
    exported(model, tokenizer, tmp_path / "a.gguf")
    found = logits_of(opened(tmp_path / "a.gguf"), ids)
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


# beside the weights, llama.cpp rounds what they are multiplied with: to the type of the weights
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "most"), [("f16", 1e-2), ("bf16", 5e-2), ("q8_0", 0.15)])
@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_is_near_in_fewer_bits(kind, most, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = ByteTokenizer()
    model, ids = model_of("llama", size=257), examples(tokenizer, length=48).inputs["input_ids"]
    exported(model, tokenizer, tmp_path / "a.gguf", kind=kind)
    found = logits_of(opened(tmp_path / "a.gguf"), ids)
    with torch.no_grad():
        wanted = model(input_ids=ids).logits
    assert float((found - wanted).abs().max() / wanted.abs().max()) < most


@pytest.mark.slow
@pytest.mark.parametrize("cut", [*CUTS, "bytes"])
@pytest.mark.filterwarnings("ignore")
def test_llama_cpp_cuts_text_as_the_tokenizer(cut, tmp_path):
    pytest.importorskip("llama_cpp")
    tokenizer = ByteTokenizer()
    if cut != "bytes":
        tokenizer = LibraryTokenizer(begins(trained(cut)), cut, end=1, literal=True)
    exported(model_of("llama", size=tokenizer.size), tokenizer, tmp_path / "a.gguf")
    llama = opened(tmp_path / "a.gguf")
    for text in SENTENCES:
        found = llama.tokenize(text.encode(), add_bos=False, special=False)
        assert found == list(tokenizer.encode(text).tokens), text
        assert llama.detokenize(found, special=True) == text.encode()
    assert llama.token_eos() == tokenizer.end
    begin = [] if tokenizer.begin is None else [tokenizer.begin]
    assert llama.tokenize(b"a", add_bos=True) == [*begin, *tokenizer.encode("a").tokens]
