"""Answers that were kept are not asked for again, whatever ended the run before."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_server import running
from test_remote_writer import asked, by_key, writer

from tutelage.core.errors import DataError
from tutelage.core.writing import Request, Written
from tutelage.teachers.remote import Chat, Journal


@pytest.fixture(scope="module")
def server():
    return running()


@pytest.fixture(autouse=True)
def _well(server):
    server.ways()


def test_a_kept_answer_comes_back_as_it_was(tmp_path):
    logprobs = (("a\u2028b", -0.5, (("a", -0.5), ("\n", -2.25))), ("", -1.0, ()))
    given = Written("ключ", "line\none\x00 𝄞", "length", "m", 3, 4, "", logprobs, {"k": "v"})
    with Journal(tmp_path / "j") as journal:
        journal.keep(given, "aa")
        assert journal.find("ключ", "aa") == given
    with Journal(tmp_path / "j") as journal:
        assert journal.find("ключ", "aa") == given
        assert (journal.kept, journal.torn) == (1, 0)
        assert (journal.tokens_read, journal.tokens_written) == (3, 4)


def test_only_what_is_missing_is_sent(server, tmp_path):
    with writer(server, journal=tmp_path / "j") as one:
        before = by_key(one.write(asked(4)))
    server.ways()
    with writer(server, journal=tmp_path / "j") as one:
        after = by_key(one.write(asked(7)))
        assert (one.spent.kept, one.spent.requests) == (4, 3)
    assert {k: after[k] for k in before} == before
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"most_tokens": 5}, {"top_p": 0.9}, {"stop": ("x",)}]
)
def test_an_answer_belongs_to_all_that_was_asked(server, tmp_path, change):
    with writer(server, journal=tmp_path / "j") as one:
        list(one.write(asked(1)))
        list(one.write(asked(1, **change)))
        assert one.spent.requests == 2
        list(one.write(asked(1)))  # both are kept
        list(one.write(asked(1, **change)))
        assert (one.spent.requests, one.spent.kept) == (2, 2)
    with writer(server, Chat(extra={"top_k": 3}), journal=tmp_path / "j") as one:
        list(one.write(asked(1)))
        assert one.spent.kept == 0


def test_failures_are_not_kept_and_are_asked_again(server, tmp_path):
    long = Request("long", (("user", "x" * 400),), most_tokens=4)
    for _ in range(2):
        with writer(server, journal=tmp_path / "j") as one:
            assert "context" in by_key(one.write([*asked(1), long]))["long"].error
    assert [seen["asked"][0]["content"][:3] for seen in server.seen].count("xxx") == 2
    assert len(server.seen) == 3


@pytest.mark.parametrize("cut", [1, 2, 7, 60])
def test_a_torn_last_line_is_dropped_and_asked_again(server, tmp_path, cut):
    with writer(server, lanes=1, journal=tmp_path / "j") as one:
        before = by_key(one.write(asked(3)))
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[:-cut])
    server.ways()
    with writer(server, lanes=1, journal=tmp_path / "j") as one:
        assert one.journal.torn == 1
        after = by_key(one.write(asked(3)))
    assert len(server.seen) == 1
    assert {k: a.text for k, a in after.items()} == {k: a.text for k, a in before.items()}
    lines = (tmp_path / "j").read_bytes().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == ["q0", "q1", "q2"]


def test_a_broken_line_in_the_middle_costs_its_own_answer_alone(server, tmp_path):
    with writer(server, lanes=1, journal=tmp_path / "j") as one:
        list(one.write(asked(3)))
    lines = (tmp_path / "j").read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:20] + b"\xff\x00" + lines[1][22:]
    (tmp_path / "j").write_bytes(b"".join(lines))
    with writer(server, lanes=1, journal=tmp_path / "j") as one:
        assert (one.journal.torn, one.journal.kept) == (1, 2)
        list(one.write(asked(3)))
        assert (one.spent.kept, one.spent.requests) == (2, 1)


def test_two_cannot_write_into_one_journal(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(DataError, match="somebody is writing into"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_a_journal_that_is_a_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot be used"):
        Journal(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be used"):
        Journal(tmp_path / "file" / "j")


def test_a_full_disk_loses_no_line_that_was_whole(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.keep(Written("a", "1", "stop", "m"), "aa")

    class Full:
        def __init__(self, file):
            self.file, self.left = file, 20

        def write(self, content):
            if not self.left:
                raise OSError(28, "No space left on device")
            done = self.file.write(content[: self.left])
            self.left = 0
            return done

        def __getattr__(self, name):
            return getattr(self.file, name)

    lines = journal._lines
    lines._file, whole = Full(lines._file), lines._file
    with pytest.raises(DataError, match="No space left"):
        journal.keep(Written("b", "2", "stop", "m"), "aa")
    lines._file = whole
    journal.keep(Written("c", "3", "stop", "m"), "aa")
    journal.close()
    with Journal(tmp_path / "j") as again:
        assert (again.kept, again.torn) == (2, 0)
        assert again.find("c", "aa").text == "3"


SCRIPT = """
import sys
from test_remote_writer import asked, writer
from small_server import Running
with writer(Running(int(sys.argv[1])), lanes=4, journal=sys.argv[2]) as one:
    for answer in one.write(asked(60)):
        print(answer.key, flush=True)
"""


def test_a_kill_loses_at_most_what_was_under_way(server, tmp_path):
    server.ways(always={"slow": 0.1})
    command = [sys.executable, "-c", SCRIPT, server.url.rpartition(":")[2], str(tmp_path / "j")]
    here = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        told = [process.stdout.readline().strip() for _ in range(12)]
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    time.sleep(0.1)  # until the server has seen what was on its way
    asked_before = len(server.seen)
    assert asked_before < 60
    server.ways()
    with writer(server, lanes=4, journal=tmp_path / "j") as one:
        kept = one.journal.kept
        answers = by_key(one.write(asked(60)))
    assert all(told)
    assert set(told) <= set(answers)
    assert one.spent.kept == kept
    assert kept >= len(set(told))  # what was told was kept before
    assert asked_before - kept <= 4  # under way on four lanes
    assert len(server.seen) == 60 - kept
    with writer(server, lanes=1) as alone:
        assert {k: a.text for k, a in answers.items()} == {
            k: a.text for k, a in by_key(alone.write(asked(60))).items()
        }
