"""Runs that are stopped anywhere come to the same as those that are not, and ask nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthesis_samples import DAY, Scripted, seeds, stages

from tutelage.core.errors import CheckpointError, DataError, ModelError, RecipeError
from tutelage.core.writing import Written
from tutelage.synthesis.costs import Budget, Prices
from tutelage.synthesis.item import Item
from tutelage.synthesis.journal import Journal
from tutelage.synthesis.pipeline import Pipeline
from tutelage.synthesis.stage import Outcome

CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from synthesis_samples import DAY, Scripted, seeds, stages
from tutelage.synthesis.pipeline import Pipeline
from pathlib import Path
folder, log = Path(sys.argv[2]), sys.argv[3]
for kill in (2, 4, 99):  # in the first stage, in the second, never
    child = os.fork()
    if not child:
        writer = Scripted(log=log, kill=kill)
        Pipeline(stages(), writer, folder).run(seeds(), resume=kill > 2, day=DAY)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if kill == 2:  # and the line that it was writing was torn
        with next(folder.rglob("journal.jsonl")).open("ab") as file:
            file.write(b'{"key": "answer-12')
"""


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(Path(folder).rglob("*.json*"))
    }


def test_a_run_killed_again_and_again_asks_nothing_twice_and_comes_to_the_same(tmp_path):
    whole = Pipeline(stages(), Scripted(), tmp_path / "whole").run(seeds(), day=DAY)
    log = tmp_path / "asked.txt"
    words = [sys.executable, "-c", CHILD, Path(__file__).parent, tmp_path / "killed", log]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.split() == ["-9", "-9", "0"]
    asked = log.read_text().split()
    assert len(asked) == len(set(asked)) == whole.sent == 10
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_same_seeds_give_the_same_requests_and_other_seeds_others(tmp_path):
    def asked(name, seed):
        writer = Scripted()
        Pipeline(stages(), writer, tmp_path / name, seed=seed).run(seeds(), day=DAY)
        return writer.asked

    assert asked("a", 1) == asked("b", 1)
    assert not {r.key for r in asked("c", 1)} & {r.key for r in asked("d", 2)}


def test_until_ends_after_a_stage_and_resume_goes_on_there(tmp_path):
    writer = Scripted()
    pipeline = Pipeline(stages(), writer, tmp_path / "run")
    assert pipeline.run(seeds(), until="answer", day=DAY).sent == 5
    assert pipeline.run(seeds(), resume=True, day=DAY).sent == 5
    result = pipeline.run(seeds(), resume=True, day="2030-01-01")
    assert (result.sent, len(writer.asked), len(result.items)) == (0, 10, 5)
    assert [step.date for step in result.items[0].steps] == ["", DAY, DAY]
    with pytest.raises(RecipeError, match=r"no stage is called 'anser'. Did you mean 'answer'"):
        pipeline.run(seeds(), resume=True, until="anser")


@pytest.mark.parametrize(
    ("budget", "sent"),
    [
        (Budget(requests=3), 3),
        # a question is reckoned at 13 tokens and 1024, and has in fact 8 and 10
        (Budget(tokens=1037 + 2 * 18), 3),
        (Budget(money=(1037 + 2 * 18) / 1e6), 3),
    ],
)
def test_a_budget_stops_before_it_is_broken_and_a_larger_one_goes_on(tmp_path, budget, sent):
    writer, prices = Scripted(), Prices(1.0, 1.0)
    one = Pipeline(stages(), writer, tmp_path / "run", prices=prices, budget=budget)
    result = one.run(seeds(), day=DAY)
    assert result.sent == len(writer.asked) == sent
    assert "in stage 'answer'" in result.stopped
    assert one.run(seeds(), resume=True, day=DAY).sent == 0
    more = Pipeline(stages(), writer, tmp_path / "run", prices=prices)
    assert more.run(seeds(), resume=True, day=DAY).stopped == ""
    assert len({r.key for r in writer.asked}) == len(writer.asked) == 10


def test_a_budget_of_money_without_prices_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="prices are 0"):
        Pipeline(stages(), Scripted(), tmp_path, budget=Budget(money=1.0))


