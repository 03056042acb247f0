"""Tasks of the LM Evaluation Harness: plain data about local files, asked of our models."""

import json

import pytest
from test_language_asking import BYTES, by_hand, net

from tutelage.core.errors import DataError, NotInstalled
from tutelage.evaluation.language.harness import language_model, scores_of
from tutelage.evaluation.language.harness_files import harness_task


def test_a_perplexity_of_the_harness_has_no_value_of_a_question():
    results = {"results": {"t": {"ppl,none": 9.0}}, "higher_is_better": {"t": {"ppl": False}}}
    samples = {"t": [{"doc_id": i, "filter": "none", "ppl": -1.0} for i in range(3)]}
    found = scores_of({**results, "samples": samples}, "t")
    assert (found.values, found.figure, found.better) == ((), 9.0, "lower")
    with pytest.raises(DataError, match="no figure of t"):
        scores_of({"results": {"t": {"alias": "t"}}}, "t")


def questions(folder, **changes):
    rows = [{"q": f"q{i}", "n": i % 2, "c": ["b", "cd"]} for i in range(6)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = {
        "task": "letters",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "rows.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_target": "n",
        "doc_to_choice": "{{c}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }
    path = folder / "letters.yaml"
    path.write_text(json.dumps({**made, **changes}))
    return path


def test_the_harness_asks_our_models(tmp_path):
    harness = pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    model = net()
    task = harness_task(str(questions(tmp_path)), limit=5)
    found = task.ask(model, BYTES)
    right = [
        (by_hand(model, f"q{i}", "cd")[0] > by_hand(model, f"q{i}", "b")[0]) == bool(i % 2)
        for i in range(5)
    ]
    assert (found.metric, found.values) == ("acc", tuple(map(float, right)))
    assert isinstance(language_model(model, BYTES), harness.api.model.LM)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"metric_lst": []}, "Did you mean 'metric_list'"),
        ({"include": "other.yaml"}, "none of plain data"),
        ({"class": "a.B"}, "none of plain data"),
        ({"dataset_path": "squad"}, "write one of json, csv"),
        ({"dataset_kwargs": {"data_files": "none.jsonl"}}, "does not exist"),
        ({"dataset_kwargs": {"data_files": "rows.jsonl", "num_proc": 2}}, "data_files alone"),
        ({"metric_list": [{"metric": "accc"}]}, "Did you mean 'acc'"),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "would be fetched"),
        ({"task": ["a"]}, "write task: NAME"),
    ],
)
def test_a_task_of_the_harness_is_plain_data_about_local_files(tmp_path, change, told):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    with pytest.raises(DataError, match=told) as error:
        harness_task(str(questions(tmp_path, **change)))
    assert "\n" not in str(error.value)


def test_a_task_of_the_harness_runs_no_code(tmp_path):
    pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
    path = questions(tmp_path)
    path.write_text(path.read_text().replace('"{{q}}"', "!function utils.f"))
    with pytest.raises(DataError, match="would run code"):
        harness_task(str(path))
    reaching = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    task = harness_task(str(questions(tmp_path, doc_to_text=reaching)))
    with pytest.raises(DataError, match="unsafe"):
        task.ask(net(), BYTES)


def test_without_the_harness_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(NotInstalled, match=r"tutelage\[lm-eval\]"):
        harness_task("any.yaml")
    with pytest.raises(NotInstalled, match=r"tutelage\[lm-eval\]"):
        language_model(net(), BYTES)
