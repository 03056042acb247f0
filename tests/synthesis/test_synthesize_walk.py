"""On a newcomer's way all trouble is one line: nothing is lost, paid twice or overwritten."""

import json
import os

import pytest
import yaml
from synthesis_samples import Scripted

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.core.writing import Written
from tutelage.synthesis.journal import Journal
from typed import typed

PLAN = {
    "synthesis": 1,
    "name": "walk",
    "writer": {"walked": {}},
    "prices": {"read": 1.0, "written": 2.0},
    "stages": ["answer", {"answer": {"again": True, "temperature": 1.0}}],
}


class Walk:
    """A plan in a file, the writer that it names, and the command."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.monkeypatch, self.writer = folder, monkeypatch, Scripted()
        lines = [json.dumps({"instruction": f"What is {n} and {n}?"}) + "\n" for n in range(6)]
        (folder / "seeds.jsonl").write_text("".join(lines))

    def __call__(self, out, *words, **changes):
        path = self.folder / "plan.yaml"
        path.write_text(
            yaml.safe_dump({**PLAN, "seeds": str(self.folder / "seeds.jsonl"), **changes})
        )
        return typed(self.monkeypatch, "synthesize", path, "--out", self.folder / out, *words)

    def items(self, out):
        return (self.folder / out / "items.jsonl").read_bytes()


@pytest.fixture
def walk(tmp_path, monkeypatch):
    made = Walk(tmp_path, monkeypatch)

    @register("writer", "walked")
    def walked(model: str = "m"):
        return made.writer

    return made


def refused(found, told):
    code, said, err = found
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert told in err


def test_resume_without_a_run_begins_none(walk, tmp_path):
    refused(walk("out", "--resume"), "holds no run to go on with")
    assert walk.writer.asked == []
    assert walk("out")[0] == 0


def test_a_folder_with_files_of_others_is_left_as_it_is(walk, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/items.jsonl").write_text("mine")
    refused(walk("mine"), "holds no run but 'items.jsonl'")
    assert walk.items("mine") == b"mine"
    assert walk.writer.asked == []


@pytest.mark.parametrize(
    ("writer", "told"),
    [
        ("wlaked", "no writer called 'wlaked'. Did you mean 'walked'"),
        ({"walked": {"modle": "m"}}, "no such option (its value: 'm'). Did you mean 'model'"),
        ({"openai": {"url": "http://127.0.0.1:1"}}, "model: this option is needed"),
    ],
)
def test_an_estimate_reads_the_writer_too(walk, writer, told):
    refused(walk("out", "--estimate", writer=writer), told)


@pytest.mark.parametrize("words", [[], ["--estimate"]])
def test_a_missing_evaluation_file_is_told_before_anybody_is_asked(walk, tmp_path, words):
    stages = ["answer", {"decontaminate": {"against": [str(tmp_path / "evalution.jsonl")]}}]
    (tmp_path / "evaluation.jsonl").write_text('{"text": "one"}\n')
    refused(walk("out", *words, stages=stages), "'evalution.jsonl'")
    assert walk.writer.asked == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("after", [1, 4, 9])
def test_ctrl_c_in_the_middle_loses_nothing(walk, after):
    def rule(request):
        if len(walk.writer.asked) > after:
            raise KeyboardInterrupt
        return f"to: {request.seed}"

    walk.writer = Scripted(rule)
    code, _, err = walk("out")
    assert (code, err.count("\n")) == (130, 1)
    assert "What was answered is kept. Go on with: tutelage synthesize" in err
    walk.writer = Scripted(lambda request: f"to: {request.seed}")
    assert walk("out", "--resume")[0] == 0
    assert len(walk.writer.asked) == 12 - after
    assert walk("whole")[0] == 0
    assert walk.items("out") == walk.items("whole")


@pytest.mark.parametrize("after", range(5))
def test_a_disk_that_is_full_is_one_line_and_loses_nothing(walk, monkeypatch, after):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) > after:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        refused(walk("out"), "(No space left on device): make room")
    asked = len(walk.writer.asked)
    code, _, err = walk("out", *(["--resume"] if after else []))
    assert (code, err) == (0, "")
    assert len(walk.writer.asked) == 12
    assert asked == (0 if after == 0 else 6)
    assert walk("whole")[0] == 0
    assert walk.items("out") == walk.items("whole")


def test_half_a_line_on_a_full_disk_does_not_swallow_the_next(tmp_path):
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

    with Journal(tmp_path / "j") as journal:
        whole, journal._lines._file = journal._lines._file, Full(journal._lines._file)
        with pytest.raises(DataError, match="No space left"):
            journal.add(Written("a", "1", "stop", "m"), "2026-01-31")
        assert journal.answers == {}
        journal._lines._file = whole
        journal.add(Written("b", "2", "stop", "m"), "2026-01-31")
    with Journal(tmp_path / "j") as again:
        assert list(again.answers) == ["b"]


def test_what_was_asked_in_the_stage_that_a_budget_ended_is_counted(walk, tmp_path):
    code, said, _ = walk("out", budget={"requests": 8})
    facts = json.loads((tmp_path / "out/synthesis.json").read_text())
    assert code == 1
    assert "8 requests now, 8 in all" in said
    assert facts["spent"]["requests"] == 8
    assert facts["spent"]["money"] > 0


def test_tokens_that_the_writer_does_not_tell_are_the_same_after_resumption(walk, tmp_path):
    def untold(request):
        return Written(request.key, f"to: {request.seed}", "stop", "m")

    walk.writer = Scripted(untold)
    assert walk("whole")[0] == 0
    assert walk("out", budget={"requests": 8})[0] == 1
    assert walk("out", "--resume")[0] == 0
    found = [
        json.loads((tmp_path / out / "synthesis.json").read_text())["spent"]
        for out in ("whole", "out")
    ]
    assert found[0] == found[1]
    assert found[0]["reckoned"] == 12
    assert found[0]["tokens_read"] == 12 * (16 // 4 + 4)  # of 16 letters each
