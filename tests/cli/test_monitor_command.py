"""``tutelage monitor``: what it prints and writes, its exit statuses, and faults."""

import hashlib
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from tutelage.cli import watched
from tutelage.deployment.manifest import MODELS, PAPERS, manifest_of
from tutelage.deployment.reference import write_reference
from tutelage.deployment.traffic import TrafficLog, read_traffic
from tutelage.recipe import watched_beside
from typed import typed

DICE = np.random.default_rng(0)
WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
LABELS = ["shirt", "shoe", "bag"]
OLD = "0" * 64


def rows(count, moved=0.0):
    return (DICE.normal(size=(count, 6)) + moved).astype(np.float32)


def answer(inputs):
    return 2 * inputs @ WEIGHTS


def call(monkeypatch, *words):
    return typed(monkeypatch, "monitor", *words)


def package(tmp_path, name="model"):
    """A package whose reference is real; nobody looks at its other files here."""
    folder = tmp_path / name
    folder.mkdir()
    for paper in (MODELS[0], *PAPERS):
        (folder / paper).write_text("{}")
    (folder / "labels.json").write_text(json.dumps({"labels": LABELS}))
    inputs = rows(800)
    logits = answer(inputs)
    labels = np.where(DICE.random(800) < 0.9, logits.argmax(1), 0)
    write_reference(
        folder / "reference.safetensors",
        [{"x": inputs}],
        logits,
        labels,
        teacher=np.eye(3)[labels],
        model=folder / "student.onnx",
    )
    run = {"name": "small", "identity": "i", "data": {}}
    manifest = manifest_of(folder, run=run, version="0", date="2026-01-31")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def digest(folder):
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def traffic(tmp_path, version, count=240, moved=0.0, begin=1e9, logits=answer, **more):
    folder = tmp_path / "traffic"
    with TrafficLog(folder, version=version, **more) as log:
        for row in range(0, count, 40):
            inputs = rows(40, moved)
            log.append({"x": inputs}, logits(inputs), when=begin + row, seconds=0.003)
    return folder


ASK = ("--window", 100)


