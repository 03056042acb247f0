import errno
import json
import os
import subprocess
import sys

import pytest
import yaml
from recipe_samples import (
    changed,
    content,
    large,
    quiet_run,
    said_by_run,
    small,
    without,
    write,
)
from safetensors import SafetensorError
from safetensors.torch import load_file

from tutelage.core.errors import CheckpointError, RecipeError
from tutelage.evaluation.schema import validate_report
from tutelage.models import read_metadata
from tutelage.recipe import arms, measures, reporting, run, teaching
from tutelage.recipe.reading import read
from typed import typed


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory):
    """A whole run as a user starts it: recipe, folder and what it printed."""
    place = tmp_path_factory.mktemp("finished")
    recipe = write(place / "small.yaml", {**small(archive), "export": True})
    done = subprocess.run(
        [sys.executable, "-m", "tutelage", "run", "small.yaml", "--set", "about=a try"],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": str(place / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return recipe, place / "runs" / "small", done.stdout


def test_a_run_leaves_all_that_it_promises(finished):
    _, folder, said = finished
    assert sorted(path.name for path in folder.iterdir()) == [
        "MODEL_CARD.md",
        "answers.safetensors",
        "checkpoint",
        "log.jsonl",
        "reference.safetensors",
        "report.html",
        "report.json",
        "report.md",
        "resolved.yaml",
        "student.onnx",
        "student.safetensors",
    ]
    assert "student.safetensors" in said.splitlines()[-1]
    assert said.startswith("small  a try\n")


def test_its_report_has_the_schema_and_what_was_typed(finished):
    _, folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    validate_report(report)
    assert report["command"] == "tutelage run small.yaml --set 'about=a try'"
    assert report["recipe"]["about"] == "a try"
    assert set(report["curves"]) == {"teacher", "baseline-0", "student-0"}
    assert report["models"]["student"]["accuracy"] > 0.4
    assert report["data"]["test_opened"] == 1


def test_its_log_is_one_json_object_a_line_for_every_arm(finished):
    _, folder, _ = finished
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["arm"] for line in lines if "validation" in line] == [
        *["teacher"] * 3,
        *["baseline-0"] * 2,
        *["student-0"] * 2,
    ]
    assert {"ce", "kd"} == {
        term for line in lines if line["arm"] == "student-0" for term in line.get("terms", {})
    }


def test_its_resolved_recipe_has_all_defaults_and_runs_to_the_same_student(finished, tmp_path):
    _, folder, _ = finished
    resolved = yaml.safe_load((folder / "resolved.yaml").read_text())
    assert set(resolved) == {"identity", "recipe", "data", "environment"}
    assert resolved["recipe"]["train"]["optimizer"] == "sgd"
    assert set(resolved["data"]) == {"train", "validation", "test"}
    again = read(folder / "resolved.yaml")
    assert again == resolved["recipe"]
    quiet_run({**again, "export": False}, tmp_path / "again")
    first = load_file(folder / "student.safetensors")
    second = load_file(tmp_path / "again" / "student.safetensors")
    assert all(bool((first[name] == second[name]).all()) for name in first)


def test_the_student_is_shipped_with_its_classes(finished):
    _, folder, _ = finished
    assert read_metadata(folder / "student.safetensors")["classes"].split("\n") == list(
        map(str, range(10))
    )


def test_a_second_run_into_the_folder_is_refused_and_changes_nothing(finished, monkeypatch):
    recipe, folder, _ = finished
    before = content(folder)
    code, out, err = typed(monkeypatch, "run", recipe, "--out", folder)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert f"{folder} is there already" in err
    assert "--resume" in err
    assert content(folder) == before


def test_to_resume_a_finished_run_changes_nothing_and_tells_the_same(finished, monkeypatch):
    recipe, folder, _ = finished
    before = content(folder)
    words = ["run", recipe, "--set", "about=a try", "--out", folder, "--resume"]
    code, out, err = typed(monkeypatch, *words)
    assert (code, err) == (0, "")
    assert "its report stands as it is" in out
    assert content(folder) == before


