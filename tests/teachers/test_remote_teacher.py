"""A teacher behind a real server says what the model itself says, place by place."""

import math

import pytest
import torch
from small_server import Letters, running, scores
from test_remote_writer import QUICK

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ServerError
from tutelage.core.outputs import SparseOutputs
from tutelage.teachers.remote import Budget, Echo, PromptLogprobs, RemoteTeacher, Server

K, V = 7, 264
TEXT = "the cat sat in a mat and the dog"


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


def teacher(server, telling=None, k=K, **options):
    options = {"tokenizer": Letters(), "patience": QUICK} | options
    return RemoteTeacher(Server(server.url, "tiny"), k, V, telling=telling, **options)


def tokens(text=TEXT):
    return list(Letters().encode(text).tokens)


def batch(text=TEXT, **more):
    ids = torch.tensor([tokens(text)])
    targets = torch.cat([ids[:, 1:], torch.full((1, 1), -1)], 1)
    return Batch({"input_ids": ids}, targets, **more)


def right(answer, log_p, rows=slice(None), k=K):
    """Against the model's own log-probabilities ``(T, V)``, in float64."""
    log_p, kept = log_p.double()[rows], answer.logits[0, rows].double()
    best = log_p.topk(k, -1)
    assert torch.allclose(kept, best.values, atol=1e-4)
    assert torch.allclose(log_p.gather(-1, answer.top[0, rows]), kept, atol=1e-4)
    tail = torch.log1p(-best.values.exp().sum(-1))
    assert torch.allclose(answer.log_tail[0, rows].double(), tail, atol=1e-4)


TELLINGS = [PromptLogprobs(), Echo()]


@pytest.mark.parametrize("telling", TELLINGS)
def test_at_each_position_stands_what_follows_it_and_not_what_was_before(server, telling):
    """prompt_logprobs at token t is the distribution before t: the answer at position t - 1."""
    with teacher(server, telling) as one:
        answer = one(batch())
    log_p = scores(tokens())  # the same model in this process, asked by nobody's protocol
    assert isinstance(answer, SparseOutputs)
    assert answer.logits.shape == answer.top.shape == (1, len(tokens()), K)
    assert answer.logits.dtype == torch.float32
    assert answer.top.dtype == torch.int64
    right(answer, log_p)
    shifted = log_p[1:].gather(-1, answer.top[0, :-1])  # off by one it would be far away
    assert (shifted - answer.logits[0, :-1]).abs().mean() > 1


def test_mass_is_told_as_it_is_and_never_renormalised(server):
    with teacher(server) as one:
        answer = one(batch())
    inside, outside = answer.logits.double().exp().sum(-1), answer.log_tail.double().exp()
    assert torch.allclose(inside + outside, torch.ones_like(inside), atol=1e-6)
    assert inside.min() < 0.9


def test_the_texts_own_token_does_not_take_a_likelier_ones_place(server):
    with teacher(server, k=1) as one:
        right(one(batch()), server.exact(tokens()), k=1)


def test_rows_with_padding_documents_and_masks_are_answered_place_by_place(server):
    a, b, c = tokens("the cat"), tokens("a dog sat"), tokens("in a mat")
    length = len(a) + len(b) + 2
    ids = torch.full((2, length), 262)
    attended, place = torch.zeros(2, length).long(), torch.zeros(2, length).long()
    mask = torch.zeros(2, length).bool()
    for row, start, text in ((0, 2, a), (0, 2 + len(a), b), (1, 0, c)):
        here = slice(start, start + len(text))
        ids[row, here], attended[row, here] = torch.tensor(text), 1
        place[row, here] = torch.arange(len(text))
        mask[row, start + 1 : start + len(text) - 1] = True
    inputs = {"input_ids": ids, "attention_mask": attended, "position_ids": place}
    with teacher(server) as one:
        answer = one(Batch(inputs, mask=mask))
    for row, start, text in ((0, 2, a), (0, 2 + len(a), b), (1, 0, c)):
        log_p, here = server.exact(text), slice(start + 1, start + len(text) - 1)
        got = SparseOutputs(
            answer.logits[row : row + 1, here],
            top=answer.top[row : row + 1, here],
            log_tail=answer.log_tail[row : row + 1, here],
        )
        right(got, log_p[1 : len(text) - 1])
    unasked = answer.logits[~mask].exp()  # where nothing is known nothing is said
    assert torch.allclose(unasked, torch.full_like(unasked, 1 / V))
    assert torch.allclose(answer.log_tail[~mask].exp(), torch.tensor(1 - K / V))


def test_what_does_not_count_is_not_sent(server):
    mask = torch.zeros(1, len(tokens())).bool()
    mask[0, 3] = True
    with teacher(server) as one:
        one(batch())  # tried out
        server.ways()
        one(batch(mask=mask))
        assert server.seen[-1]["asked"] == tokens()[:5]
        one(batch(mask=torch.zeros_like(mask)))
        assert len(server.seen) == 1
        assert one.estimate([batch(mask=mask)]).tokens_read == 5


@pytest.mark.parametrize("telling", TELLINGS)
def test_a_server_that_tells_one_late_is_found_out(server, telling):
    """As llama-cpp-python 0.3 does for models without a token that begins a text."""
    server.ways(late=True)
    with (
        teacher(server, telling) as one,
        pytest.raises(ServerError, match="all places would be off by one"),
    ):
        one(batch())


