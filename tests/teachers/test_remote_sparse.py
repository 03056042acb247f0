"""From candidates that a server tells to k log-probabilities and a tail, against numpy."""

import math

import numpy as np
import pytest
import torch
from small_server import Letters

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ServerError
from tutelage.teachers.remote import PromptLogprobs
from tutelage.teachers.remote.pieces import pieces_of
from tutelage.teachers.remote.probe import try_out
from tutelage.teachers.remote.sparse import sparse_of
from tutelage.teachers.remote.words import Words


def distribution(seed, classes=50):
    z = np.random.default_rng(seed).normal(size=classes) * 3
    return np.log(np.exp(z - z.max()) / np.exp(z - z.max()).sum())


@pytest.mark.parametrize("seed", range(6))
def test_the_tail_is_the_mass_of_all_that_is_not_kept(seed):
    log_p = distribution(seed)
    order = np.argsort(-log_p)
    own = int(order[-1])  # the text's own token is told too, and is none of the likeliest
    told = [(int(i), float(log_p[i])) for i in [*order[:8], own]]
    kept = sparse_of(told, 8, 50)
    others = 0.0
    for i in range(50):
        if i not in order[:8]:
            others += math.exp(log_p[i])
    assert kept.top == tuple(order[:8])
    assert kept.log_p == pytest.approx(log_p[order[:8]].tolist())
    assert kept.log_tail == pytest.approx(math.log(others), abs=1e-9)


def test_the_likeliest_are_never_renormalised():
    kept = sparse_of([(0, math.log(0.2)), (1, math.log(0.1))], 2, 100)
    assert [math.exp(p) for p in kept.log_p] == pytest.approx([0.2, 0.1])
    assert math.exp(kept.log_tail) == pytest.approx(0.7)


def test_candidates_without_a_number_stay_in_the_tail():
    told = [(None, math.log(0.5)), (3, math.log(0.2)), (700, math.log(0.1)), (4, math.log(0.1))]
    kept = sparse_of(told, 2, 100)  # 700 is a row of the teacher's head that the student lacks
    assert kept.top == (3, 4)
    assert math.exp(kept.log_tail) == pytest.approx(0.7)


def test_places_without_a_candidate_get_the_mean_share_of_the_tail():
    told = [(None, math.log(0.5)), (1, math.log(0.2)), (None, math.log(0.1))]
    kept = sparse_of(told, 3, 11)
    share = 0.8 / 10
    assert kept.top == (1, 0, 2)
    assert [math.exp(p) for p in kept.log_p] == pytest.approx([0.2, share, share])
    assert math.exp(kept.log_tail) == pytest.approx(0.8 - 2 * share)


def test_a_sure_teacher_leaves_a_tail_that_is_finite():
    kept = sparse_of([(0, 0.0), (1, -9999.0)], 2, 10)  # vLLM writes -9999 for no probability
    assert math.isfinite(kept.log_tail)
    assert kept.log_tail < -20


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([(0, -0.1), (1, -0.2)], "add up to 1.72"),
        ([(0, float("nan")), (1, -1.0)], "no log-probabilities"),
        ([(0, 2.0), (1, -1.0)], "no log-probabilities"),
    ],
)
def test_what_is_no_distribution_is_refused(told, why):
    with pytest.raises(ServerError, match=why):
        sparse_of(told, 2, 10)


def found(batch, positions="counted"):
    return [(p.row, p.start, p.tokens, p.wanted, p.next) for p in pieces_of(batch, positions)]


def test_documents_that_share_a_row_are_asked_apart():
    ids = torch.tensor([[1, 2, 3, 4, 5, 6]])
    place = torch.tensor([[0, 1, 2, 0, 1, 2]])
    targets = torch.tensor([[2, 3, -1, 5, 6, 9]])
    batch = Batch({"input_ids": ids, "position_ids": place}, targets)
    assert found(batch) == [
        (0, 0, (1, 2, 3), (0, 1, 2), 3),  # nothing follows: its own last token is put there
        (0, 3, (4, 5, 6), (0, 1, 2), 9),
    ]


