"""The gate, turn by turn of an event loop in which a quick model answers."""

import pytest

from tutelage.deployment.serving.gate import Gate


def gate():
    return Gate(most=100, allowed=0.0, each=0.001)  # one at a time


def drained():
    made = gate()
    made._spare = 0.0
    return made


def answer(made):
    assert made.enter()
    made.leave(1)


def test_a_burst_is_spent_by_those_answered_within_one_turn():
    made = gate()
    spare = made._spare
    for _ in range(4):
        answer(made)
    assert spare - made._spare == pytest.approx(3, abs=0.1)  # the first one waited for nobody


def test_one_client_that_asks_again_at_once_is_never_turned_down():
    made = drained()
    for _ in range(50):
        assert not made.closed
        answer(made)
        made.turned(1)
        assert not made.closed  # it is back before the turn after its answer is over
        answer(made)
        made.turned(1)
        made.rested(2)


def test_under_pressure_those_of_the_turn_after_an_answer_are_turned_down():
    made = drained()
    made.refuse()
    answer(made)
    made._spare = 0.0
    assert made.closed
    made.turned(1)
    assert made.closed
    made.rested(1)
    assert not made.closed


def test_pressure_ends(monkeypatch):
    made = drained()
    made.refuse()
    answer(made)
    made._spare = 0.0
    assert made.closed
    monkeypatch.setattr("time.perf_counter", lambda: made._refused + 0.006)
    assert not made.closed


def test_turning_down_is_no_idle_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    made = drained()
    answer(made)
    made.turned(1)
    made.rested(1)
    made._spare = 0.0
    now[0] += 1.0
    made.refuse()
    now[0] += 0.004
    answer(made)
    assert made._spare == 0.0
    made.turned(1)
    made.rested(1)
    now[0] += 1.0
    answer(made)
    assert made._spare > 10
