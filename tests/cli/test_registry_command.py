"""tutelage registry and tutelage track: what they print, and their exit statuses."""

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial

import pytest

from package_samples import contents, finished_run, folder
from registry_samples import filled, home, packages, worse
from tutelage.deployment.registry import Registry
from tutelage.evaluation.costs.latency import Effort, onnx_latency
from tutelage.recipe import promoting
from tutelage.recipe.tracking import track_run
from typed import typed

EASY = "negative_flips={at_most: 0.02, by: estimate}"


@pytest.fixture
def call(monkeypatch, tmp_path):
    """Types a command; its exit status, output and complaints."""
    monkeypatch.setenv("TUTELAGE_REGISTRY", str(home(tmp_path / "home")))
    monkeypatch.setenv("COLUMNS", "200")
    quick = partial(onnx_latency, effort=Effort(1, 5))
    monkeypatch.setattr(promoting, "onnx_latency", quick)

    return partial(typed, monkeypatch)


def test_from_the_first_version_to_a_rollback(call):
    assert call("registry", "list")[1].startswith("There are no models in ")
    code, out, err = call("registry", "add", "digits", packages()[0], "--alias", "candidate")
    assert (code, err) == (0, "")
    assert out.startswith("digits/1 (candidate) is new: package ")
    assert (
        "digits/1 (candidate) was there already"
        in call("registry", "add", "digits", packages()[0])[1]
    )
    code, out, _ = call("registry", "promote", "digits", 1)
    assert (code, out.count("\n")) == (0, 1)
    assert "none -> 1: nobody was there to be compared with, and its own run passed acc" in out
    call("registry", "add", "digits", packages()[1])
    code, out, err = call("registry", "promote", "digits", 2, "--gate", EASY)
    assert (code, err) == (0, "")
    assert "100 examples of" in out
    assert "gate negative_flips: passed: share right with the version in production" in out
    assert "gate accuracy_drop: passed: accuracy lost against the version in production" in out
    assert "this test set has decided promotions of digits once, now" in out
    assert out.endswith("production of digits: 1 -> 2: all 2 gates passed.\n")
    assert call("registry", "rollback", "digits", "--why", "alarm")[:2] == (
        0,
        "production of digits: 2 -> 1.\n",
    )
    listed = call("registry", "list")[1]
    assert listed.splitlines()[1].split()[:3] == ["digits", "2", "1"]
    assert "alarm" in call("registry", "show", "digits")[1]


def test_a_version_that_is_worse_is_refused_with_one_line(call):
    call("registry", "add", "digits", packages()[0])
    call("registry", "add", "digits", worse())
    call("registry", "promote", "digits", 1)
    code, out, err = call("registry", "promote", "digits", 2, "--gate", EASY)
    assert code == 1
    assert err.startswith("tutelage: digits/2 is not promoted: gate failed: ")
    assert "accuracy_drop" in err
    assert err.count("\n") == 1
    assert "-> 2" not in out
    code, out, _ = call("registry", "promote", "digits", 2, "--gate", EASY, "--json")
    told = json.loads(out)
    assert (code, told["promoted"], told["evidence"]["data"]["used"]) == (1, False, 2)
    flips, change = (told["evidence"]["figures"][k] for k in ("negative_flips", "accuracy_change"))
    assert flips["low"] < flips["mean"] < flips["high"]
    assert change["method"] == "Newcombe paired score"
    assert change["high"] < 0
    code, out, _ = call("registry", "promote", "digits", 2, "--without-gates", "for a test")
    assert (code, out) == (0, "production of digits: 1 -> 2, without gates.\n")
    shown = json.loads(call("registry", "show", "digits", "--json")[1])
    assert [(e["kind"], e["done"]) for e in shown["history"]] == [
        ("promote", True),
        ("refuse", False),
        ("refuse", False),
        ("promote", True),
    ]
    assert shown["history"][-1]["why"] == "without gates: for a test"
    assert shown["history"][1]["evidence"]


def test_few_examples_show_nothing_and_it_says_how_many_would(call):
    call("registry", "add", "digits", packages()[0])
    call("registry", "add", "digits", packages()[1])
    call("registry", "promote", "digits", 1)
    code, _, err = call("registry", "promote", "digits", 2, "--data", finished_run())
    assert code == 1
    assert "negative_flips is 0 (at most 0.02): met by the figure but not shown" in err
    assert "test examples would be needed" in err


