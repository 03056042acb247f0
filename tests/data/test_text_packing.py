from collections import Counter

import numpy as np
import pytest
import torch
from text_samples import documents

from tutelage.core.errors import DataError
from tutelage.data.text import TokenSet, pack
from tutelage.data.text.packing import best_fit, cuts


def numbered(texts):
    """Documents whose tokens are all different, so that each can be followed."""
    stops = np.cumsum([len(text) for text in texts])
    return [
        np.arange(stop - len(text), stop, dtype=np.int32)
        for text, stop in zip(texts, stops, strict=True)
    ]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("length", [1, 4, 7, 29, 100])
def test_every_token_is_a_target_exactly_once_or_the_first_of_its_document(together, length):
    texts = [text for text in numbered(documents(60)) if len(text) > 1]
    rows = TokenSet.of(pack(texts, length, together=together))
    batch = rows.batch(torch.arange(len(rows)))
    predicted = Counter(batch.targets[batch.mask].tolist())
    firsts = Counter(int(text[0]) for text in texts)
    assert predicted + firsts == Counter(token for text in texts for token in text.tolist())
    assert rows.units == sum(len(text) - 1 for text in texts)


@pytest.mark.parametrize("together", [True, False])
def test_each_target_is_what_follows_its_input_in_the_same_document(together):
    texts = [text for text in numbered(documents(60)) if len(text) > 1]
    owner = {token: number for number, text in enumerate(texts) for token in text.tolist()}
    rows = TokenSet.of(pack(texts, 9, together=together))
    batch = rows.batch(torch.arange(len(rows)))
    for read, told in zip(
        batch.inputs["input_ids"][batch.mask].tolist(),
        batch.targets[batch.mask].tolist(),
        strict=True,
    ):
        assert told == read + 1
        assert owner[told] == owner[read]


def test_positions_begin_anew_at_each_document_and_at_the_filling():
    rows = TokenSet.of(pack([np.arange(3), np.arange(3), np.arange(2)], 9))
    batch = rows.batch(torch.arange(1))
    assert set(batch.inputs) == {"input_ids", "position_ids"}
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 0, 1, 0]]
    assert batch.targets.tolist() == [[1, 2, -1, 1, 2, -1, 1, -1, -1]]


def test_the_part_of_a_long_document_begins_with_the_last_token_of_the_part_before():
    rows = TokenSet.of(pack([np.arange(10)], 4))
    assert rows.tokens.long().tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9, 0, 0, 0]]
    batch = rows.batch(torch.arange(3))
    assert batch.inputs["position_ids"][1].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", range(1, 30))
def test_cuts_predict_every_token_but_the_first_once(count):
    for length in (1, 3, 8):
        told = [t for start, stop in cuts(count, length) for t in range(start + 1, stop)]
        assert told == list(range(1, count))
        assert all(stop - start <= length + 1 for start, stop in cuts(count, length))


def test_no_document_that_fits_is_cut_and_rows_are_well_filled():
    sizes = np.random.default_rng(1).integers(1, 33, 500).tolist()
    rows = best_fit(sizes, 33)
    assert sorted(part for row in rows for part in row) == list(range(500))
    assert max(sum(sizes[part] for part in row) for row in rows) <= 33
    least = max(-(-sum(sizes) // 33), sum(size > 33 // 2 + 1 for size in sizes))
    assert len(rows) <= 1.1 * least
    assert sum(sizes) > 0.97 * 33 * len(rows)


def test_marks_travel_with_their_tokens():
    texts = documents(30)
    marks = [text % 2 == 0 for text in texts]
    packed = pack(texts, 11, counted=marks)
    filled = torch.arange(12) < packed.lengths[:, None]
    assert torch.equal(packed.counted, (packed.tokens % 2 == 0) & filled)


def test_the_same_documents_give_the_same_rows_in_the_order_of_their_first():
    one, other = pack(documents(50), 16), pack(documents(50), 16)
    assert torch.equal(one.tokens, other.tokens)
    assert bool((one.sources.diff() >= 0).all())


@pytest.mark.parametrize(
    ("texts", "length", "message"),
    [([], 4, "no document"), ([np.arange(3)], 0, "length is 0, expected at least 1")],
)
def test_rows_that_cannot_be_are_refused(texts, length, message):
    with pytest.raises(DataError, match=message):
        pack(texts, length)
