"""Tokenizers with fewer tokens cut texts of kept tokens as before."""

import json

import pytest
import torch

from tutelage.core.errors import DataError, ModelError
from tutelage.models.shrunk import TokenMap, fewer_pieces

tokenizers = pytest.importorskip("tokenizers")

TEXT = [
    "the cat sat on the mat and the dog sat on the log",
    "a small dog sees a small cat on a mat near the sea",
    "many men and many women see the many ships at sea",
    "singing and ringing, bringing and swinging the singers sing",
]


def bpe():
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(TEXT, trainer)
    return made


def wordpiece():
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=110, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def unigram():
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=70, special_tokens=["<s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(TEXT, trainer)
    return made


@pytest.mark.parametrize("make", [bpe, wordpiece, unigram])
def test_texts_of_kept_tokens_are_cut_as_before_and_others_come_back_whole(make):
    whole = make()
    used = {token for text in TEXT[:2] for token in whole.encode(text).ids}
    text, kept = fewer_pieces(whole.to_str(), used)
    small = tokenizers.Tokenizer.from_str(text)
    assert used <= set(kept)
    assert len(kept) == small.get_vocab_size() < whole.get_vocab_size()
    tokens = TokenMap(torch.tensor(kept), whole.get_vocab_size())
    for line in TEXT[:2]:
        before, after = whole.encode(line), small.encode(line)
        assert after.tokens == before.tokens
        assert tokens.to_new(torch.tensor(before.ids)).tolist() == after.ids
    for line in TEXT[2:]:
        assert small.decode(small.encode(line).ids) == whole.decode(whole.encode(line).ids)
        assert len(small.encode(line)) > len(whole.encode(line))


def test_every_kept_token_can_still_be_made():
    whole = bpe()
    longest = max(whole.get_vocab(), key=len)
    text, kept = fewer_pieces(whole.to_str(), [whole.token_to_id(longest)])
    small = tokenizers.Tokenizer.from_str(text)
    word = whole.decode([whole.token_to_id(longest)])
    assert small.encode(word).tokens == [longest]
    assert len(kept) < 256 + 2 + len(longest)


def test_what_is_put_around_a_text_has_its_new_numbers():
    whole = wordpiece()
    state = json.loads(whole.to_str())
    state["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    for each in (whole.to_str(), json.dumps(state)):
        small = tokenizers.Tokenizer.from_str(fewer_pieces(each, [])[0])
        found = small.encode("cat")
        assert (found.tokens[0], found.tokens[-1]) == ("[CLS]", "[SEP]")
        assert found.ids[0] == small.token_to_id("[CLS]")


def test_what_is_no_tokenizer_or_no_token_is_refused():
    for wrong in ("", "[]", "{}", '{"model": {"type": "WordLevel", "vocab": {}}}'):
        with pytest.raises(DataError, match=r"this is no tokenizer\.json of kind BPE"):
            fewer_pieces(wrong, [0])
    with pytest.raises(ModelError, match="9999 is the number of no token"):
        fewer_pieces(bpe().to_str(), [9999])
