"""Texts as batches that two tokenizers read: what is padded, shifted, counted and grouped."""

import pytest
import torch

from crossed_samples import ByteBPE, Pieces
from tutelage.core.errors import DataError
from tutelage.data.text.aligned import AlignedTexts, aligned_batch, aligned_rows

# The student knows no begin; both know an end.
STUDENT = Pieces("</s>", "a", "b", "c", "ab", " ", end=0, name="student")
TEACHER = Pieces("<s>", "</s>", "a", "b", "c", "bc", " a", " ", begin=0, end=1, name="teacher")


def batch_of(*texts, **options):
    rows = [aligned_rows(text, STUDENT, TEACHER, **options) for text in texts]
    return aligned_batch(rows, STUDENT, TEACHER, ids=torch.arange(len(texts)) + 5)


def test_each_reads_its_own_tokens_padded_and_shifted_once():
    batch = batch_of("abc a", "b")
    inputs = {name: entry.tolist() for name, entry in batch.inputs.items()}
    # Student: ab c _ a </s>; teacher: <s> a bc _a </s>.
    assert inputs["student.input_ids"] == [[4, 3, 5, 1], [2, 0, 0, 0]]
    assert inputs["student.attention_mask"] == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert inputs["teacher.input_ids"] == [[0, 2, 5, 6], [0, 3, 1, 0]]
    assert inputs["teacher.attention_mask"] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch.targets.tolist() == [[3, 5, 1, 0], [0, -1, -1, -1]]
    assert inputs["teacher.targets"] == [[2, 5, 6, 1], [3, 1, -1, -1]]
    assert batch.mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert inputs["teacher.mask"] == [[True] * 4, [True, True, False, False]]
    assert batch.ids.tolist() == [5, 6]


def test_a_group_whose_first_token_nobody_predicts_falls_away():
    """The teacher's begin lets it predict the first token, the student has none: no group of it."""
    batch = batch_of("abc a", "b")
    # ab c | a bc is one group that begins the text; then _ a | _a, and the ends.
    assert batch.inputs["student.group"].tolist() == [[-1, 0, 0, 1], [0, -1, -1, -1]]
    assert batch.inputs["teacher.group"].tolist() == [[-1, -1, 0, 1], [-1, 0, -1, -1]]


def test_where_both_have_a_begin_the_first_token_counts():
    ours = Pieces("<s>", "a", "b", begin=0, end=None)
    theirs = Pieces("a", "ab", "[CLS]", "[SEP]", "b", begin=2, end=3)
    rows = [aligned_rows("aab", ours, theirs)]
    batch = aligned_batch(rows, ours, theirs)
    assert batch.inputs["student.input_ids"].tolist() == [[0, 1, 1]]
    assert batch.inputs["student.group"].tolist() == [[0, 1, 1]]
    # The teacher's end has no partner; its begin is predicted by nobody.
    assert batch.inputs["teacher.group"].tolist() == [[0, 1, -1]]


def test_every_predicted_token_of_a_kept_group_is_there_on_both_sides():
    """Groups of the shifted positions stand for the same bytes: an off-by-one would show."""
    texts = ["over there, the weather is nowhere better", "then 東京 and Größe"]
    ours = ByteBPE(texts * 3, 280)
    theirs = ByteBPE([texts[0]] * 3, 300, begin=True)
    batch = aligned_batch([aligned_rows(t, ours, theirs) for t in texts], ours, theirs)
    targets = {"student": batch.targets, "teacher": batch.inputs["teacher.targets"]}
    for row in range(len(texts)):
        joined = []
        for whose, tokenizer in (("student", ours), ("teacher", theirs)):
            groups = batch.inputs[f"{whose}.group"][row]
            pieces = [b""] * (int(groups.max()) + 1)
            for group, token in zip(groups.tolist(), targets[whose][row].tolist(), strict=True):
                if group >= 0:
                    pieces[group] += tokenizer.token_bytes(token)
            joined.append(pieces)
        assert joined[0] == joined[1]
        assert joined[0][-1] == b""  # the ends
        assert all(joined[0][:-1])
        whole = texts[row].encode()
        assert whole.endswith(b"".join(joined[0]))


