"""Tokenizers in GGUF files: how text is cut is said by a name, and must be said rightly."""

import json

import pytest
from test_gguf import TEXT, exported, fields, model_of

from tutelage.core.errors import ExportError
from tutelage.data.text import ByteTokenizer, LibraryTokenizer, hf_tokenizer
from tutelage.deployment.formats.gguf_back import GgufFile
from tutelage.deployment.formats.gguf_tokens import CUTS

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")


def trained(cut, **changes):
    """A tokenizer.json learnt from the text, that cuts as one of llama.cpp's."""
    steps, whole = CUTS[cut]
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    spec = json.loads(made.to_str())
    pre = [{"trim_offsets": True, **step} for step in steps]
    spec["pre_tokenizer"] = pre[0] if len(pre) == 1 else {"type": "Sequence", "pretokenizers": pre}
    made = tokenizers.Tokenizer.from_str(json.dumps(spec))
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([TEXT] * 3, trainer)
    made.add_tokens(["hello"])
    made.decoder = tokenizers.decoders.ByteLevel()
    written = json.loads(made.to_str())
    written["model"]["ignore_merges"] = whole
    return json.dumps({**written, **changes})


def begins(written):
    """The same, with a token put before every text."""
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|begin|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {
            "<|begin|>": {"id": "<|begin|>", "ids": [0], "tokens": ["<|begin|>"]},
        },
    }
    template["pair"] = [*template["single"], {"Sequence": {"id": "B", "type_id": 0}}]
    return json.dumps({**json.loads(written), "post_processor": template})


@pytest.mark.parametrize("cut", list(CUTS))
def test_the_way_of_cutting_is_named_and_comes_back(cut, tmp_path):
    written = begins(trained(cut))
    own = tokenizers.Tokenizer.from_str(written)
    tokenizer = LibraryTokenizer(written, cut, end=1)
    exported(model_of("llama", size=311), tokenizer, tmp_path / "a.gguf")
    said, _ = fields(tmp_path / "a.gguf")
    keys = ("pre", "bos_token_id", "eos_token_id", "add_bos_token", "add_eos_token")
    assert [said[f"tokenizer.ggml.{key}"] for key in keys] == [cut, 0, 1, True, False]
    types = dict(zip(said["tokenizer.ggml.tokens"], said["tokenizer.ggml.token_type"], strict=True))
    assert (types["<|begin|>"], types["<|end|>"], types["hello"], types["!"]) == (3, 3, 4, 1)
    merges = [tuple(pair) for pair in json.loads(written)["model"]["merges"]]
    assert [tuple(pair.split(" ")) for pair in said["tokenizer.ggml.merges"]] == merges
    back = GgufFile(tmp_path / "a.gguf").tokenizer()
    for text in (TEXT, "9876 hello\n\n  x", "DON'T don't"):
        assert back.encode(text).ids == own.encode(text, add_special_tokens=False).ids


def test_bytes_are_byte_level_tokens_that_are_never_merged(tmp_path):
    exported(model_of("llama", size=257), ByteTokenizer(), tmp_path / "a.gguf")
    said, _ = fields(tmp_path / "a.gguf")
    assert said["tokenizer.ggml.eos_token_id"] == said["tokenizer.ggml.padding_token_id"] == 256
    back = GgufFile(tmp_path / "a.gguf").tokenizer()
    assert back.encode("a\n\u00e9").ids == [97, 10, 195, 169]


def test_the_chat_template_goes_along(tmp_path):
    folder = tmp_path / "tokenizer"
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(trained("gpt-2")),
        eos_token="<|end|>",
        pad_token="<|begin|>",
    )
    made.chat_template = "{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    made.save_pretrained(folder)
    tokenizer = hf_tokenizer([], str(folder))
    exported(model_of("llama", size=311), tokenizer, tmp_path / "a.gguf")
    said, _ = fields(tmp_path / "a.gguf")
    assert said["tokenizer.chat_template"] == made.chat_template
    keys = ("bos_token_id", "eos_token_id", "padding_token_id")
    assert [said[f"tokenizer.ggml.{key}"] for key in keys] == [1, 1, 0]


WHITE = {"pre_tokenizer": {"type": "WhitespaceSplit"}}
LOWER = {"normalizer": {"type": "Lowercase"}}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (WHITE, "pre-tokenizer WhitespaceSplit"),
        (LOWER, "normaliser Lowercase"),
        ({"pre_tokenizer": None}, "pre-tokenizer None"),
    ],
)
def test_what_llama_cpp_would_cut_otherwise_is_refused(changes, told, tmp_path):
    tokenizer = LibraryTokenizer(trained("gpt-2", **changes), "odd", end=1)
    with pytest.raises(ExportError, match=rf"{told}.*cuts as one of gpt-2, smollm") as error:
        exported(model_of("llama", size=311), tokenizer, tmp_path / "a.gguf")
    assert "\n" not in str(error.value)


def test_a_tokenizer_without_an_end_or_with_greedy_tokens_is_refused(tmp_path):
    endless = LibraryTokenizer(trained("gpt-2"), "endless")
    with pytest.raises(ExportError, match="has no token that ends a text"):
        exported(model_of("llama", size=311), endless, tmp_path / "a.gguf")
    exported(model_of("llama", size=311, eos_token_id=1), endless, tmp_path / "a.gguf")
    spec = json.loads(trained("gpt-2"))
    spec["added_tokens"][-1]["lstrip"] = True
    greedy = LibraryTokenizer(json.dumps(spec), "greedy", end=1)
    with pytest.raises(ExportError, match="the token 'hello' takes blanks beside it"):
        exported(model_of("llama", size=311), greedy, tmp_path / "b.gguf")
