import numpy as np
import pytest
from text_samples import CHATML, HARD, TEXT, byte_level, hf_folder, with_fallback, word_pieces

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.text import TextTokenizer
from tutelage.data.text import LibraryTokenizer, restored, tokenizer_of
from tutelage.data.text.bpe import kept
from tutelage.data.text.spans import byte_spans
from tutelage.data.text.tokenizing import document, numbers

WHOLE = ["bytes", "characters", "bpe", "byte_level"]


@pytest.fixture(scope="module")
def tokenizers():
    return {
        "bytes": tokenizer_of("bytes"),
        "characters": tokenizer_of("characters", [TEXT, *HARD]),
        "bpe": tokenizer_of({"bpe": {"size": 300}}, [TEXT]),
        "byte_level": LibraryTokenizer(byte_level().to_str(), "byte_level"),
        "word_pieces": LibraryTokenizer(word_pieces().to_str(), "word_pieces"),
        "with_fallback": LibraryTokenizer(with_fallback().to_str(), "with_fallback"),
    }


@pytest.mark.parametrize("name", [*WHOLE, "word_pieces", "with_fallback"])
def test_each_speaks_the_protocol(tokenizers, name):
    made = tokenizers[name]
    assert isinstance(made, TextTokenizer)
    assert 0 <= made.padding < made.size
    assert all(0 <= token < made.size for token in made.special)
    assert len(made.fingerprint()) == 64


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("text", [TEXT, *HARD])
def test_text_comes_back_whole_and_every_token_has_its_own_bytes(tokenizers, name, text):
    made, raw = tokenizers[name], text.encode()
    encoded = made.encode(text)
    assert made.decode(encoded.tokens) == text
    assert [raw[start:stop] for start, stop in encoded.spans] == [
        made.token_bytes(token) for token in encoded.tokens
    ]
    assert b"".join(map(made.token_bytes, encoded.tokens)) == raw


@pytest.mark.parametrize("name", [*WHOLE, "word_pieces", "with_fallback"])
@pytest.mark.parametrize("text", [TEXT, *HARD, "The playing FILM é ☃"])
def test_spans_go_forward_and_the_fast_way_gives_the_same_tokens(tokenizers, name, text):
    made = tokenizers[name]
    encoded = made.encode(text)
    reached = 0
    for start, stop in encoded.spans:
        assert reached <= start <= stop <= len(text.encode())
        reached = stop
    assert numbers(made, text).tolist() == list(encoded.tokens)


def test_tokens_that_share_a_character_have_their_own_bytes_in_byte_level_bpe(tokenizers):
    encoded = tokenizers["byte_level"].encode("a 🦊")
    assert encoded.spans[-4:] == ((2, 3), (3, 4), (4, 5), (5, 6))
    reported = byte_level().encode("a 🦊", add_special_tokens=False).offsets
    assert reported[-4:] == [(2, 3)] * 4  # what the library itself says: one character, four times


def test_spaces_that_the_library_trims_from_its_offsets_belong_to_their_token(tokenizers):
    made = tokenizers["byte_level"]
    assert byte_level().encode("to be", add_special_tokens=False).offsets[-1][0] == 3
    assert made.encode("to be").spans[-1][0] == 2


def test_characters_spelt_by_their_bytes_share_them_out(tokenizers):
    made = tokenizers["with_fallback"]
    encoded = made.encode("a é€b")
    assert encoded.spans == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8))
    assert [made.token_bytes(token) for token in encoded.tokens] == [
        bytes([byte]) for byte in "a é€b".encode()
    ]


@pytest.mark.parametrize(
    ("text", "contents", "characters", "spans"),
    [
        ("Aé", [b"a", b"\xc3", b"\xa9"], [(0, 1), (1, 2), (1, 2)], [(0, 1), (1, 2), (2, 3)]),
        ("X ﬁ", [b"x", b"f", b"i"], [(0, 1), (2, 3), (2, 3)], [(0, 1), (2, 3), (3, 5)]),
        (
            "Bé€",
            [b"b\xc3", b"\xa9\xe2", b"\x82\xac"],
            [(0, 2), (1, 3), (2, 3)],
            [(0, 2), (2, 4), (4, 6)],
        ),
        ("to be", [b" to", b" be"], [(0, 2), (2, 5)], [(0, 2), (2, 5)]),
    ],
)
def test_tokens_of_a_text_that_was_folded_part_the_characters_they_share(
    text, contents, characters, spans
):
    assert byte_spans(text, contents, characters) == spans


def test_word_pieces_lie_where_they_were_in_the_text_before_it_was_folded(tokenizers):
    made, text = tokenizers["word_pieces"], "The  Plays É ☃!"
    encoded, raw = made.encode(text), text.encode()
    assert [raw[a:b].decode() for a, b in encoded.spans] == ["The", "Play", "s", "É", "☃", "!"]
    assert [made.token_bytes(token) for token in encoded.tokens] == [
        b"the",
        b"play",
        b"s",
        b"e",
        b"",
        b"",
    ]
    assert (made.begin, made.end, made.padding) == (2, 3, 3)
    assert 1 not in made.special  # [UNK] stands for text, though nobody knows for which


def test_a_file_that_truncates_and_pads_does_neither_here(tokenizers):
    text = "the good film " * 9
    assert len(word_pieces().encode(text, add_special_tokens=False).ids) == 12
    assert len(tokenizers["word_pieces"].encode(text)) == 27


