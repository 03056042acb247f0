"""What is asked again, what is not, and how long is waited."""

import random
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
from small_server import running
from test_remote_writer import asked, by_key, writer

from tutelage.core.errors import RecipeError, ServerError
from tutelage.teachers.remote import Limits, OpenAIWriter, Patience, Server
from tutelage.teachers.remote.client import Client, Weight
from tutelage.teachers.remote.ledger import Ledger
from tutelage.teachers.remote.pace import Pace
from tutelage.teachers.remote.patience import asked_for, verdict_on
from tutelage.teachers.remote.wire import Reply


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


FAULTS = [
    {"status": 408},
    {"status": 409},
    {"status": 429},
    {"status": 500},
    {"status": 503, "body": "no JSON"},
    {"status": 200, "body": ["a list is no answer"]},
    {"cut": "before"},
    {"cut": "half"},
]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_is_asked_again(server, fault):
    server.ways(plan=[fault, fault])
    with writer(server, lanes=1) as one:
        answers = list(one.write(asked(2)))
    assert [a.error for a in answers] == ["", ""]
    assert answers[0].facts["tries"] == "3"
    assert one.spent.tries == 4
    assert (one.spent.unsure > 0) == ("cut" in fault)  # whoever hung up may have charged


def test_all_faults_at_once_lose_no_answer(server):
    plan = [fault for fault in FAULTS for _ in range(3)] + [{}] * 20
    random.Random(4).shuffle(plan)
    server.ways(plan=plan)
    patient = Patience(tries=30, first=0.001, most=0.01)
    with writer(server, lanes=8, patience=patient) as one:
        answers = by_key(one.write(asked(20)))
    server.ways()
    with writer(server, lanes=1) as one:
        assert {k: a.text for k, a in by_key(one.write(asked(20))).items()} == {
            k: a.text for k, a in answers.items()
        }


@pytest.mark.parametrize("status", [400, 401, 403, 404, 301, 501])
def test_a_lasting_fault_stops_at_once_in_one_line(server, status):
    server.ways(always={"status": status})
    kind = RecipeError if status in (401, 403) else ServerError
    with writer(server, lanes=2) as one, pytest.raises(kind, match=str(status)) as told:
        list(one.write(asked(50)))
    assert "\n" not in str(told.value)
    assert len(server.seen) <= 4  # what was under way, and nothing was asked twice


def test_a_quota_that_is_used_up_is_not_waited_for(server):
    server.ways(always={"status": 429, "body": {"error": {"code": "insufficient_quota"}}})
    with writer(server, lanes=1) as one, pytest.raises(ServerError, match="429"):
        list(one.write(asked(5)))
    assert len(server.seen) == 1


def test_a_question_that_always_fails_is_given_up_and_the_others_go_on(server):
    server.ways(plan=[{}, *[{"status": 500}] * 4])
    with writer(server, lanes=1) as one:
        answers = by_key(one.write(asked(4)))
    assert "500: broken, after 4 tries" in answers["q1"].error
    assert [answers[k].error for k in ("q0", "q2", "q3")] == [""] * 3


def test_too_many_failures_in_a_row_end_the_whole(server):
    server.ways(plan=[{}], always={"status": 500})
    patient = Patience(tries=2, first=0.001, failures=3)
    with (
        writer(server, lanes=1, patience=patient) as one,
        pytest.raises(ServerError, match="none of the last 3 questions"),
    ):
        list(one.write(asked(50)))
    assert len(server.seen) <= 1 + 2 * 4


def test_retry_after_is_waited_for_by_every_lane(server):
    soon = {"status": 429, "headers": {"Retry-After": "0.6"}, "slow": 0.3}
    server.ways(plan=[soon, {"slow": 0.5}])
    with writer(server, lanes=2) as one:
        list(one.write(asked(5)))
    first, *others = (seen["at"] for seen in server.seen)
    after = [at - first for at in others]
    assert len(after) == 5
    assert not [at for at in after if 0.4 < at < 0.85]  # asked at 0.3 to wait until 0.9
    assert max(after) >= 0.85


def test_a_retry_after_beyond_patience_is_told(server):
    server.ways(plan=[{}, {"status": 429, "headers": {"Retry-After": "4000"}}])
    with writer(server, lanes=1) as one:
        answers = by_key(one.write(asked(2)))
    assert "left alone for 4000 s" in answers["q1"].error


def test_waits_double_and_are_drawn_apart():
    patience = Patience(first=0.5, most=8.0)
    assert [patience.wait(n, None, 0.5) for n in range(1, 8)] == [0.25, 0.5, 1, 2, 4, 4, 4]
    assert patience.wait(10_000, None, 1.0) == 8.0
    assert patience.wait(1, 3.0, 0.7) == 3.0  # never sooner than the server says