def test_padding_is_not_sent_on_either_side():
    ids = torch.tensor([[0, 0, 1, 2], [3, 4, 0, 0]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 0, 0]])
    batch = Batch({"input_ids": ids, "attention_mask": mask})
    assert found(batch) == [(0, 2, (1, 2), (0, 1), 2), (1, 0, (3, 4), (0, 1), 4)]


def test_only_counted_positions_are_asked_and_nothing_after_the_last():
    ids = torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 1]])
    mask = torch.tensor([[False, True, False, True, False], [False] * 5])
    batch = Batch({"input_ids": ids}, mask=mask)
    assert found(batch) == [(0, 0, (1, 2, 3, 4), (1, 3), 5)]
    assert len(found(batch, "all")) == 2


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        (Batch(torch.zeros(2, 3)), "a bare tensor"),
        (Batch({"pixels": torch.zeros(2, 3)}), "inputs pixels"),
        (Batch({"input_ids": torch.zeros(2, 3)}), "expected whole numbers"),
        (Batch({"input_ids": torch.zeros(2, 3).long()}, mask=torch.ones(2).bool()), "mask is"),
    ],
)
def test_a_batch_of_another_kind_is_refused(batch, why):
    with pytest.raises(DataError, match=why):
        list(pieces_of(batch, "counted"))


def test_words_find_numbers_where_only_one_token_is_meant():
    class Twice(Letters):
        words = (" the", " cat", "at", "a", "in")  # "a" is a byte as well

    words = Words(Twice())
    assert words.number(" cat") == 257
    assert words.number("a") is None  # two tokens are spelled so
    assert words.number("token_id:97") == 97
    assert words.number("�") is None
    assert words.number("") is None


def test_words_do_not_mind_blanks_or_parts_of_characters():
    words = Words(Letters())
    assert words.same(257, "cat")
    assert words.same(0xE2, "�")
    assert words.same(0xE2, "")
    assert not words.same(257, " dog")
    assert not words.same(257, "token_id:258")


@pytest.mark.parametrize(
    ("read", "rows", "why"),
    [
        ([9, 2], [None, {"2": {"logprob": -1.0}}], "at place 0 the server read 9, and token 1"),
        (None, [None, {"3": {"logprob": -1.0}}], "at place 1 the server read another one"),
        (None, [None, {"1": {"logprob": -1.0}}, {"2": {"logprob": -1.0}}], "BOS"),
        (None, [None], "reads other tokens"),
    ],
)
def test_tokens_that_the_server_read_are_held_against_those_sent(read, rows, why):
    choice = {"prompt_logprobs": rows, "prompt_token_ids": read}
    with pytest.raises(ServerError, match=why):
        PromptLogprobs().read(choice, (1, 2), Words(None))


TOLD = [(0, math.log(0.7)), (1, math.log(0.2))]
OTHER = [(2, math.log(0.6)), (3, math.log(0.3))]
THIRD = [(4, math.log(0.9)), (5, math.log(0.05))]


@pytest.mark.parametrize(
    ("late", "rows", "why"),
    [
        (False, [None, OTHER, TOLD], ""),
        (True, [None, TOLD, OTHER], ""),
        (False, [None, TOLD, OTHER], r"candidates after it: .* off by one. Ask with Echo\(late"),
        (True, [None, OTHER, TOLD], r"candidates before it: .* off by one. Ask with late=False"),
        (False, [None, OTHER, THIRD], "not what it writes by"),
        (False, [None, TOLD, TOLD], ""),  # cannot be told apart, and is as good either way
    ],
)
def test_a_server_is_tried_out_for_places_off_by_one(late, rows, why):
    def go():
        try_out("it", late, lambda tokens: rows, lambda tokens: TOLD, (1, 2, 3), 2)

    if why:
        with pytest.raises(ServerError, match=why):
            go()
    else:
        go()
