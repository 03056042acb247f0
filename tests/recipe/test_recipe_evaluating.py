"""``tutelage evaluate`` and ``tutelage compare``, as they are typed, on small finished runs."""

import json

import numpy as np
import pytest
import torch
from recipe_samples import changed, quiet_run, small, write

from tutelage.evaluation import mcnemar, right, validate_report
from tutelage.evaluation.answers import load_answers
from tutelage.recipe.comparing import _allow_for_several, compare_runs
from typed import typed


@pytest.fixture(scope="module")
def runs(archive, tmp_path_factory):
    """Two runs of one recipe with other seeds, the first with an ONNX file."""
    place = tmp_path_factory.mktemp("runs")
    recipe = {**small(archive), "report": "none"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        quiet_run({**recipe, "export": True}, place / "a")
        quiet_run({**recipe, "seeds": [5]}, place / "b")
        other = changed(recipe, "data/source/npz/test", 90)
        quiet_run(other, place / "other")
    return place


def evaluate(monkeypatch, *words):
    return typed(monkeypatch, "evaluate", *words, "--report", "none")


class TestEvaluate:
    def test_a_run_is_found_as_its_own_report_has_it(self, runs, tmp_path, monkeypatch):
        a = runs / "a"
        code, said, error = evaluate(
            monkeypatch, a, "--data", a, "--teacher", f"{a}:teacher", "--baseline", f"{a}:baseline"
        )  # fmt: skip
        assert (code, error) == (0, "")
        folder = tmp_path / "evaluations" / "a"
        assert "evaluations/a: answers.safetensors, report.html, report.json, report.md" in said
        found = json.loads((folder / "report.json").read_text())
        validate_report(found)
        before = json.loads((a / "report.json").read_text())
        for role in ("teacher", "student", "baseline"):
            for key in ("accuracy", "parameters", "bytes", "macs"):
                assert found["models"][role][key] == before["models"][role][key], (role, key)
            assert found["models"][role]["nll"] == pytest.approx(before["models"][role]["nll"])
        assert found["comparison"]["mcnemar"] == before["comparison"]["mcnemar"]
        assert found["command"].startswith("tutelage evaluate")
        assert any("reported on these very test examples" in note for note in found["notes"])

    def test_a_temperature_that_was_shipped_is_heard(
        self, archive, tmp_path, tmp_path_factory, monkeypatch
    ):
        place = tmp_path_factory.mktemp("tempered")
        quiet_run({**small(archive), "report": "none", "calibrate": True}, place / "warm")
        code, _, error = evaluate(monkeypatch, place / "warm", "--data", place / "warm")
        assert (code, error) == (0, "")
        found = json.loads((tmp_path / "evaluations" / "warm" / "report.json").read_text())
        before = json.loads((place / "warm" / "report.json").read_text())
        assert any("divided by" in note for note in before["notes"])
        one, other = (each["models"]["student"]["nll"] for each in (found, before))
        assert one == pytest.approx(other)

    def test_an_onnx_file_answers_as_the_run_does(self, runs, tmp_path, monkeypatch):
        a = runs / "a"
        code, said, _ = evaluate(
            monkeypatch, a / "student.onnx", "--data", a, "--teacher", a, "--json"
        )
        assert code == 0
        found = json.loads(said)
        models = found["models"]
        assert found["comparison"]["agreement"] == 1
        assert models["student"]["macs"] == models["teacher"]["macs"]
        # The teacher was exported for this, or their times could not be compared.
        assert {models[role]["latency_ms"]["backend"] for role in ("student", "teacher")} == {
            "onnxruntime"
        }

    def test_a_described_model_is_the_same_as_the_run(self, runs, tmp_path, monkeypatch):
        a, before = runs / "a", json.loads((runs / "a" / "report.json").read_text())
        words = f"{{model: {{mlp: {{hidden: [8]}}}}, weights: {a / 'student.safetensors'}}}"
        write(tmp_path / "net.yaml", {"model": {"mlp": {"hidden": [8]}}, "weights": str(a / "student.safetensors")})  # fmt: skip
        for number, student in enumerate((words, "net.yaml")):
            code, said, _ = evaluate(
                monkeypatch, student, "--data", a / "resolved.yaml", "--out", f"e{number}", "--json"
            )
            assert code == 0
            found = json.loads(said)
            assert found["models"]["student"]["accuracy"] == before["models"]["student"]["accuracy"]
            assert found["models"]["teacher"] is None

    def test_classes_are_matched_by_name_or_refused(self, runs, tmp_path, monkeypatch):
        data = np.random.default_rng(0)
        np.savez(tmp_path / "two.npz", inputs=data.random((200, 28, 28), "float32"), targets=data.integers(0, 2, 200))  # fmt: skip
        code, _, error = evaluate(
            monkeypatch, runs / "a", "--data", "{npz: {path: two.npz, validation: 20, test: 20}}"
        )
        # Ten classes by number of which the data has two: their logits are picked.
        assert (code, error) == (0, "")
        np.savez(tmp_path / "wide.npz", inputs=data.random((200, 30, 28), "float32"), targets=data.integers(0, 2, 200))  # fmt: skip
        for student in (runs / "a", runs / "a" / "student.onnx"):
            code, _, error = evaluate(
                monkeypatch, student, "--data", "{npz: {path: wide.npz}}", "--out", "wide"
            )
            assert code == 2
            assert error.count("\n") == 1
            assert error.startswith("tutelage: student: ")
        assert not (tmp_path / "wide").exists()

    def test_a_gate_that_fails_is_exit_status_1_with_its_line(self, runs, tmp_path, monkeypatch):
        a = runs / "a"
        words = (a, "--data", a, "--out", "e", "--gate", "accuracy=0.99", "--gate", "ece=0.9")
        code, _, error = evaluate(monkeypatch, *words)
        assert code == 1
        assert error.startswith("tutelage: gate failed: accuracy is ")
        assert "ece" not in error
        assert (tmp_path / "e" / "report.json").is_file()

    def test_gates_of_a_recipe_are_taken(self, runs, archive, tmp_path, monkeypatch):
        recipe = write(tmp_path / "strict.yaml", {**small(archive), "gates": {"accuracy": 0.999}})
        code, _, error = evaluate(
            monkeypatch, runs / "a", "--data", recipe, "--gate", recipe, "--out", "e"
        )
        assert code == 1
        assert "accuracy" in error

    def test_an_older_report_is_not_replaced_unasked(self, runs, tmp_path, monkeypatch):
        words = (runs / "a", "--data", runs / "a", "--out", "e")
        assert evaluate(monkeypatch, *words)[0] == 0
        before = (tmp_path / "e" / "report.md").read_text()
        code, _, error = evaluate(monkeypatch, *words, "--set", "seed=3")
        assert code == 2
        assert "--force" in error
        assert (tmp_path / "e" / "report.md").read_text() == before
        assert evaluate(monkeypatch, *words, "--set", "seed=3", "--force")[0] == 0
        assert json.loads((tmp_path / "e" / "report.json").read_text())["seed"] == 3

    def test_the_folder_of_a_run_is_left_alone_even_by_force(self, runs, monkeypatch):
        a = runs / "a"
        code, _, error = evaluate(monkeypatch, a, "--data", a, "--out", a, "--force")
        assert code == 2
        assert "a run's own folder" in error

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nowhere", "--data", "A"], "give a run folder, an .onnx file, or"),
            (["A", "--data", "fashion_mnist_smal"], "Did you mean 'fashion_mnist_small'"),
            (["A", "--data", "A", "--gate", "speedup=2"], "compares with a teacher"),
            (["A", "--data", "A", "--gate", "acuracy=2"], "Did you mean 'accuracy'"),
            (["A", "--data", "A", "--gate", "7"], "write NAME=NUMBER"),
            (["A", "--data", "A", "--set", "reprot=full"], "Did you mean 'report'"),
            (["{model: mlp}", "--data", "A"], "student.weights: name the file"),
            (["{model: mlp, wieghts: x}", "--data", "A"], "student.wieghts: there is no such key"),
            (["x.onnx", "--data", "A"], "there is no ONNX file 'x.onnx'"),
            (["A", "--data", "A", "--teacher", "B"], "teacher: got"),
        ],
    )
    def test_what_is_wrong_is_told_in_a_line(self, runs, tmp_path, monkeypatch, words, message):
        words = [{"A": str(runs / "a"), "B": str(tmp_path / "b")}.get(word, word) for word in words]
        code, said, error = evaluate(monkeypatch, *words)
        assert code == 2
        assert said == ""
        assert message in error
        assert error.count("\n") == 1
        assert not (tmp_path / "evaluations").exists()

    def test_an_unknown_part_is_told_before_anything_is_loaded(self, runs, monkeypatch):
        code, _, error = typed(monkeypatch, "evaluate", runs / "a", "--data", runs / "a", "--report", "cots")  # fmt: skip
        assert code == 2
        assert "Did you mean 'cost'" in error

    def test_parts_are_named_with_commas_and_their_options_set(self, runs, monkeypatch):
        code, said, _ = typed(
            monkeypatch, "evaluate", runs / "a", "--data", runs / "a", "--report", "cost,flips",
            "--set", "report.cost.seconds=0.1", "--set", "report.cost.batch=7", "--json",
        )  # fmt: skip
        found = json.loads(said)["parts"]
        assert code == 0
        assert set(found) == {"cost", "flips"}
        assert found["cost"]["figures"]["batch"] == 7
        assert "teacher" in found["flips"]["left_out"]


