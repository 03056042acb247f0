"""Tasks and speed in recipes on text: asked of every model, shown everywhere, wrong ones told."""

import json
import re

import pytest
import yaml
from recipe_samples import quiet_run, save_archive, small

from tutelage.core.errors import TutelageError
from tutelage.evaluation.faces.language import terminal
from tutelage.recipe.arms import Desk
from tutelage.recipe.check import check
from tutelage.recipe.evaluating import evaluate
from tutelage.recipe.reading import read
from tutelage.recipe.validated import recipe_from

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text in which each word is followed by the next, and tasks about it."""
    made = tmp_path_factory.mktemp("text")
    (made / "said.txt").write_text(" ".join(WORDS * 400))
    choices = [
        {"prompt": f"{a} {b}", "choices": [f" {c}", " xyz"], "answer": 0}
        for a, b, c in zip(WORDS, WORDS[1:], WORDS[2:], strict=False)
    ]
    (made / "choices.jsonl").write_text("\n".join(map(json.dumps, choices)))
    (made / "next.yaml").write_text("{kind: multiple_choice, items: choices.jsonl}")
    words = [{"prompt": "the cat", "answer": "sat on"}, {"prompt": "on a", "answer": "mat and"}]
    written = {"name": "words", "kind": "exact_match", "items": words, "stop": " saw", "most": 8}
    (made / "words.yaml").write_text(yaml.safe_dump(written))
    return made


def recipe(folder, *tasks, **changes):
    text = {"path": str(folder / "said.txt"), "tokenizer": "bytes", "length": 32}
    train = {"epochs": 1, "batch_size": 16, "learning_rate": 0.01, "optimizer": {"adamw": {}}}
    made = {
        "recipe": 1,
        "name": "little",
        "data": {"source": {"text": text}},
        "teacher": {"model": {"gpt": {"width": 32, "layers": 1, "heads": 2}}, "train": {}},
        "student": {"model": {"gpt": {"width": 16, "layers": 1, "heads": 2}}},
        "train": train,
        "objective": [{"kd": {"temperature": 1}}],
        "export": False,
        "report": "none",
        "evaluation": {"tasks": [*map(str, tasks)]},
    }
    return {**made, **changes}


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    made = recipe(folder, folder / "next.yaml", folder / "words.yaml", seeds=[0, 1])
    made["evaluation"]["speed"] = True
    out = tmp_path_factory.mktemp("run") / "out"
    return quiet_run(made, out), out


def test_every_model_and_seed_is_asked_every_task(done):
    report = json.loads((done[1] / "report.json").read_text())
    choice, exact = report["tasks"]
    assert [(t["name"], t["items"]) for t in (choice, exact)] == [("next", 6), ("words", 2)]
    for task in (choice, exact):
        assert list(task["models"]) == ["teacher", "student", "baseline"]
        assert task["left_out"] == {}
        for role in ("student", "baseline"):
            seeds = task["models"][role]["seeds"]
            assert [each["seed"] for each in seeds] == [0, 1]
            mean = sum(each["value"] for each in seeds) / 2
            assert task["models"][role]["value"]["mean"] == pytest.approx(mean)
        assert "Wilson" in task["models"]["teacher"]["value"]["method"]
        assert "Newcombe" in task["comparison"]["teacher"]["method"]
        assert "over 2 seeds" in task["comparison"]["baseline"]["method"]
    assert choice["models"]["teacher"]["value"]["mean"] == 1.0  # it learnt which word follows
    assert 0 <= choice["models"]["student"]["others"]["accuracy_by_bytes"] <= 1


def test_writing_is_measured_for_all(done):
    models = json.loads((done[1] / "report.json").read_text())["models"]
    for model in models.values():
        found = model["writing"]
        assert found["first_ms"] > 0
        assert (found["prompt_tokens"], found["tokens"], found["threads"]) == (128, 32, 1)
    memory = [models[role]["writing"]["memory_bytes"] for role in ("teacher", "student")]
    assert memory[0] > memory[1] > 0
    assert (
        models["student"]["writing"]["memory_bytes"]
        == models["baseline"]["writing"]["memory_bytes"]
    )


def test_all_faces_show_tasks_and_speed(done):
    result, folder = done
    page, card, told = (
        (folder / "report.html").read_text(),
        (folder / "MODEL_CARD.md").read_text(),
        terminal(result.report),
    )
    for face in (page, card, told, (folder / "report.md").read_text()):
        assert "next (accuracy)" in face
        assert "words (accuracy)" in face
        assert "time to the first token" in face
    for face in (page, card):
        assert "behind 128 tokens of validation text, 32 tokens after the first" in face
        assert re.search(r"Measured on: .*\d+ cores", face)
    again = recipe_from(read(folder / "resolved.yaml"))
    assert [each.path for each in again.evaluation.tasks][1].endswith("words.yaml")


def test_writing_is_not_timed_where_no_costs_are_asked(folder, tmp_path):
    made = recipe(folder, baseline=False)
    report = quiet_run(made, tmp_path / "out").report
    assert report["tasks"] == []
    assert report["models"]["student"]["writing"] is None
    assert "first token" not in (tmp_path / "out" / "report.md").read_text()


def test_a_task_that_cannot_be_answered_leaves_the_others(folder, tmp_path):
    text = "x" * 3000
    items = [{"prompt": "a", "answer": 0, "choices": [text, "b"]}]
    (folder / "long.yaml").write_text(yaml.safe_dump({"kind": "multiple_choice", "items": items}))
    made = recipe(folder, folder / "long.yaml", folder / "next.yaml", baseline=False)
    long, short = quiet_run(made, tmp_path / "out").report["tasks"]
    assert long["models"] == {}
    assert "3000 tokens, and the model reads 1024" in long["left_out"]["student"]
    assert short["models"]["student"]["value"]["mean"] >= 0
    assert "3000 tokens" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        (["nxt.yaml"], "evaluation.tasks.0: the task .* does not exist.*Did you mean 'next.yaml'"),
        (["next.yaml", "next.yaml"], "evaluation.tasks.1: there is a task 'next' already"),
        (["{knd: exact_match, items: []}"], "Did you mean 'kind'"),
        (["{kind: exact_match, items: []}"], "has no items"),
        (["{kind: exact_match, items: none.jsonl}"], "cannot be read"),
        (
            ["{kind: multiple_choice, items: [{prompt: a, answer: 2, choices: [b, c]}]}"],
            "item 1: the answer is number 2 of 2 choices",
        ),
        ([{"lm_evl": "a.yaml"}], "evaluation.tasks.0: .*no key 'lm_evl'. Did you mean 'lm_eval'"),
        ([{"limit": 3}], "evaluation.tasks.0: .*write {lm_eval: FILE_OR_NAME"),
        ([{"lm_eval": "a.yaml", "limit": 0}], "evaluation.tasks.0.limit: got 0"),
        ([7], "evaluation.tasks.0: got 7: name a task's file"),
    ],
)
def test_check_tells_a_wrong_task_in_one_line(folder, tmp_path, tasks, told):
    named = []
    for task in tasks:
        if isinstance(task, str) and task.startswith("{"):
            (tmp_path / "task.yaml").write_text(task)
            task = str(tmp_path / "task.yaml")
        named.append(str(folder / task) if isinstance(task, str) else task)
    with pytest.raises(TutelageError, match=told) as error:
        check(recipe(folder, evaluation={"tasks": named}))
    assert "\n" not in str(error.value)


def test_a_misspelt_section_is_told(folder):
    with pytest.raises(TutelageError, match=r"evaluation\.task: .*Did you mean 'tasks'"):
        check(recipe(folder, evaluation={"task": []}))


def test_a_task_of_the_harness_is_asked_in_a_run(folder, tmp_path):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    task = {
        "task": "harnessed",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "choices.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "answer",
        "doc_to_choice": "{{choices}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "harnessed.yaml").write_text(yaml.safe_dump(task))
    asked = [{"lm_eval": str(folder / "harnessed.yaml"), "limit": 5}, str(folder / "next.yaml")]
    made = recipe(folder, evaluation={"tasks": asked}, baseline=False)
    theirs, ours = quiet_run(made, tmp_path / "out").report["tasks"]
    assert (theirs["kind"], theirs["items"], theirs["metric"]) == ("lm_eval", 5, "acc")
    assert theirs["models"]["teacher"]["value"]["mean"] == 1.0
    assert ours["models"]["teacher"]["value"]["mean"] == 1.0


def test_evaluate_says_that_it_is_not_for_text(done, tmp_path):
    with pytest.raises(TutelageError, match="is text, and evaluate asks models") as error:
        evaluate({"student": str(done[1]), "data": str(done[1])}, tmp_path / "e", Desk(None))
    assert "\n" not in str(error.value)


def test_tasks_are_for_text(tmp_path):
    save_archive(tmp_path / "images.npz")
    made = {**small(tmp_path / "images.npz"), "evaluation": {"speed": True}}
    with pytest.raises(TutelageError, match="evaluation: tasks and speed are for text"):
        quiet_run(made, tmp_path / "out")
