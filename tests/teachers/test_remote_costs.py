"""What asking costs: reckoned before, counted after, and never more than was allowed."""

import random
import threading
import time

import pytest
from small_server import Letters, running
from test_remote_writer import asked, by_key, writer

from tutelage.core.errors import RecipeError
from tutelage.core.writing import Request
from tutelage.teachers.remote import Budget, Prices, estimate
from tutelage.teachers.remote.ledger import Ledger

PRICES = Prices(read=2.0, written=10.0, currency="EUR")


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


def test_an_estimate_by_hand():
    requests = [
        Request("a", (("user", "x" * 10),), most_tokens=100),  # 3 tokens, and 4 + 3 around
        Request("b", (("system", "é" * 4), ("user", "")), most_tokens=50),  # 8 bytes: 2, 4 + 4 + 3
    ]
    found = estimate(requests, PRICES, 4.0)
    assert (found.requests, found.kept) == (2, 0)
    assert (found.tokens_read, found.tokens_written) == (10 + 13, 150)
    assert found.money == pytest.approx((23 * 2 + 150 * 10) / 1e6)
    assert found.currency == "EUR"


def test_an_estimate_by_tokenizer():
    found = estimate([Request("a", (("user", "the cat"),))], PRICES, Letters())
    assert found.tokens_read == len(Letters().encode("the cat")) + 4 + 3
    assert len(Letters().encode("the cat")) == 4  # t, h, e and " cat"


def test_what_the_journal_holds_is_not_estimated(server, tmp_path):
    with writer(server, journal=tmp_path / "j", prices=PRICES) as one:
        list(one.write(asked(3)))
        found = one.estimate(asked(5))
        assert (found.requests, found.kept, found.tokens_written) == (2, 3, 8)


def test_what_was_spent_is_what_the_server_counted(server):
    with writer(server, prices=PRICES) as one:
        answers = list(one.write(asked(6)))
        spent = one.spent
    read, written = sum(a.tokens_read for a in answers), sum(a.tokens_written for a in answers)
    assert read == sum(len(Letters().encode(f"user: the cat {i}\n")) for i in range(6))
    assert (spent.tokens_read, spent.tokens_written) == (read, written)
    assert spent.money == pytest.approx((read * 2 + written * 10) / 1e6)
    assert (spent.requests, spent.failed, spent.tries, spent.kept) == (6, 0, 6, 0)
    assert 0 < spent.seconds < 60


def test_a_server_that_tells_no_counts_is_reckoned(server):
    server.ways(no_usage=True)
    with writer(server) as one:
        (answer,) = one.write(asked(1))
        assert (one.spent.tokens_read, one.spent.tokens_written) == (3 + 7, 4)
        assert one.spent.reckoned == 1
    assert answer.facts["tokens"] == "reckoned, not told by the server"
    assert (answer.tokens_read, answer.tokens_written) == (3 + 7, 4)


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(server, tmp_path):
    # A question is 9 letters, reckoned 10 tokens, and 4 to write: 14; it takes about 16 + 4.
    with writer(server, journal=tmp_path / "j", budget=Budget(tokens=70)) as one:
        answers = by_key(one.write(asked(10)))
        spent = one.spent.tokens_read + one.spent.tokens_written
    assert len(answers) == 10
    done = [a for a in answers.values() if not a.error]
    assert 2 <= len(done) <= 5
    assert spent == sum(a.tokens_read + a.tokens_written for a in done)
    assert {a.error for a in answers.values() if a.error} == {
        "the budget is spent: it was not asked"
    }
    assert len(server.seen) == len(done)
    with writer(server, journal=tmp_path / "j", budget=Budget(tokens=10_000)) as one:
        again = by_key(one.write(asked(10)))
        assert one.spent.kept == len(done)
    assert not [a.error for a in again.values() if a.error]


def test_a_budget_is_for_the_whole_journal(server, tmp_path):
    with writer(server, journal=tmp_path / "j", prices=PRICES) as one:
        list(one.write(asked(4)))
        cost = one.spent.money
    again = writer(server, journal=tmp_path / "j", prices=PRICES, budget=Budget(money=cost))
    with again:
        answers = by_key(again.write(asked(6)))
    assert sorted(k for k, a in answers.items() if a.error) == ["q4", "q5"]
    assert again.spent.tries == 0


