"""Alignment of two encodings of one text, by bytes: pure functions on spans."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossed_samples import ByteBPE, Pieces
from tutelage.core.errors import DataError
from tutelage.core.text import Encoded
from tutelage.data.text.alignment import Alignment, align, common_cuts, encoded_pieces


def spans(*cuts):
    """Tokens between cuts: spans(0, 2, 5) are two."""
    pairs = tuple(pairwise(cuts))
    return Encoded(tuple(range(len(pairs))), pairs)


def both(ours, theirs, **roles):
    found = align(ours, theirs, **roles)
    return list(found.student), list(found.teacher)


def test_groups_are_the_finest_parts_that_both_cut():
    assert both(spans(0, 2, 5, 6, 9), spans(0, 5, 7, 9)) == ([0, 0, 1, 1], [0, 1, 1])
    assert both(spans(0, 9), spans(0, 4, 9)) == ([0], [0, 0])
    assert both(spans(0, 1, 2, 3), spans(0, 1, 2, 3)) == ([0, 1, 2], [0, 1, 2])
    assert both(spans(0), spans(0)) == ([], [])


cuts_of = st.sets(st.integers(1, 30)).map(lambda inner: [0, *sorted(inner - {31}), 31])


@settings(max_examples=200, deadline=None)
@given(cuts_of, cuts_of)
def test_groups_are_what_lies_between_common_cuts(ours, theirs):
    common = sorted(set(ours) & set(theirs))

    def group(cuts):
        return [sum(c <= start for c in common) - 1 for start in cuts[:-1]]

    assert both(spans(*ours), spans(*theirs)) == (group(ours), group(theirs))


def test_a_space_belongs_to_a_word_for_one_and_to_nothing_for_the_other():
    """hello | _world against hello | world: what a tokenizer drops is no hindrance."""
    ours = Encoded((0, 1), ((0, 5), (5, 11)))
    theirs = Encoded((0, 1), ((0, 5), (6, 11)))
    assert both(ours, theirs) == ([0, 1], [0, 1])
    behind = Encoded((0, 1), ((0, 6), (6, 11)))
    assert both(behind, theirs) == ([0, 1], [0, 1])
    alone = Encoded((0, 1, 2), ((0, 5), (5, 6), (6, 11)))
    assert both(alone, theirs) == ([0, -1, 1], [0, 1])


def test_what_only_one_has_is_in_no_group():
    """Line breaks that the other's tokenizer drops, at the start, in the middle, at the end."""
    ours = Encoded(tuple(range(5)), ((0, 1), (1, 3), (3, 4), (4, 6), (6, 7)))
    theirs = Encoded((0, 1), ((1, 3), (4, 6)))
    assert both(ours, theirs) == ([-1, 0, -1, 1, -1], [0, 1])


def test_characters_of_several_bytes_split_over_tokens():
    """東 is three bytes: one token here, two there; and 京 begins in the other's second."""
    ours = Encoded((0, 1), ((0, 3), (3, 6)))
    assert both(ours, Encoded((0, 1, 2), ((0, 1), (1, 3), (3, 6)))) == ([0, 1], [0, 0, 1])
    assert both(ours, Encoded((0, 1, 2), ((0, 2), (2, 4), (4, 6)))) == ([0, 0], [0, 0, 0])


def test_bytes_that_two_tokens_share_are_not_cut():
    """A tokenizer whose tokens of one character both claim all of it."""
    shared = Encoded((0, 1, 2), ((0, 3), (0, 3), (3, 4)))
    assert both(shared, spans(0, 1, 3, 4)) == ([0, 0, 1], [0, 0, 1])


def test_special_tokens_meet_by_their_role_or_not_at_all():
    ours = Encoded((9, 0, 1, 8), ((0, 0), (0, 2), (2, 4), (4, 4)))
    theirs = Encoded((5, 0, 6), ((0, 0), (0, 4), (4, 4)))
    roles = {"student_roles": {9: "begin", 8: "end"}, "teacher_roles": {5: "begin", 6: "end"}}
    assert both(ours, theirs, **roles) == ([0, 1, 1, 2], [0, 1, 2])
    assert both(ours, theirs) == ([-1, 0, 0, -1], [-1, 0, -1])
    other = {**roles, "teacher_roles": {5: "class", 6: "end"}}
    assert both(ours, theirs, **other) == ([-1, 0, 0, 1], [-1, 0, 1])


