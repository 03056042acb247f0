"""Runs whose teacher is behind a server: a real model, asked over HTTP on this machine."""

import importlib
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from language_samples import quick_latency as quick_latency
from language_samples import recipe, sentences
from recipe_samples import quiet_run, said_by_run

from tutelage.core.errors import TutelageError
from tutelage.data.text import TokenLoader
from tutelage.recipe.caching import answers
from tutelage.recipe.check import check
from tutelage.recipe.plan import Given, load_data, plan
from tutelage.recipe.teaching import teach
from tutelage.recipe.validated import recipe_from

KEY = "sk-never-to-be-seen"
NAME = "TUTELAGE_TEST_KEY"
BOTH = [{"kd": {"temperature": 1}}, {"ce": {"weight": 0.5}}]


@pytest.fixture(scope="module")
def server():
    """The server of the tests of remote teachers, the same one where those run, too."""
    teachers = str(Path(__file__).parents[1] / "teachers")
    if teachers not in sys.path:
        sys.path.append(teachers)
    return importlib.import_module("small_server").running()


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "said.txt"
    path.write_text(sentences(250))
    return path


def remote(text, server, **changes):
    asked = {
        "url": server.url,
        "model": "tiny",
        "top": 8,
        "key_env": NAME,
        "prices": {"read": 2.0, "written": 8.0},
        **changes.pop("asked", {}),
    }
    made = recipe(text, "bytes", length=40, teacher={"server": asked})
    return {**made, **changes}


@pytest.fixture(autouse=True)
def _ways(server, monkeypatch):
    monkeypatch.setenv(NAME, KEY)
    server.ways(key=KEY)


def test_a_server_teaches_and_is_asked_once(text, server, tmp_path):
    made = remote(text, server, seeds=[0, 1], objective=BOTH)
    rows = len(load_data(recipe_from(made)).train)
    said = said_by_run(made, tmp_path / "out")
    asked = [each for each in server.seen if each["path"] == "/v1/completions"]
    assert rows <= len(asked) <= rows + 3  # and a trial that the server tells what it should
    assert "asked 0 times now" in said  # by the second seed
    server.ways(key=KEY)
    again = remote(text, server, name="again", objective=BOTH)
    quiet_run(again, tmp_path / "again")
    assert server.seen == []
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["models"]["teacher"] is None
    assert "was not asked about the test text" in report["verdict"]["lost"][0]
    assert any("8 likeliest" in note for note in report["notes"])
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes()
    assert KEY not in said
    assert NAME in (tmp_path / "out" / "resolved.yaml").read_text()


def test_kept_answers_are_what_the_servers_model_says(text, server, tmp_path):
    read = recipe_from(remote(text, server))
    made = plan(read, Given(load_data(read)))
    desk = Quiet()
    with answers(made, teach(made, made.splits, desk).model, desk) as teacher:
        batch = next(TokenLoader(made.splits.train, 1, shuffle=False).epoch(0))
        found = teacher(batch)
    log_p = server.exact(batch.inputs["input_ids"][0].tolist())
    kept = log_p[:, :257].gather(-1, found.top[0])
    assert torch.allclose(kept, found.logits[0], atol=5e-3)
    mass = found.logits.exp().sum(-1) + found.log_tail.exp()
    assert torch.allclose(mass, torch.ones_like(mass), atol=5e-3)


class Quiet:
    """A desk at which nobody sits."""

    folder = None

    def say(self, text, style=None):
        pass


def test_check_reckons_the_cost_and_asks_nobody(text, server):
    made = remote(text, server, asked={"budget": {"money": 1e-6}})
    found = check(made)
    assert server.seen == []
    train = found.plan.splits.train
    told = next(line for line in found.warnings if "will be asked" in line)
    assert f"{len(train):,} texts once" in told
    tokens = int(train.widths.sum()) + len(train)
    assert f"{tokens:,} tokens to read" in told
    money = (2.0 * tokens + 8.0 * len(train)) / 1e6
    assert math.isclose(float(told.split("(")[1].split()[0]), money, rel_tol=1e-3)
    assert any("teacher.server.budget" in line for line in found.warnings)


def test_a_run_stops_with_its_budget_and_goes_on(text, server, tmp_path):
    made = remote(text, server, asked={"budget": {"tokens": 640}})  # of some 760
    made["train"]["batch_size"] = 4
    with pytest.raises(TutelageError, match="budget"):
        quiet_run(made, tmp_path / "out")
    before = len(server.seen)
    quiet_run(made, tmp_path / "out", resume=True)
    rows = len(load_data(recipe_from(made)).train)
    assert 0 < before < rows <= len(server.seen) <= rows + 4 + 2 * 3  # a batch torn, two trials


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ({"model": "gpt"}, "teacher.model: got 'gpt', and teacher.server is given too"),
        ({"weights": "x.pt"}, "teacher.weights: got 'x.pt', and the teacher is behind"),
        ({"cache": {"form": "dense"}}, "teacher.cache.form: got 'dense'"),
        ({"cache": {"k": 3}}, "teacher.cache.k: got 3, and teacher.server.top is 8"),
        ({"server": {"key_env": KEY}}, "key_env: this is no name of an environment variable"),
        ({"server": {"key_env": "NOBODY_SET_THIS"}}, "NOBODY_SET_THIS holds no key: set it"),
        ({"server": {"url": "ftp://here"}}, "teacher.server: the server's address is 'ftp://here'"),
        ({"server": {"top": 400}}, "teacher.server: k is 400"),
        ({"server": {"send": "text"}}, "teacher.server.send: got 'text'"),
        ({"server": {"key": KEY}}, "teacher.server.key: there is no such key"),
    ],
    ids=lambda value: None if isinstance(value, dict) else "case",
)
def test_a_wrong_server_is_told_in_one_line(text, server, tmp_path, teacher, told):
    changed = dict(teacher)
    made = remote(text, server, asked=changed.pop("server", {}))
    made["teacher"] |= changed
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(made, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert server.seen == []
    assert not (tmp_path / "out").exists()
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"setting": "on_policy"}, "setting: got 'on_policy', and the teacher's answers are asked"),
        ({"student": {"model": {"shrunk": {"layers": 1}}}}, "student: it is made of its teacher"),
        ({"objective": [{"kd": {"temperature": 2}}]}, "objective.0.kd: .*temperature"),
        ({"gates": {"perplexity_ratio": 2}}, "gates.perplexity_ratio: .*token by token"),
    ],
    ids=["setting", "shrunk", "temperature", "gate"],
)
def test_what_a_server_cannot_do_is_told(text, server, tmp_path, changes, told):
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(remote(text, server, **changes), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert server.seen == []