def test_a_first_version_whose_run_was_held_to_no_gates_needs_a_reason(call, tmp_path):
    files = contents()
    report = json.loads(files["report.json"])
    for gates, says in (
        ([], "its own run was held to no gates"),
        ([{**report["gates"][0], "passed": False}], "accuracy_drop is .*, in its own run"),
    ):
        name = f"m{len(gates)}"
        place = folder(tmp_path / name, files)
        changed = json.dumps({**report, "gates": gates}).encode()
        (place / "report.json").write_bytes(changed)
        _list_again(place)
        assert call("registry", "add", name, place)[0] == 0
        code, _, err = call("registry", "promote", name, 1)
        assert code == 1
        assert re.search(says, err), err
        assert call("registry", "promote", name, 1, "--without-gates", "new")[0] == 0


def _list_again(place):
    from tutelage.deployment.manifest import manifest_of

    was = json.loads((place / "manifest.json").read_text())
    now = manifest_of(place, run=was["run"], version=was["tutelage"], date=was["date"])
    (place / "manifest.json").write_text(json.dumps(now))


def test_show_tells_where_a_version_comes_from(call):
    call("registry", "add", "digits", packages()[0], "--alias", "candidate")
    code, out, _ = call("registry", "show", "digits@candidate")
    assert code == 0
    for words in ("student", "teacher", "test data", "recipe", "gate accuracy_drop", "passed"):
        assert words in out
    assert json.loads(call("registry", "show", "digits/1", "--json")[1])["number"] == 1
    assert list(json.loads(call("registry", "list", "--json")[1])) == ["digits"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["show", "nobody"], 2, "there is no model 'nobody'"),
        (["show", "digits/7"], 2, "digits has no version 7"),
        (["add", "a/b", "p.zip"], 2, "is no name of a model"),
        (["add", "digits", "nowhere.zip"], 2, "there is no package"),
        (["promote", "digits", "0"], 2, "Invalid value for"),
        (["promote", "digits", "1", "--gate", "negativ_flips=1"], 2, "'negative_flips'"),
        (["promote", "digits", "1", "--gate", "gain=1"], 2, "cannot be held to it"),
        (["promote", "digits", "1", "--without-gates", " "], 2, "say why, in words"),
        (["promote", "digits", "2", "--data", "nodata"], 2, "nodata"),
        (["rollback", "digits"], 2, "nothing to go back to"),
        (["list", "--registry", "ftp://x"], 2, "is no place for a registry"),
        (["lst"], 2, "No such command"),
    ],
)
def test_a_wrong_word_is_one_line(words, code, says, call, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTELAGE_REGISTRY", str(filled(tmp_path / "filled")))
    with Registry() as registry:
        registry.promote("digits", 1, why="x")
        before = registry.history("digits")
        found, _, err = call("registry", *words)
        assert found == code
        assert says in err
        assert err.count("\n") == 1
        assert registry.history("digits") == before


def test_a_run_is_tracked_once(call):
    code, out, err = call("track", finished_run())
    assert (code, err) == (0, "")
    number = out.split()[-1].rstrip(".")
    assert track_run(finished_run()) == (number, False)
    assert "which was there already" in call("track", finished_run())[1]
    with Registry() as registry:
        database, kept = registry.home / "registry.db", registry.home / "artifacts"
        registry.add("digits", packages()[0])
    with closing(sqlite3.connect(database)) as found:
        ask = lambda sql: found.execute(sql).fetchall()  # noqa: E731
        assert ask("SELECT run_uuid, status, name FROM runs") == [(number, "FINISHED", "small")]
        assert ask("SELECT run_id FROM model_versions") == [(number,)]
        params = dict(ask("SELECT key, value FROM params"))
        assert (params["train.epochs"], params["name"]) == ("3", "small")
        steps = "SELECT count(DISTINCT step) FROM metrics WHERE key = 'student-0.kd'"
        assert ask(steps)[0][0] > 1
        (best,) = ask("SELECT value FROM metrics WHERE key = 'student.accuracy'")
        tags = dict(ask("SELECT key, value FROM tags"))
    report = json.loads((finished_run() / "report.json").read_text())
    assert best[0] == report["models"]["student"]["accuracy"]
    assert tags["tutelage.gate.accuracy_drop"] == "passed"
    assert len(tags["tutelage.data.test"]) == 64
    names = {path.name for path in kept.rglob("*") if path.is_file()}
    assert {"report.html", "report.json", "resolved.yaml"} <= names


def test_what_is_no_finished_run_is_not_tracked(call, tmp_path):
    code, _, err = call("track", tmp_path)
    assert code == 2
    assert "there is no resolved.yaml in" in err


def test_help_and_list_do_not_import_mlflow(tmp_path):
    """And what a server polls does not either."""
    home(tmp_path / "home")
    script = (
        "import sys; from tutelage.cli.main import app; words = sys.argv[1:];"
        "app(['registry', '--help'], standalone_mode=False);"
        "assert not {'mlflow', 'torch', 'sqlalchemy'} & set(sys.modules);"
        "app(['registry', 'list', '--registry', words[0]], standalone_mode=False);"
        "assert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "home")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "There are no models in" in done.stdout