@pytest.mark.parametrize("change", ["train.epochs=5", "seeds=[1]", "data.labels=100", "name=b"])
def test_another_recipe_cannot_go_on_with_the_folder(finished, monkeypatch, change):
    recipe, folder, _ = finished
    before = content(folder)
    words = ["--set", change, "--out", folder, "--resume"]
    code, _, err = typed(monkeypatch, "run", recipe, *words)
    assert code == 2
    assert "holds a run of another recipe or other data" in err
    assert content(folder) == before


def test_there_must_be_a_run_to_go_on_with(finished, monkeypatch, tmp_path):
    recipe, _, _ = finished
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "empty"):
        code, _, err = typed(monkeypatch, "run", recipe, "--out", tmp_path / name, "--resume")
        assert code == 2
        assert "there is no run to resume in" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "nothing").exists()
    assert not any((tmp_path / "empty").iterdir())


def test_a_broken_note_of_the_run_is_one_line(finished, monkeypatch, tmp_path):
    recipe, _, _ = finished
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "resolved.yaml").write_bytes(b"\xff\xfe[")
    code, _, err = typed(monkeypatch, "run", recipe, "--out", tmp_path / "broken", "--resume")
    assert code == 2
    assert "resolved.yaml cannot be read" in err


def test_a_gate_that_fails_is_exit_status_1_with_its_line(archive, monkeypatch, tmp_path):
    recipe = write(tmp_path / "r.yaml", {**small(archive), "gates": {"accuracy": 0.999, "ece": 1}})
    code, _, err = typed(monkeypatch, "run", recipe, "--out", tmp_path / "out")
    assert code == 1
    assert err.startswith("tutelage: gate failed: accuracy is 0.")
    assert "(at least 0.999): shown to be missed: its whole 95 % interval, " in err
    assert err.endswith("is beyond.\n")
    assert err.count("\n") == 1
    assert "ece" not in err
    assert (tmp_path / "out" / "report.json").exists()
    assert typed(monkeypatch, "run", recipe, "--out", tmp_path / "out", "--resume")[0] == 1


def test_every_section_of_a_recipe_is_used(archive, tmp_path):
    result = quiet_run(without(large(archive), "tune"), tmp_path / "out")
    validate_report(result.report)
    assert result.passed
    assert result.baseline is not None
    assert result.student.intake.size == (20, 20)
    assert not result.student.taps
    assert not result.teacher.taps


def test_two_seeds_give_two_students_and_an_interval(archive, tmp_path):
    result = quiet_run({**small(archive), "seeds": [4, 7], "baseline": False}, tmp_path / "out")
    assert [row["seed"] for row in result.report["comparison"]["seeds"]] == [4, 7]
    assert result.report["models"]["baseline"] is None
    assert result.baseline is None
    stages = {path.name for path in (tmp_path / "out" / "checkpoint").iterdir()}
    assert stages == {"teacher", "student-4", "student-7", "report"}


def test_words_in_brackets_are_shown_and_are_no_marks(archive, tmp_path):
    recipe = {**small(archive), "about": "[/bold] all [red]brackets"}
    assert "small  [/bold] all [red]brackets" in said_by_run(recipe, tmp_path / "out")


def test_the_programs_own_random_numbers_are_left_alone(archive, tmp_path):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    quiet_run(small(archive), tmp_path / "out")
    assert torch.equal(torch.rand(4), expected)


# ---- interruptions and errors at every stage: the folder can be gone on from


def stopped(*_, **__):
    raise KeyboardInterrupt


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def full_for_weights(*_, **__):
    raise SafetensorError("Error while serializing: I/O error: No space left on device")