def test_a_teacher_with_a_begin_and_a_student_without():
    """String buffers of a public trainer went out of step by it (TRL #4393, #5885)."""
    ours = Encoded((1, 2), ((0, 2), (2, 4)))
    theirs = Encoded((7, 1, 2), ((0, 0), (0, 2), (2, 4)))
    assert both(ours, theirs, teacher_roles={7: "begin"}) == ([0, 1], [-1, 0, 1])


def test_special_tokens_inside_meet_where_both_cut():
    sep = {"student_roles": {9: "turn"}, "teacher_roles": {9: "turn"}}
    ours = Encoded((0, 9, 9, 1), ((0, 2), (2, 2), (2, 2), (2, 4)))
    theirs = Encoded((0, 9, 1), ((0, 2), (2, 2), (2, 4)))
    assert both(ours, theirs, **sep) == ([0, 1, -1, 2], [0, 1, 2])
    across = Encoded((0, 9), ((0, 4), (4, 4)))
    assert both(ours, across, **sep) == ([0, -1, -1, 0], [0, -1])


def test_whole_groups_alone_are_kept():
    found = Alignment((0, 1, 1, -1, 2), (0, 1, 2, 2))
    assert found.only([True] * 5, [True, True, True, False]) == Alignment(
        (0, 1, 1, -1, -1), (0, 1, -1, -1)
    )
    assert found.only([True] * 3 + [False, True], [True] * 4) == found
    with pytest.raises(DataError, match="got 4 marks for 5 tokens"):
        found.only([True] * 4, [True] * 4)


def test_the_tokens_of_a_text_server_by_their_bytes():
    said = encoded_pieces([b"", b"Hel", b"lo \xe6\x9d", b"\xb1"], [1, 5, 6, 7])
    assert said.spans == ((0, 0), (0, 3), (3, 8), (8, 9))
    assert both(spans(0, 3, 6, 9), said) == ([0, 1, 1], [-1, 0, 1, 1])
    with pytest.raises(DataError, match="2 pieces of text and 1 token numbers"):
        encoded_pieces([b"a", b"b"], [1])


def test_spans_that_are_none_are_refused():
    with pytest.raises(DataError, match="2 tokens and 1 spans"):
        align(Encoded((1, 2), ((0, 1),)), spans(0, 1))
    with pytest.raises(DataError, match="token 1 of the teacher's text ends at byte 1, before"):
        align(spans(0, 3), Encoded((1, 2), ((0, 3), (3, 1))))


TEXT = "Größe, naïve 東京 — 12345 times; then the other therefore. 😀 Over and over.\n\nAnd\tnow\n"


def test_trained_tokenizers_agree_with_bytes_put_together():
    texts = ["the other theory of weather, over there and nowhere"] * 3 + [TEXT] * 2
    ours, theirs = ByteBPE(texts, 290), ByteBPE(texts[:3], 300)
    for text in (TEXT, TEXT[7:40], " leading", ""):
        a, b = ours.encode(text), theirs.encode(text)
        found = align(a, b)
        assert -1 not in found.student + found.teacher
        for group in range(found.groups):
            said, heard = (
                b"".join(
                    tok.token_bytes(t) for t, g in zip(enc.tokens, side, strict=True) if g == group
                )
                for tok, enc, side in ((ours, a, found.student), (theirs, b, found.teacher))
            )
            assert said == heard != b""
        # Finest: no proper beginning of a group is cut by both.
        cuts = [{stop for _, stop in enc.spans} for enc in (a, b)]
        assert found.groups == len(cuts[0] & cuts[1])


def test_the_time_grows_with_the_tokens_alone():
    def seconds(count):
        ours, theirs = (spans(*range(0, 6 * count + 1, size)) for size in (2, 3))
        start = time.process_time()
        found = align(ours, theirs)
        assert found.groups == count
        return time.process_time() - start

    seconds(1000)
    assert seconds(20_000) < 30 * max(seconds(2_000), 1e-3)


def test_common_cuts_of_nothing():
    nothing = np.zeros((0, 2), np.int64)
    assert common_cuts(nothing, nothing).tolist() == [[0, 0]]
    assert common_cuts(np.array([[0, 3]]), nothing).tolist() == [[0, 0], [1, 0]]


def test_pieces_of_the_samples_cut_as_they_should():
    cut = Pieces("a", "b", "ab", "abc", "c")
    assert cut.encode("abcab").tokens == (3, 2)
