import pytest
import yaml
from recipe_samples import changed, quiet_run, said_by_run, small

from tutelage.core.errors import Diverged, RecipeError
from tutelage.recipe import plan, reporting, run
from tutelage.recipe.tuning import choose


def tuned(archive, **candidates):
    arms = {arm: {"train.learning_rate": rates} for arm, rates in candidates.items()}
    return {**small(archive), "tune": arms}


def test_the_best_on_validation_is_taken_and_told(archive, tmp_path, monkeypatch):
    trials, choose_one = {}, run.choose

    def watched(arm, candidates, trial):
        def told(values):
            trials[(arm, values["train.learning_rate"])] = trial(values)
            return trials[(arm, values["train.learning_rate"])]

        return choose_one(arm, candidates, told)

    monkeypatch.setattr(run, "choose", watched)
    result = quiet_run(
        tuned(archive, student=[0.01, 0.05], baseline=[0.05, 0.001]), tmp_path / "out"
    )
    assert len(trials) == 4
    assert trials[("student", 0.05)] > trials[("student", 0.01)]
    assert trials[("baseline", 0.05)] > trials[("baseline", 0.001)]
    notes = " ".join(result.report["notes"])
    assert "2 trials: the student's train.learning_rate = 0.05." in notes
    assert "2 trials: the baseline's train.learning_rate = 0.05." in notes
    assert set(result.report["data"]["chosen"]) == {
        "the student's learning rate",
        "the baseline's learning rate",
    }
    resolved = yaml.safe_load((tmp_path / "out" / "resolved.yaml").read_text())
    assert resolved["chosen"] == {
        "student": {"train.learning_rate": 0.05},
        "baseline": {"train.learning_rate": 0.05},
    }


def test_no_choice_sees_the_test_split(archive, tmp_path, monkeypatch):
    held, report = [], run.report
    load = run.load_data

    def watched_load(recipe):
        splits = load(recipe)
        held.append(splits.test)
        return splits

    def watched_report(*arguments, **options):
        assert [test.opened for test in held] == [None]
        return report(*arguments, **options)

    monkeypatch.setattr(run, "load_data", watched_load)
    monkeypatch.setattr(run, "report", watched_report)
    quiet_run(tuned(archive, student=[0.01, 0.05], baseline=[0.05]), tmp_path / "out")
    assert [test.opened for test in held] == ["the report"]


def test_terms_of_the_objective_can_be_tuned(archive, tmp_path):
    recipe = small(archive)
    recipe["tune"] = {"student": {"objective.kd.temperature": [1, 4], "objective.kd.weight": [1]}}
    said = said_by_run(recipe, tmp_path / "out")
    assert "objective.kd.temperature=1, objective.kd.weight=1: " in said
    assert "objective.kd.temperature=4, objective.kd.weight=1: " in said


def test_what_was_tuned_is_what_is_trained(archive, tmp_path, monkeypatch):
    seen = []
    arm = run.student_arm

    def watched(made, taught, seed, label, desk):
        seen.append((label.split("-")[0], made.train.learning_rate, made.objective().weight))
        return arm(made, taught, seed, label, desk)

    monkeypatch.setattr(run, "student_arm", watched)
    recipe = {**small(archive), "objective": [{"kd": {"weight": 1}}]}
    recipe["tune"] = {"student": {"train.learning_rate": [0.05], "objective.kd.weight": [0.7]}}
    quiet_run(recipe, tmp_path / "out")
    assert seen == [("tune/student", 0.05, 0.7), ("student", 0.05, 0.7)]


def test_a_candidate_that_collapses_is_left_out_and_told(archive, tmp_path):
    result = quiet_run(tuned(archive, student=[1e5, 0.05]), tmp_path / "out")
    note = next(line for line in result.report["notes"] if "Tuned" in line)
    assert "the student's train.learning_rate = 0.05." in note
    assert "{'train.learning_rate': 100000.0} was left out because it failed: tune/student" in note
    assert result.report["models"]["student"]["accuracy"] > 0.4


def test_where_all_candidates_fail_the_run_says_so(archive, tmp_path):
    with pytest.raises(Diverged, match=r"^tune\.student: all 2 trials failed; the last: tune/stu"):
        quiet_run(tuned(archive, student=[1e5, 1e6]), tmp_path / "out")
    assert not (tmp_path / "out" / "student.safetensors").exists()


def test_a_tuned_run_goes_on_without_trying_again(archive, tmp_path, monkeypatch):
    recipe = tuned(archive, student=[0.01, 0.05])
    with monkeypatch.context() as context:
        context.setattr(reporting, "torch_latency", _fails)
        with pytest.raises(ZeroDivisionError):
            quiet_run(recipe, tmp_path / "out")
    before = (tmp_path / "out" / "log.jsonl").read_text()
    quiet_run(recipe, tmp_path / "out", resume=True)
    assert (tmp_path / "out" / "log.jsonl").read_text() == before


def test_the_first_of_equals_wins():
    assert choose("student", {"a": [1, 2, 3]}, lambda values: 0.5).values == {"a": 1}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("tune/student", {"train.learning_rate": []}, "at least one value"),
        ("tune/student", {"data.labels": [5]}, "only train.* and objective.* can be tuned"),
        ("tune/baseline", {"objective.kd.weight": [1]}, "only train.* can be tuned"),
        ("tune/student", {"objective.at.weight": [1]}, "nothing is called 'at' there"),
        ("tune/student", {"train.learning_rate": [-1]}, "greater than 0"),
        ("tune/seed", 0, "one of the run's own seeds"),
    ],
)
def test_wrong_candidates_are_refused_before_anything_is_trained(
    archive, tmp_path, key, value, says
):
    recipe = changed({**small(archive), "tune": {}}, key, value)
    with pytest.raises(RecipeError, match=says.replace("*", r"\*")):
        quiet_run(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("rate", [1e4, 1e6])
def test_a_student_that_collapses_is_never_shipped(archive, tmp_path, monkeypatch, rate):
    from recipe_samples import write

    from typed import typed

    recipe = changed({**small(archive), "baseline": False}, "train/learning_rate", rate)
    recipe["teacher"]["train"]["learning_rate"] = 0.05
    path = write(tmp_path / "r.yaml", recipe)
    code, _, err = typed(monkeypatch, "run", path, "--out", tmp_path / "out")
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("tutelage: student-0")
    assert "learning_rate" in err or "learning rate" in err
    assert not (tmp_path / "out" / "student.safetensors").exists()
    assert not (tmp_path / "out" / "report.json").exists()
    assert typed(monkeypatch, "run", path, "--out", tmp_path / "out", "--resume")[0] == 1


def _fails(*_, **__):
    raise ZeroDivisionError


def test_few_labels_are_the_same_ones_every_time(archive):
    from tutelage.recipe.validated import recipe_from

    recipe = recipe_from(changed(small(archive), "data/labels", 50))
    whole = plan.load_data(recipe)
    first, second = (plan.few_labels(whole, recipe).train.targets for _ in range(2))
    assert bool((first == second).all())
    assert int((first >= 0).sum()) == 50