def test_retry_after_may_be_a_date():
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    soon = (now + timedelta(seconds=40)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert asked_for({"retry-after": soon}, now) == 40
    assert asked_for({"retry-after": soon}, now + timedelta(hours=1)) == 0
    assert asked_for({"retry-after": "soon"}) is None
    assert asked_for({"retry-after": "-3"}) is None
    assert asked_for({"retry-after": "nan"}) is None


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(0, "again"), (200, "again"), (500, "again"), (502, "again"), (529, "again"), (425, "again"),
     (413, "alone"), (422, "alone"), (302, "stop"), (405, "stop"), (501, "stop"), (204, "stop")],
)  # fmt: skip
def test_each_status_has_its_verdict(status, verdict):
    assert verdict_on(Reply(status)) == verdict


def test_an_answer_that_takes_too_long_is_asked_again_and_may_have_been_charged(server):
    server.ways(plan=[{"slow": 2.5}])
    hasty = OpenAIWriter(
        Server(server.url, "tiny", timeout=1.0), patience=Patience(first=0.01), limits=Limits(1)
    )
    with hasty:
        (answer,) = hasty.write(asked(1))
    assert answer.error == ""
    # Reckoned before: 9 letters are 3 tokens, and 7 more for the chat's marks; 4 to write.
    assert hasty.spent.unsure == 3 + 7 + 4
    assert hasty.spent.tries == 2


def test_an_answer_that_trickles_in_for_ever_is_cut_off(server):
    server.ways(always={"trickle": 0.15})
    hasty = Server(server.url, "tiny", timeout=0.4)
    begun = time.monotonic()
    with (
        OpenAIWriter(hasty, patience=Patience(tries=1)) as one,
        pytest.raises(ServerError, match=r"nobody answered within 0\.4 s"),
    ):
        list(one.write(asked(1)))
    assert time.monotonic() - begun < 3


def test_a_line_that_was_closed_meanwhile_is_no_failed_try(server):
    server.ways(plan=[{"cut": "after"}, {"cut": "after"}])
    with writer(server, lanes=1, patience=Patience(tries=1)) as one:
        for request in asked(3):
            assert [a.error for a in one.write([request])] == [""]
            time.sleep(0.05)
        assert one.spent.tries == 3
        assert one.spent.unsure == 0


def test_once_a_fault_lasts_nothing_more_is_sent_and_all_lanes_say_why(server):
    server.ways(always={"status": 403})
    client = Client(Server(server.url, "tiny"), Limits(), Patience(), Ledger())
    for _ in range(3):
        with pytest.raises(RecipeError, match="403"):
            client.ask("/completions", {"model": "tiny", "prompt": "a"}, Weight(1, 1))
    assert len(server.seen) == 1
    client.go_on()
    server.ways()
    assert client.ask("/completions", {"model": "tiny", "prompt": "a"}, Weight(1, 1)).data
    client.close()


def test_nobody_there_is_told_in_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody picks up
        nobody = Server(f"http://127.0.0.1:{taken.getsockname()[1]}", "tiny")
        with (
            OpenAIWriter(nobody, patience=Patience(tries=2, first=0.01)) as one,
            pytest.raises(ServerError, match="see whether it runs") as told,
        ):
            list(one.write(asked(30)))
    assert "\n" not in str(told.value)
    assert "after 2 tries" in str(told.value)


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_than_is_allowed_and_one_more(seed):
    chance, now = random.Random(seed), [0.0]
    pace = Pace(Limits(requests_per_minute=90, tokens_per_minute=6000), lambda: now[0])
    sent = []
    for _ in range(400):
        tokens = chance.randrange(1, 400)
        due = pace.book(tokens)
        now[0] += max(0.0, pace.left(due))
        sent.append((now[0], tokens))
        now[0] += chance.choice([0, 0, 0, 0.01, 5])
    for begun, _ in sent:
        inside = [tokens for at, tokens in sent if begun <= at < begun + 60]
        assert len(inside) <= 91
        assert sum(inside) - inside[-1] <= 6000 + 1e-6
    assert len(sent) / (sent[-1][0] / 60) > 20  # and it does go on


def test_rate_limits_are_kept_against_a_server(server):
    limits = Limits(lanes=8, requests_per_minute=60 / 0.05)
    with writer(server, limits=limits) as one:
        list(one.write(asked(8)))
    moments = sorted(seen["at"] for seen in server.seen)
    assert moments[-1] - moments[0] >= 7 * 0.05 - 0.04


@pytest.mark.parametrize(
    "wrong",
    [lambda: Patience(tries=0), lambda: Patience(first=-1), lambda: Patience(most=float("nan")),
     lambda: Limits(lanes=0), lambda: Limits(requests_per_minute=0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match="expected"):
        wrong()