def test_answers_alone_count_and_groups_over_their_border_do_not():
    batch = batch_of("abc a", answer=(3, 5))
    assert batch.mask.tolist() == [[False, True, True, True]]
    assert batch.inputs["student.group"].tolist() == [[-1, 0, 0, 1]]
    # From byte 4 on: the teacher's _a begins before the answer.
    inner = batch_of("abc a", answer=(4, 5))
    assert inner.mask.tolist() == [[False, False, True, True]]
    assert inner.inputs["teacher.mask"].tolist() == [[False, False, False, True]]
    assert inner.inputs["student.group"].tolist() == [[-1, -1, -1, 0]]
    ending = batch_of("abc a", answer=(3, 4))
    assert ending.mask.tolist() == [[False, True, False, False]]
    assert ending.inputs["teacher.mask"].sum() == 0


def test_an_empty_answer_counts_nothing():
    batch = batch_of("abc a", answer=(2, 2))
    assert batch.count == 0
    assert bool((batch.inputs["student.group"] == -1).all())


def test_rows_that_are_cut_off_lose_the_groups_that_are_not_whole():
    batch = batch_of("abc abc", longest=4)
    # Student: ab c _ ab | c </s>; teacher: <s> a bc _a | bc </s>.
    assert batch.inputs["student.input_ids"].tolist() == [[4, 3, 5]]
    assert batch.inputs["student.group"].tolist() == [[-1, -1, -1]]
    assert batch.mask.tolist() == [[True, True, True]]
    # The teacher's end is cut off here, the student's is not.
    longer = batch_of("a b", longest=4)
    assert longer.inputs["student.group"].tolist() == [[0, 1, -1]]


def test_words_unknown_to_one_make_no_group():
    """An unknown word has the probability of all of them, and not of these bytes."""
    theirs = Pieces("[UNK]", "a", " ", unknown=0, name="words")
    batch = aligned_batch([aligned_rows("a bc a", STUDENT, theirs)], STUDENT, theirs)
    # Student: a _ b c _ a </s>; teacher: a _ [UNK] [UNK] _ a.
    assert batch.inputs["student.group"].tolist() == [[0, -1, -1, 1, 2, -1]]
    assert batch.inputs["teacher.group"].tolist() == [[0, -1, -1, 1, 2]]


def test_a_source_of_texts_can_be_taken_up_anywhere():
    texts = [f"a{'b' * n} a" for n in range(7)]
    source = AlignedTexts(texts, STUDENT, TEACHER, 2, seed=3, ids=torch.arange(7) * 10)
    first, again = (list(source.epoch(1)) for _ in range(2))
    assert len(source) == len(first) == 4
    assert sorted(torch.cat([batch.ids for batch in first]).tolist()) == [*range(0, 70, 10)]
    for one, other in zip(first, again, strict=True):
        assert one.inputs.keys() == other.inputs.keys()
        assert all(torch.equal(one.inputs[k], other.inputs[k]) for k in one.inputs)
    (tail,) = source.epoch(1, start=3)
    assert torch.equal(tail.ids, first[3].ids)
    assert [b.ids.tolist() for b in source.epoch(0)] != [b.ids.tolist() for b in first]
    ordered = source.in_order()
    assert torch.cat([b.ids for b in ordered.epoch(4)]).tolist() == [*range(0, 70, 10)]
    assert ordered.identity() == source.identity()
    fewer = AlignedTexts(texts, STUDENT, TEACHER, 2, answers=[(0, 1)] * 7)
    assert fewer.identity() != AlignedTexts(texts, STUDENT, TEACHER, 2).identity()
    assert next(fewer.epoch(0)).count == 0  # the first token of a text is predicted by nobody


def test_what_cannot_be_a_batch_is_refused():
    with pytest.raises(DataError, match="at least one text"):
        aligned_batch([], STUDENT, TEACHER)
    alone = Pieces("a", name="alone")
    with pytest.raises(DataError, match="no text of this batch has a token that the student"):
        aligned_batch([aligned_rows("a", alone, alone)], alone, alone)
    with pytest.raises(DataError, match="got 1 texts, 2 numbers and 1 answers"):
        AlignedTexts(["a"], STUDENT, TEACHER, 2, ids=torch.arange(2))
    with pytest.raises(DataError, match="batch_size is 0"):
        AlignedTexts(["a"], STUDENT, TEACHER, 0)