@pytest.mark.parametrize("lanes", [1, 4])
def test_a_bound_on_requests_counts_those_in_the_journal(server, tmp_path, lanes):
    with writer(server, lanes=lanes, journal=tmp_path / "j", budget=Budget(requests=3)) as one:
        assert sum(not a.error for a in one.write(asked(8))) == 3
    assert len(server.seen) == 3
    with writer(server, lanes=lanes, journal=tmp_path / "j", budget=Budget(requests=5)) as one:
        assert sum(not a.error for a in one.write(asked(8))) == 5
        assert (one.spent.requests, one.spent.kept) == (2, 3)
    assert len(server.seen) == 5


def test_a_journal_that_is_opened_again_is_not_counted_twice(server, tmp_path):
    with writer(server) as one:
        list(one.write(asked(4)))
        whole = one.spent.tokens_read + one.spent.tokens_written
    with writer(server, journal=tmp_path / "j", budget=Budget(tokens=whole)) as one:
        assert [a.error for a in one.write(asked(2))] == [""] * 2
    with one:
        assert [a.error for a in one.write(asked(4)[2:])] == [""] * 2
        assert [bool(a.error) for a in one.write(asked(5)[4:])] == [True]


@pytest.mark.parametrize("seed", range(4))
def test_a_bound_holds_with_many_lanes_and_lost_tries(seed):
    chance, lock = random.Random(seed), threading.Lock()
    books, paid, asked_for = Ledger(PRICES, Budget(money=0.01, tokens=2_000)), [0, 0], [0]

    def lane():
        while True:
            with lock:
                read, most = chance.randrange(1, 60), chance.randrange(1, 60)
                lost = chance.random() < 0.2
                written = chance.randrange(most + 1)
            if not books.reserve(read, most):
                return
            asked_for[0] += 1
            if lost:
                with lock:
                    paid[0], paid[1] = paid[0] + read, paid[1] + most
                if not books.unsure(read, most):
                    books.fail(read, most)
                    continue
            time.sleep(0.0005)
            with lock:
                paid[0], paid[1] = paid[0] + read, paid[1] + written
            books.settle(read, most, (read, written))

    lanes = [threading.Thread(target=lane) for _ in range(8)]
    for one in lanes:
        one.start()
    for one in lanes:
        one.join(20)
    assert not any(one.is_alive() for one in lanes)
    spent = books.spent
    assert sum(paid) == spent.tokens_read + spent.tokens_written + spent.unsure
    # What a lost try may have cost is known only when it is lost: one a lane, at most.
    assert sum(paid) <= 2_000 + 8 * 118
    assert PRICES.of(*paid) == pytest.approx(spent.money + spent.money_unsure)
    assert asked_for[0] > 10


def test_a_bound_without_lost_tries_is_never_passed():
    books = Ledger(Prices(1.0, 1.0), Budget(tokens=100))
    assert books.reserve(30, 30)
    waited = []
    other = threading.Thread(target=lambda: waited.append(books.reserve(30, 30)))
    other.start()
    time.sleep(0.05)
    assert not waited  # the first may turn out cheaper
    books.settle(30, 30, (30, 5))
    other.join(5)
    assert waited == [True]
    books.settle(30, 30, (30, 30))
    assert not books.reserve(3, 3)
    assert books.reserve(3, 2)


def test_tries_that_were_lost_count_as_if_they_were_charged():
    books = Ledger(Prices(1.0, 1.0), Budget(tokens=100))
    assert books.reserve(20, 20)
    assert books.unsure(20, 20)  # 40 lost, and 40 for the next try
    assert not books.unsure(20, 20)
    books.fail(20, 20)
    assert books.spent.unsure == 80
    assert not books.reserve(10, 11)
    assert books.reserve(10, 10)
    money = Ledger(Prices(1e6, 1e6), Budget(money=100))
    assert money.reserve(20, 20)
    assert not money.unsure(30, 31)


@pytest.mark.parametrize(
    "wrong",
    [lambda: Prices(read=-1), lambda: Prices(written=float("inf")), lambda: Budget(money=-0.1),
     lambda: Budget(tokens=-1), lambda: Budget(requests=-1), lambda: estimate([], PRICES, 0.0)],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(RecipeError, match="expected"):
        wrong()
