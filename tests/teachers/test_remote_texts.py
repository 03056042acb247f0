"""A teacher that is sent texts, or tells texts, since its server knows no numbers."""

import math

import pytest
import torch
from small_server import Letters, running
from test_remote_teacher import TEXT, K, V, batch, right, teacher, tokens

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ServerError
from tutelage.teachers.remote import Echo


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


def by_text(server, text=TEXT, **options):
    mask = torch.ones(1, len(tokens(text))).bool()
    mask[0, -1] = False  # a text's last token has nothing known behind it
    with teacher(server, Echo("text"), **options) as one:
        return one(batch(text, mask=mask)), server.exact(tokens(text))


def test_a_server_that_takes_only_texts_is_sent_texts(server):
    server.ways(texts_only=True)
    answer, log_p = by_text(server)
    assert {type(seen["asked"]) for seen in server.seen} == {str}
    for place in range(1, len(tokens()) - 1):
        told = [*log_p[place].topk(K).indices.tolist(), tokens()[place + 1]]
        # Parts of characters and special tokens have no text: what they have is in the tail.
        known = {n: float(log_p[place, n]) for n in told if n < 128 or 256 <= n < 261}
        best = sorted(known, key=lambda n: -known[n])[:K]
        rest = 1.0 - sum(math.exp(known[n]) for n in best)
        share = math.log(rest / (V - len(best)))
        expected = [known[n] for n in best] + [share] * (K - len(best))
        assert answer.top[0, place, : len(best)].tolist() == best
        assert answer.logits[0, place].tolist() == pytest.approx(expected, abs=1e-3)
        assert len(set(answer.top[0, place].tolist())) == K
        mass = answer.logits[0, place].exp().sum() + answer.log_tail[0, place].exp()
        assert float(mass) == pytest.approx(1, abs=1e-5)


def test_tokens_that_their_text_would_not_give_are_not_sent_as_text(server):
    odd = list(b"the cat sat")  # letter by letter, where the tokenizer has a word
    with teacher(server, Echo("text")) as one, pytest.raises(DataError, match="other tokens than"):
        one(Batch({"input_ids": torch.tensor([odd])}))


def test_texts_that_the_server_cuts_in_another_way_are_found_out(server):
    class Fewer(Letters):
        words = (" the", " cat", "at", "!", "in")  # it has no " a", but more of another

    server.ways(no_usage=True)
    with (
        teacher(server, Echo("text"), tokenizer=Fewer()) as one,
        pytest.raises(ServerError, match="places do not match"),
    ):
        one(Batch({"input_ids": torch.tensor([list(Fewer().encode("sat in a mat").tokens)])}))


def test_tokens_without_a_text_are_not_sent_as_text(server):
    odd = [*tokens("the"), 262, *tokens("cat")]
    with teacher(server, Echo("text")) as one, pytest.raises(DataError, match="262 of letters"):
        one(Batch({"input_ids": torch.tensor([odd])}))
    with teacher(server) as one:  # numbers carry them
        right(one(Batch({"input_ids": torch.tensor([odd])})), server.exact(odd))


def test_candidates_told_by_text_need_the_tokenizer(server):
    server.ways(spelled=True)
    with (
        teacher(server, Echo(), tokenizer=None) as one,
        pytest.raises(ServerError, match="give the"),
    ):
        one(batch())
    with teacher(server, Echo()) as one:
        answer = one(batch())
    log_p = server.exact(tokens())
    best, place = log_p[5].topk(K), 5
    for number, p in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if number < 128:
            at = answer.top[0, place].tolist().index(number)
            assert float(answer.logits[0, place, at]) == pytest.approx(p, abs=2e-4)