def test_what_was_spent_is_counted_from_answers(tmp_path):
    result = Pipeline(stages(), Scripted(), tmp_path).run(seeds(), day=DAY)
    spent = result.stages[1].spent
    assert (spent.requests, spent.tokens_read, spent.tokens_written) == (5, 5 * 8, 5 * 9)
    silent = Scripted(lambda r: Written(r.key, "x" * 40, "stop", "m"))
    result = Pipeline(stages(), silent, tmp_path / "b").run(seeds(), until="answer", day=DAY)
    spent = result.stages[1].spent
    letters = round(len(seeds()[0].instruction) / 4) + 4
    assert (spent.reckoned, spent.tokens_read, spent.tokens_written) == (5, 5 * letters, 5 * 14)


def test_failed_answers_are_dropped_with_their_reason_and_too_many_stop_the_run(tmp_path):
    def failing(*numbers):
        def rule(request):
            if any(f"number {n}:" in request.messages[-1][1] for n in numbers):
                raise LookupError("busy")
            return "fine"

        return Scripted(rule)

    one = Pipeline(stages(), failing(3), tmp_path / "one").run(seeds(), until="answer", day=DAY)
    (dropped,) = one.dropped
    assert (dropped.reason, dropped.why) == ("the writer failed", "busy")
    assert dropped.item.instruction == seeds()[3].instruction
    with pytest.raises(ModelError, match=r"2 of 5 requests of stage 'answer' failed .*busy"):
        Pipeline(stages(), failing(3, 4), tmp_path / "two").run(seeds(), day=DAY)
    mended = failing()
    result = Pipeline(stages(), mended, tmp_path / "two").run(
        seeds(), resume=True, until="answer", day=DAY
    )
    assert (len(mended.asked), len(result.items)) == (2, 5)


def test_answers_that_nobody_asked_for_or_that_do_not_come_are_told(tmp_path):
    class Odd:
        name = "odd"

        def write(self, requests):
            return (Written("other", "x", "stop", "m") for _ in requests)

    class Silent(Odd):
        def write(self, requests):
            return iter([None for _ in requests][:0])

    with pytest.raises(DataError, match="odd answered 'other', which was not asked"):
        Pipeline(stages(), Odd(), tmp_path / "odd").run(seeds())
    with pytest.raises(ModelError, match="no answer came"):
        Pipeline(stages(), Silent(), tmp_path / "silent").run(seeds())


def test_a_folder_of_another_run_is_refused(tmp_path):
    Pipeline(stages(), Scripted(), tmp_path).run(seeds(), day=DAY)
    with pytest.raises(CheckpointError, match="go on with --resume"):
        Pipeline(stages(), Scripted(), tmp_path).run(seeds())
    with pytest.raises(CheckpointError, match="other seeds"):
        Pipeline(stages(), Scripted(), tmp_path).run(seeds(4), resume=True)
    with pytest.raises(CheckpointError, match="other seed:"):
        Pipeline(stages(), Scripted(), tmp_path, seed=1).run(seeds(), resume=True)
    path = tmp_path / "stages/01-answer/items.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(CheckpointError, match="was changed"):
        Pipeline(stages(), Scripted(), tmp_path).run(seeds(), resume=True)


def test_equal_seeds_are_kept_beside_and_a_stage_that_loses_items_is_caught(tmp_path):
    twice = [*seeds(2), seeds(1)[0]]
    result = Pipeline(stages(), Scripted(), tmp_path / "a").run(twice, day=DAY)
    assert [d.reason for d in result.dropped] == ["the same again"]
    assert result.sent == 4

    class Loses:
        def requests(self, items, answers, place):
            return iter(())

        def outcome(self, items, answers, place):
            return Outcome([Item("new")])

    with pytest.raises(CheckpointError, match="lost 2 items"):
        Pipeline({"bad": Loses()}, Scripted(), tmp_path / "b").run(seeds(2))


def test_a_journal_forgives_a_torn_end_and_nothing_else(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        for key in "abc":
            journal.add(Written(key, f"\ud800 {key}\n", "stop", "m", 1, 2, facts={"x": "y"}), DAY)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:-9] + b"\x00\x00\n")
    with Journal(path) as journal:
        assert list(journal.answers) == ["a", "b"]
        assert journal.answers["b"] == Written("b", "? b\n", "stop", "m", 1, 2, facts={"x": "y"})
        journal.add(Written("d", "", "error", "m", error="late"), DAY)
    rows = [json.loads(line)["key"] for line in path.read_text().splitlines()]
    assert rows == ["a", "b", "d"]
    path.write_bytes(lines[0] + b"{}\n" + lines[2])
    with pytest.raises(DataError, match=r"line 2 of .* is broken"):
        Journal(path)
