"""Pairs of texts: what is read, what is written, and the one shift between them."""

import json

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data.text import PairSet, SentenceSet, TokenLoader, TokenSet, seq2seq
from tutelage.teachers.cache.sight import sights_of

PAIRS = [(f"say {n}", "ab" * (n % 3 + 1) + chr(97 + n)) for n in range(20)]


def saved(root, pairs=PAIRS, name="pairs.jsonl"):
    lines = [json.dumps({"input": text, "output": answer}) for text, answer in pairs]
    (root / name).write_text("\n".join(lines))
    return str(root / name)


def test_every_token_of_an_answer_is_predicted_once_from_what_was_before(tmp_path):
    splits = seq2seq(saved(tmp_path), "bytes", start=7)
    said = dict(PAIRS)
    whole = splits.train
    for row in range(len(whole)):
        batch = whole.batch(torch.tensor([row]))
        text = whole.tokenizer.decode(batch.inputs["input_ids"][batch.inputs["attention_mask"] > 0])
        written = batch.inputs["decoder_input_ids"][0].tolist()
        predicted = batch.targets[batch.mask].tolist()
        assert predicted == [*said[text].encode(), 256]
        assert written[: len(predicted)] == [7, *said[text].encode()]


def test_splits_share_no_text(tmp_path):
    twice = [*PAIRS, *((text, "other") for text, _ in PAIRS)]
    splits = seq2seq(saved(tmp_path, twice), "bytes")
    assert splits.origin["shared_texts"] == {"validation": 0, "test": 0}
    held = splits.test.open("a test")
    assert len(splits.train) + len(splits.validation) + len(held) == 40
    given = seq2seq(saved(tmp_path), "bytes", test_path=saved(tmp_path, PAIRS[:4], "t.jsonl"))
    assert given.origin["shared_texts"]["test"] > 0


def test_a_loader_cuts_both_sides_and_a_cache_knows_the_rows_again(tmp_path):
    whole = seq2seq(saved(tmp_path), "bytes").train
    plain = {
        int(i): s for i, s in zip(whole.ids, sights_of(whole.batch(_all(whole)))[0], strict=True)
    }
    widths = set()
    for batch in TokenLoader(whole, 3, seed=1).epoch(0):
        widths.add(batch.inputs["decoder_input_ids"].shape[1])
        longest = int(batch.inputs["attention_mask"].sum(1).max())
        assert batch.inputs["input_ids"].shape[1] == longest
        for number, seen in zip(batch.ids.tolist(), sights_of(batch)[0].tolist(), strict=True):
            assert seen == pytest.approx(plain[number].item(), abs=1e-4)
    assert len(widths) > 1


def _all(whole):
    return torch.arange(len(whole))


def test_parts_keep_text_and_answer_together(tmp_path):
    whole = seq2seq(saved(tmp_path), "bytes").train
    part = whole.take(torch.tensor([5, 2]))
    assert part.ids.tolist() == whole.ids[[5, 2]].tolist()
    assert part.fingerprint() != whole.fingerprint() == whole.with_targets(None).fingerprint()
    one, two = part.batch(torch.tensor([1])), whole.batch(torch.tensor([2]))
    assert all(one.inputs[name].equal(two.inputs[name]) for name in two.inputs)


def test_long_texts_are_refused_or_lose_their_end(tmp_path):
    path = saved(tmp_path)
    with pytest.raises(
        DataError, match=r"the answer in line 1 .* has 4 tokens, more than length 3"
    ):
        seq2seq(path, "bytes", answer_length=3)
    cut = seq2seq(path, "bytes", answer_length=3, long="cut").train
    assert cut.targets.shape[1] == 3
    assert bool((cut.targets[:, -1] == 256).all())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": "begin"}, "bytes has no such token"),
        ({"start": "paddin"}, "padding"),
        ({"start": 257}, "from 0 to 256"),
        ({"start": True}, "from 0 to 256"),
        ({"long": "cutt"}, "cut"),
        ({"text": "inputs"}, "input"),
        ({"validation": 3, "validation_path": "x"}, "validation_path is given too"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, options, said):
    with pytest.raises(DataError, match=said) as error:
        seq2seq(saved(tmp_path), "bytes", **options)
    assert "\n" not in str(error.value)


def test_an_empty_answer_is_refused_with_its_line(tmp_path):
    with pytest.raises(DataError, match=r"'output' in line 2 of .* is empty"):
        seq2seq(saved(tmp_path, [("a", "b"), ("c", " ")]), "bytes")


def test_sides_must_belong_together():
    texts = SentenceSet(torch.tensor([[1, 2]]), torch.tensor([2]), vocabulary=5)
    with pytest.raises(DataError, match="one answer to each text"):
        PairSet(texts, TokenSet(torch.tensor([[0, 1], [0, 2]]), vocabulary=5))
    with pytest.raises(DataError, match="one vocabulary"):
        PairSet(texts, TokenSet(torch.tensor([[0, 1]]), vocabulary=6))