def test_the_same_stream_is_quiet_and_the_page_needs_nothing_else(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen, page = traffic(tmp_path, digest(model)), tmp_path / "m.html"
    code, said, err = call(monkeypatch, model, "--traffic", seen, *ASK, "--html", page)
    assert (code, err) == (0, "")
    assert said.startswith("model: quiet")
    assert "stability index" in said
    text = page.read_text()
    assert "<svg" in text
    assert "Quiet" in text
    assert not re.search(r"<script|<link|(?:src|href)=\"(?!#)|url\(|@import|https?:", text)


def test_a_moved_stream_is_an_alarm_with_what_to_look_at(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen = traffic(tmp_path, digest(model)[:12], moved=1.0)
    code, said, _ = call(monkeypatch, model, "--traffic", seen, *ASK, "--html", tmp_path / "m.html")
    assert code == 1
    assert "model: alarm" in said
    assert "look at source, scaling and preprocessing" in said
    assert "what was" in (tmp_path / "m.html").read_text().lower()
    code, said, _ = call(monkeypatch, model, "--traffic", seen, *ASK, "--json")
    found = json.loads(said)
    assert (code, found["alarm"], found["judged"]) == (1, True, True)
    assert len(found["series"]["traffic"]) == 2
    assert found["facts"]["latency"]["p50_ms"] == pytest.approx(3, rel=0.01)
    rule = call(monkeypatch, model, "--traffic", seen, *ASK, "--rule", "3/3")
    assert rule[0] == 0


def test_too_few_examples_are_said_and_nothing_is_claimed(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen = traffic(tmp_path, digest(model), count=40, moved=5.0)
    code, said, _ = call(monkeypatch, model, "--traffic", seen, *ASK)
    assert code == 0
    assert "too few examples to tell" in said
    assert "40 examples, and a window needs 100" in said


def test_labels_by_time_and_by_prediction(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen, file = traffic(tmp_path, digest(model)), tmp_path / "labels.csv"
    log = read_traffic(seen)
    right = log.logits.argmax(1)

    def ask(lines, head):
        file.write_text("\n".join([head, *lines]))
        return call(monkeypatch, model, "--traffic", seen, *ASK, "--labels", file, "--json")

    told = np.where(DICE.random(len(right)) < 0.9, right, 0)  # as in the reference
    good = [f"{t!r},{LABELS[c]}" for t, c in zip(log.times.tolist(), told, strict=True)]
    assert ask(good, "time,label")[0] == 0
    bad = [f"{t!r},{(c + 1) % 3}" for t, c in zip(log.times.tolist(), right, strict=True)]
    code, said, _ = ask(bad, "time,label")
    assert code == 1
    assert "accuracy" in json.loads(said)["series"]["labels"][0]["causes"]
    plain = ["shoe,shoe,0.97"] * 60 + ["bag,shoe,0.4"] * 4
    assert ask(plain, "label,predicted,confidence")[0] == 0
    few = ask(["shoe,bag"] * 5, "label,predicted")
    assert few[0] == 0
    assert "5 labels are too few" in few[1]
    for lines, head, told in (
        (["shoo,bag"], "label,predicted", "line 2: 'shoo' is no class. Did you mean"),
        (["1"], "label", "columns label"),
        (["x,shoe"], "time,label", "no number"),
        (["1,shoe"], "time,label", "none of its 1 times"),
        (["shoe,shoe,7"], "label,predicted,confidence", "not from 0 to 1"),
        ([], "label,predicted", "no labels below"),
    ):
        code, _, err = ask(lines, head)
        assert code == 2
        assert told in err


def test_a_teacher_is_asked_about_kept_inputs(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen = traffic(tmp_path, digest(model), keep_inputs=1.0)

    def wrong(words, inputs, labels):
        return (answer(inputs["x"]).argmax(1) + 1) % 3

    monkeypatch.setattr(watched_beside, "teacher_classes", wrong)
    code, said, _ = call(monkeypatch, model, "--traffic", seen, *ASK, "--teacher", "t", "--json")
    assert code == 1
    assert json.loads(said)["series"]["teacher"][0]["causes"] == ["disagreement"]
    monkeypatch.undo()
    code, _, err = call(monkeypatch, model, "--traffic", seen, *ASK, "--teacher", "nothing")
    assert code == 2
    assert "give a run folder" in err


def test_a_shadow_that_differs_more_than_before_is_an_alarm(monkeypatch, tmp_path):
    model = package(tmp_path)
    with TrafficLog(tmp_path / "traffic", version=digest(model)) as log:
        for row in range(12):
            inputs = rows(40)
            logits = answer(inputs)
            log.append({"x": inputs}, logits, when=1e9 + row, shadow=-logits if row > 8 else logits)
    code, said, _ = call(monkeypatch, model, "--traffic", tmp_path / "traffic", *ASK, "--json")
    assert code == 1
    assert json.loads(said)["series"]["shadow"][0]["alarm"]


def test_faults_end_with_2_and_one_line(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen = traffic(tmp_path, digest(model))
    other = tmp_path / "other"
    with TrafficLog(other, version=digest(model)) as log:
        log.append({"x": rows(200)}, np.zeros((200, 7), "f4"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "policy.yaml").write_text("policy: {do: panic}\n")
    for words, told in (
        ((model, "--traffic", tmp_path / "none", *ASK), "no traffic folder"),
        ((model, "--traffic", tmp_path / "empty", *ASK), "holds no traffic"),
        ((model, "--traffic", other, *ASK), "traffic of another model"),
        ((tmp_path / "gone", "--traffic", seen), "there is no package"),
        ((tmp_path / "empty", "--traffic", seen), "no reference.safetensors"),
        ((model, "--traffic", seen, "--window", 10), "at least 30"),
        ((model, "--traffic", seen, "--window", 600), "needs twice as many"),
        ((model, "--traffic", seen, *ASK, "--false-alarms", 0), "--false-alarms"),
        ((model, "--traffic", seen, *ASK, "--rule", "3/2"), "--rule"),
        ((model, "--traffic", seen, *ASK, "--follow", 0), "--follow"),
        ((model, "--traffic", seen, *ASK, "--labels", tmp_path / "no.csv"), "no file of labels"),
        ((model, "--traffic", seen, *ASK, "--html", tmp_path / "no" / "m.html"), "--html"),
        ((model, "--traffic", seen, *ASK, "--policy", tmp_path / "policy.yaml"), "policy.do"),
    ):
        code, _, err = call(monkeypatch, *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert told in err


def test_another_models_reference_or_version_is_refused(monkeypatch, tmp_path):
    model = package(tmp_path)
    seen = traffic(tmp_path, OLD)
    code, _, err = call(monkeypatch, model, "--traffic", seen, *ASK)
    assert code == 2
    assert f"answers of {OLD[:12]}, and none of {digest(model)[:12]}" in err
    reference = model / "reference.safetensors"
    content = reference.read_bytes()
    reference.write_bytes(content[:-4] + b"abcd")
    assert "is not the listed one" in call(monkeypatch, model, "--traffic", seen, *ASK)[2]
    (model / "manifest.json").unlink()
    reference.write_bytes(content)
    (model / "student.onnx").write_text("another")
    assert "of another model" in call(monkeypatch, model, "--traffic", seen, *ASK)[2]


def swapped(tmp_path, name="model"):
    """Traffic of an older version that is right, and of this one, which is right no longer."""
    model = package(tmp_path, name)
    traffic(tmp_path, OLD, begin=1e9)
    folder = traffic(tmp_path, digest(model), begin=2e9)
    log = read_traffic(folder)
    right = log.logits.argmax(1)
    mine = np.array([version != OLD for version in log.versions])
    told = np.where(mine, (right + 1) % 3, right)
    lines = [f"{t!r},{c}" for t, c in zip(log.times.tolist(), told, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["time,label", *lines]))
    return model, folder


def test_a_version_that_is_wrong_since_its_swap_is_rolled_back_once(monkeypatch, tmp_path):
    model, folder = swapped(tmp_path)
    (tmp_path / "policy.yaml").write_text(
        "policy:\n  on: [predictions, accuracy]\n  after: 2 consecutive windows\n"
        "  do: rollback\n  name: fashion\n"
    )
    calls = []

    def rollback(name, *, why):
        calls.append((name, why))
        return SimpleNamespace(digest=OLD)

    registry = SimpleNamespace(
        rollback=rollback,
        resolve=lambda words: SimpleNamespace(
            folder=model, words="fashion/2", digest=digest(model)
        ),
    )
    monkeypatch.setattr(watched, "_registry", lambda words, package: registry)
    words = ("fashion", "--traffic", folder, *ASK, "--rule", "2/2", "--registry", tmp_path / "home")
    words += ("--labels", tmp_path / "labels.csv", "--policy", tmp_path / "policy.yaml")
    code, said, err = call(monkeypatch, *words)
    assert (code, err) == (1, "")
    assert "policy: rolled back" in said
    assert "it began with version" in " ".join(said.split())
    code, said, _ = call(monkeypatch, *words)
    assert len(calls) == 1
    assert "policy: n" in said


def test_following_looks_again_until_stopped(monkeypatch, tmp_path):
    model = package(tmp_path)
    (tmp_path / "traffic").mkdir()
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt
        traffic(tmp_path, digest(model))

    monkeypatch.setattr(watched.time, "sleep", sleep)
    code, said, _ = call(monkeypatch, model, "--traffic", tmp_path / "traffic", *ASK, "--follow", 5)
    assert code == 130
    assert naps == [5, 5]
    assert "too few examples to tell" in said
    assert "quiet" in said