def test_ctrl_c_while_data_is_loaded_writes_nothing(archive, monkeypatch, tmp_path):
    recipe = write(tmp_path / "r.yaml", small(archive))
    monkeypatch.setattr(run, "load_data", stopped)
    code, _, err = typed(monkeypatch, "run", recipe, "--out", tmp_path / "out")
    assert (code, err) == (130, "tutelage: stopped. Nothing was written.\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("room", "name"),
    [
        (teaching, "measure"),
        (measures, "predict"),
        (reporting, "predict"),
        (reporting, "save_weights"),
        (reporting, "torch_latency"),
        (reporting, "model_card"),
    ],
)
def test_ctrl_c_anywhere_else_tells_how_to_go_on(archive, monkeypatch, tmp_path, room, name):
    recipe = small(archive)
    recipe["teacher"] = {"model": recipe["teacher"]["model"], "weights": str(tmp_path / "t.pth")}
    _save_teacher(recipe)
    path = write(tmp_path / "a recipe.yaml", recipe)
    words = ["run", path, "--set", "about=two words", "--out", tmp_path / "out"]
    with monkeypatch.context() as context:
        context.setattr(room, name, stopped)
        code, _, err = typed(context, *words)
    assert code == 130
    assert err.count("\n") == 1
    again = (
        f"Go on with: tutelage run '{path}' --set 'about=two words' --out {tmp_path}/out --resume"
    )
    assert err.endswith(f"{again}\n")
    code, _, err = typed(monkeypatch, *words, "--resume")
    assert (code, err) == (0, "")
    assert (tmp_path / "out" / "MODEL_CARD.md").exists()


@pytest.mark.parametrize(
    ("room", "name", "broken"),
    [
        (arms, "save_weights", full_for_weights),
        (arms.LogFile, "_write", full),
        (reporting, "save_weights", full_for_weights),
        (reporting, "write_whole", full),
        (run.RunFolder, "finish", full),
    ],
)
def test_a_full_disk_is_one_line_and_can_be_gone_on_from(
    archive, monkeypatch, tmp_path, room, name, broken
):
    recipe = write(tmp_path / "r.yaml", small(archive))
    with monkeypatch.context() as context:
        context.setattr(room, name, broken)
        code, _, err = typed(context, "run", recipe, "--out", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1
    assert "No space left on device" in err
    assert "--resume" in err
    code, _, err = typed(monkeypatch, "run", recipe, "--out", tmp_path / "out", "--resume")
    assert (code, err) == (0, "")


def test_a_folder_that_cannot_be_made_is_one_line(archive, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match=r"--out: '.*/file/out' cannot be made \(Not a dir"):
        quiet_run(small(archive), tmp_path / "file" / "out")
    with pytest.raises(RecipeError, match=r"--out: .*cannot be looked into \(File name too long"):
        quiet_run(small(archive), tmp_path / ("x" * 300))
    with pytest.raises(RecipeError, match="is there already"):
        quiet_run(small(archive), tmp_path / "file")


def test_a_damaged_end_of_a_stage_is_told(archive, tmp_path):
    quiet_run(small(archive), tmp_path / "out")
    end = tmp_path / "out" / "checkpoint" / "student-0" / "finished.json"
    end.write_text("{")
    with pytest.raises(CheckpointError, match=r"finished\.json cannot be read"):
        quiet_run(small(archive), tmp_path / "out", resume=True)


def test_an_empty_folder_that_is_there_may_be_used(archive, tmp_path):
    (tmp_path / "out").mkdir()
    quiet_run(small(archive), tmp_path / "out")
    assert (tmp_path / "out" / "report.json").exists()


def _save_teacher(recipe):
    import torch

    from tutelage.models import build_model

    shape = (1, 28, 28)
    model = build_model(recipe["teacher"]["model"], classes=10, shape=shape)
    torch.save(model.state_dict(), recipe["teacher"]["weights"])


def test_changed_is_a_copy(archive):
    recipe = small(archive)
    assert changed(recipe, "train/epochs", 9) != recipe == small(archive)