def test_bos_is_never_added_by_encoding_and_never_twice(tmp_path):
    made = tokenizer_of(f"hf:{hf_folder(tmp_path, byte_level(begin=True), bos_token='<s>')}")
    assert made.begin == 0
    assert 0 not in made.encode("to be").tokens
    assert document(made, "to be").tolist().count(0) == 1
    assert document(made, "to be", first=False).tolist().count(0) == 0


def test_a_model_that_puts_no_token_in_front_has_none_that_begins(tmp_path):
    words = {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    made = tokenizer_of({"hf": {"path": hf_folder(tmp_path, byte_level(), **words)}})
    assert (made.begin, made.end) == (None, 2)


def test_merges_are_learnt_alike_every_time_and_kept_in_a_file(tmp_path):
    one, other = (tokenizer_of({"bpe": {"size": 320}}, [TEXT, TEXT[::-1]]) for _ in range(2))
    assert one.fingerprint() == other.fingerprint()
    path = one.save(tmp_path / "tokenizer.json")
    again = tokenizer_of({"bpe": {"path": str(path)}})
    assert again.fingerprint() == one.fingerprint()
    assert again.encode(TEXT) == one.encode(TEXT)
    smaller = tokenizer_of({"bpe": {"size": 270}}, [TEXT])
    assert smaller.size == 270 < one.size <= 320  # fewer where no pair is met twice


def test_a_folder_for_transformers_keeps_ends_filling_and_template(tmp_path):
    words = {"bos_token": "<s>", "eos_token": "<|im_end|>", "pad_token": "<|im_start|>"}
    model = hf_folder(tmp_path / "model", byte_level(), CHATML, **words)
    for written in ({"bpe": {"size": 300}}, {"hf": {"path": model}}):
        one = tokenizer_of(written, [TEXT])
        name = next(iter(written))
        again = tokenizer_of({"hf": {"path": str(one.save_folder(tmp_path / name))}})
        assert (again.begin, again.end, again.padding) == (one.begin, one.end, one.padding)
        assert again.encode(TEXT) == one.encode(TEXT)
        assert (again.render is None) == (one.render is None)
    said = [("user", "a"), ("assistant", "b")]
    assert again.render(said, False) == one.render(said, False)


def test_no_text_can_end_a_document_by_spelling_the_end_token(tokenizers):
    made = tokenizers["bpe"]
    assert made.end not in made.encode("a <|end|> b").tokens
    assert made.decode(made.encode("a <|end|> b").tokens) == "a <|end|> b"


def test_an_unknown_character_is_a_token_of_its_own(tokenizers):
    made = tokenizer_of("characters", ["abc"])
    assert made.encode("aéb").tokens == (0, made.unknown, 1)
    assert made.encode("aéb").spans == ((0, 1), (1, 3), (3, 4))
    assert made.decode([0, made.unknown, made.end]) == "a\ufffd"


@pytest.mark.parametrize("name", ["bytes", "characters", "bpe"])
def test_plain_data_makes_a_tokenizer_again(tokenizers, name):
    made = tokenizers[name]
    assert restored(made.stated()).fingerprint() == made.fingerprint()


def test_the_hf_tokenizer_is_found_again_by_its_folder(tmp_path):
    made = tokenizer_of(f"hf:{hf_folder(tmp_path, byte_level())}")
    assert restored(made.stated()).fingerprint() == made.fingerprint()


def test_a_tokenizer_of_ones_own_needs_only_the_protocol():
    class Upper:
        name, size, begin, end, padding, special = "upper", 3, None, 2, 2, frozenset({2})

        def encode(self, text):
            return tokenizer_of("characters", ["ab"]).encode(text.lower())

        def decode(self, tokens): ...
        def token_bytes(self, token): ...
        def fingerprint(self): ...

    assert isinstance(Upper(), TextTokenizer)
    assert document(Upper(), "AB").tolist() == [0, 1, 2]
    assert numbers(Upper(), "AB").dtype == np.int32


@pytest.mark.parametrize(
    ("written", "texts", "error", "message"),
    [
        ("byts", [], RecipeError, "no tokenizer called 'byts'. Did you mean 'bytes'"),
        ({"bpe": {"sise": 1}}, ["a"], RecipeError, "no option 'sise'. Did you mean 'size'"),
        ({"bpe": {"size": 256}}, ["a"], DataError, "bpe size is 256, expected at least 257"),
        ({"bpe": {}}, [""], DataError, "no text to learn from"),
        (
            {"bpe": {"path": "nowhere.json"}},
            [],
            DataError,
            "bpe path 'nowhere.json' does not exist",
        ),
        ("characters", [""], DataError, "alphabet is empty"),
        (7, [], DataError, "tokenizer is 7, expected a name such as 'bytes'"),
        ({"hf": {}}, [], RecipeError, "needs the option 'path'"),
        ({"hf": {"path": "./nowhere"}}, [], DataError, "hf path './nowhere' does not exist"),
        ({"hf": {"path": 3}}, [], DataError, "hf path is 3, expected a folder"),
    ],
)
def test_what_is_no_tokenizer_is_refused_in_one_line(written, texts, error, message):
    with pytest.raises(error, match=message) as caught:
        tokenizer_of(written, texts)
    assert "\n" not in str(caught.value)


def test_a_folder_or_file_without_a_tokenizer_is_refused_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        tokenizer_of({"hf": {"path": str(tmp_path)}})
    assert "\n" not in str(caught.value)
    for broken in ("{", "[]", '{"model": 3}'):
        with pytest.raises(DataError, match=r"no tokenizer\.json"):
            kept(broken)