def test_a_server_that_is_known_to_tell_one_late_is_read_right(server):
    server.ways(late=True)
    with teacher(server, Echo(late=True)) as one:
        right(one(batch()), server.exact(tokens()))
    server.ways()
    with teacher(server, Echo(late=True)) as one, pytest.raises(ServerError, match="late=False"):
        one(batch())


@pytest.mark.parametrize("way", [{}, {"no_usage": True}, {"no_usage": True, "no_ids": True}])
@pytest.mark.parametrize("telling", TELLINGS)
def test_a_server_that_adds_a_token_of_its_own_is_found_out(server, telling, way):
    server.ways(bos=True, **way)
    with teacher(server, telling) as one, pytest.raises(ServerError, match="BOS") as told:
        one(batch())
    assert "\n" not in str(told.value)


def test_a_server_that_counts_other_tokens_is_found_out(server):
    """As llama-cpp-python does, which adds a token and does not show it."""
    server.ways(always={"change": {"usage": {"prompt_tokens": 99, "completion_tokens": 1}}})
    with teacher(server, Echo()) as one, pytest.raises(ServerError, match="read 99 tokens where"):
        one(batch())


def test_rows_that_begin_with_a_token_are_sent_with_it(server):
    begun = [261, *tokens()]
    with teacher(server) as one:
        answer = one(Batch({"input_ids": torch.tensor([begun])}))
    right(answer, server.exact(begun))


def test_a_server_with_another_tokenizer_is_found_out(server):
    server.ways(shift=1)
    with teacher(server) as one, pytest.raises(ServerError, match="another tokenizer"):
        one(batch())


def test_numbers_that_are_no_probabilities_are_found_out(server):
    server.ways(hot=0.2)
    with teacher(server) as one, pytest.raises(ServerError, match="those of no distribution"):
        one(batch())


@pytest.mark.parametrize("telling", TELLINGS)
def test_too_few_candidates_are_told_in_one_line(server, telling):
    server.ways(most=5)
    with teacher(server, telling) as one, pytest.raises(ServerError, match="7, allowed 5"):
        one(batch())


def test_a_server_that_scores_nothing_is_told(server):
    server.ways(silent=True)
    with teacher(server, Echo()) as one, pytest.raises(ServerError, match="no log-probabilities"):
        one(batch())
    server.ways(always={"change": {"choices": [{"text": "4"}]}})
    with teacher(server) as one, pytest.raises(ServerError, match="tells no log-p"):
        one(batch())
    server.ways(always={"change": {"choices": [{"logprobs": {"top_logprobs": [3]}}]}})
    with teacher(server, Echo()) as one, pytest.raises(ServerError, match="in a form that echo"):
        one(batch())


def test_a_teacher_that_failed_can_be_asked_again(server):
    with teacher(server) as one:
        server.ways(always={"status": 404})
        with pytest.raises(ServerError, match="404"):
            one(batch())
        server.ways()
        right(one(batch()), server.exact(tokens()))
        server.ways(always={"status": 403})
        with pytest.raises(RecipeError, match="403"):
            one(batch())
        server.ways()
        right(one(batch()), server.exact(tokens()))


def test_faults_on_the_way_change_no_answer(server):
    with teacher(server) as one:
        plain = one(batch())
        server.ways(plan=[{"status": 503}, {"cut": "half"}])
        again = one(batch())
    assert torch.equal(plain.logits, again.logits)
    assert one.spent.tries == one.spent.requests + 2


def test_an_answer_with_a_hole_is_none(server):
    with teacher(server, budget=Budget(tokens=3 * len(tokens()) + 20)) as one:
        one(batch())
        with pytest.raises(ServerError, match="scored no text: the budget is spent"):
            one(batch())
    with teacher(server) as one, pytest.raises(ServerError, match="context length"):
        one(batch("x" * 300))


def test_a_teacher_is_told_from_others_by_its_name(server):
    names = {
        teacher(server).name,
        teacher(server, Echo()).name,
        teacher(server, Echo(late=True)).name,
        teacher(server, k=8).name,
        teacher(server, positions="all").name,
        teacher(server, tokenizer=None).name,
        teacher(server, tokenizer=Letters(2)).name,
    }
    assert len(names) == 7
    assert "127.0.0.1" not in "".join(names)  # a server may move


@pytest.mark.parametrize(
    ("options", "why"),
    [({"k": 0}, "k is 0"), ({"k": V}, f"k is {V}"), ({"positions": "some"}, "positions is 'some'"),
     ({"telling": Echo("text"), "tokenizer": None}, "needs tokenizer=")],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(server, options, why):
    with pytest.raises(RecipeError, match=why):
        teacher(server, **options)
    with pytest.raises(RecipeError, match="send is 'words'"):
        Echo("words")


def test_the_entropy_of_the_small_model_is_no_trivial_one(server):
    """Or the tests above could not fail."""
    log_p = server.exact(tokens())
    entropy = -(log_p.exp() * log_p).sum(-1)
    assert 0.5 < float(entropy.mean()) < math.log(V) - 0.5
    other = server.exact([ord("z"), *tokens()])[1:]
    assert (other - log_p)[5:].abs().mean() > 0.05  # what came before counts