class TestCompare:
    def test_differences_are_those_of_the_kept_answers(self, runs):
        found = compare_runs([runs / "a", runs / "b"])
        before, after = (load_answers(runs / name).models["student"] for name in ("a", "b"))
        was, now = (right(each.logits, each.targets) for each in (before, after))
        (row,) = found["against_first"]
        test = mcnemar(now, was)
        assert row["mcnemar"] == {
            "p": test.p, "p_holm": test.p,
            "only_this_right": test.only_first, "only_first_right": test.only_second,
        }  # fmt: skip
        change = now.double().mean() - was.double().mean()
        assert row["accuracy_change"]["mean"] == pytest.approx(change.item())
        assert row["accuracy_change"]["low"] <= change <= row["accuracy_change"]["high"]
        negative = row["flips"]["negative"]["mean"]
        assert negative == pytest.approx((was & ~now).double().mean().item())
        wrong = set(before.ids[was & ~now].tolist())
        assert set(row["flips"]["negative_examples"]) <= wrong
        assert len(row["flips"]["negative_examples"]) == min(10, len(wrong))

    def test_every_face_tells_the_same(self, runs, tmp_path, monkeypatch):
        a, b = runs / "a", runs / "b"
        code, said, error = typed(monkeypatch, "compare", a, b)
        assert (code, error) == (0, "")
        assert "b against a: " in said
        code, text, _ = typed(monkeypatch, "compare", a, b, "--markdown")
        assert code == 0
        assert text.startswith("### Runs side by side\n\n|  | a | b |")
        code, text, _ = typed(monkeypatch, "compare", a, b, "--json")
        assert [run["name"] for run in json.loads(text)["runs"]] == ["a", "b"]
        for name in ("c.json", "c.md"):
            assert typed(monkeypatch, "compare", a, b, "--out", name)[0] == 0
        assert json.loads((tmp_path / "c.json").read_text()) == json.loads(text)
        assert (tmp_path / "c.md").read_text().startswith("### Runs")

    def test_a_run_against_its_own_evaluation_shows_no_difference(self, runs, monkeypatch):
        assert evaluate(monkeypatch, runs / "a", "--data", runs / "a", "--out", "again")[0] == 0
        code, said, _ = typed(monkeypatch, "compare", runs / "a", "again", "--markdown")
        assert code == 0
        assert "no difference could be shown (McNemar's test, p = 1)" in said
        assert "100.0 % answered alike" in said

    def test_a_student_that_is_clearly_worse_is_called_so(self, runs, tmp_path, monkeypatch):
        """The teacher's answers put in the student's place: better beyond chance."""
        evaluate(monkeypatch, f"{runs / 'a'}:teacher", "--data", runs / "a", "--out", "t")
        (row,) = compare_runs([tmp_path / "t", runs / "a"])["against_first"]
        better, worse = (load_answers(f).models["student"] for f in (tmp_path / "t", runs / "a"))
        p = mcnemar(*(right(each.logits, each.targets) for each in (worse, better))).p
        assert row["mcnemar"]["p"] == p
        said = typed(monkeypatch, "compare", tmp_path / "t", runs / "a", "--markdown")[1]
        assert ("a difference beyond chance" in said) == (p < 0.05)

    def test_runs_on_different_test_examples_are_refused(self, runs, tmp_path, monkeypatch):
        code, _, error = typed(monkeypatch, "compare", runs / "a", runs / "other")
        assert code == 2
        assert "were tested on different examples (100 of" in error
        # As many examples, but others of them.
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            for file in ("report.json", "answers.safetensors"):
                (tmp_path / name / file).write_bytes((runs / name / file).read_bytes())
        from tutelage.evaluation.answers import save_answers

        save_answers(tmp_path / "b", load_answers(runs / "b").models, "0" * 64)
        code, _, error = typed(monkeypatch, "compare", tmp_path / "a", tmp_path / "b")
        assert code == 2
        assert "fingerprints" in error
        assert error.count("\n") == 1

    def test_without_kept_answers_figures_stand_without_tests(self, runs, tmp_path, monkeypatch):
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "report.json").write_bytes((runs / "b" / "report.json").read_bytes())
        code, said, _ = typed(monkeypatch, "compare", runs / "a", tmp_path / "old", "--markdown")
        assert code == 0
        assert "no test can be made, as" in said
        assert "keeps no answers" in said

    @pytest.mark.parametrize(
        ("names", "message"),
        [(["a"], "name at least two"), (["a", "a"], "named twice"), (["a", "x"], "no report in")],
    )
    def test_what_is_wrong_is_told_in_a_line(self, runs, monkeypatch, names, message):
        code, _, error = typed(monkeypatch, "compare", *(runs / name for name in names))
        assert code == 2
        assert message in error

    def test_a_report_that_is_none_is_told(self, runs, tmp_path, monkeypatch):
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "report.json").write_text('{"schema": 1}')
        code, _, error = typed(monkeypatch, "compare", runs / "a", tmp_path / "bad")
        assert code == 2
        assert "is no report of this program" in error
        assert typed(monkeypatch, "compare", runs / "a", runs / "b", "--out", "x.txt")[0] == 2

    def test_several_looks_are_allowed_for(self):
        rows = [{"mcnemar": {"p": p}} for p in (0.03, 0.01, 0.5)] + [{"mcnemar": None}]
        _allow_for_several(rows)
        assert [row["mcnemar"]["p_holm"] for row in rows[:3]] == pytest.approx([0.06, 0.03, 0.5])


def test_a_run_keeps_what_its_models_answered(runs):
    kept = load_answers(runs / "a")
    report = json.loads((runs / "a" / "report.json").read_text())
    assert set(kept.models) == {"teacher", "student", "baseline"}
    for role, answers in kept.models.items():
        hits = right(answers.logits, answers.targets).double().mean().item()
        assert hits == report["models"][role]["accuracy"]
    assert torch.equal(kept.models["teacher"].ids, kept.models["student"].ids)
