"""tutelage export: words that are wrong, files that are there, and a run that becomes a file."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest

from package_samples import finished_run
from tutelage.cli import main as command_line


def call(monkeypatch, *words):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.argv", ["tutelage", *map(str, words)])
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command_line.main()
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    raise AssertionError("the command line did not end with an exit status")


def test_a_run_becomes_a_program_and_is_measured_beside_its_student(tmp_path, monkeypatch):
    run = finished_run()
    words = ("export", run, "--to", "torch", "--out", tmp_path)
    code, out, err = call(monkeypatch, *words, "--json")
    assert (code, err) == (0, "")
    (made,) = json.loads(out)
    assert made["equal_top1"] == 1
    assert made["max_difference"] < 1e-4
    file = tmp_path / "student.pt2"
    assert made["bytes"] == file.stat().st_size
    code, out, err = call(monkeypatch, *words)
    assert (code, out) == (2, "")
    assert "is there already: choose another --out, or give --force." in err
    code, out, err = call(
        monkeypatch, "bench", run, file, "--seconds", "0.3", "--preset", "phone", "--json"
    )
    assert (code, err) == (0, "")
    student, onnx, program = json.loads(out)["models"]
    assert program["format"] == "torch_program"
    assert program["parameters"] >= student["parameters"]
    assert program["cold"]["load_ms"] > 0
    assert program["ratios"]["cold"]["load_ms"] is None  # not alike
    assert {row["backend"] for row in program["warm"]} == {"torch_program"}
    assert {row["backend"] for row in onnx["warm"]} == {"onnxruntime"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN", "--to", "openvno"], "Did you mean 'openvino"),
        (["RUN", "--to", "onnx", "--from", "nobody"], "expected student or shipped"),
        (["RUN", "--to", "torch", "--from", "shipped"], "torch is made from the torch model"),
        (["nowhere", "--to", "onnx"], "--data is not given"),
        (["nowhere", "--to", "onnx", "--from", "shipped"], "--from shipped: there is no"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(words, told, tmp_path, monkeypatch):
    given = [finished_run() if word == "RUN" else word for word in words]
    code, out, err = call(monkeypatch, "export", *given, "--out", tmp_path / "made")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "made").exists()
