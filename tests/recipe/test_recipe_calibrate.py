"""``calibrate: true``: the temperature is found on validation, told, kept and shipped."""

import json

import numpy as np
import pytest
import torch
from recipe_samples import quiet_run, small
from rich.console import Console

from tutelage.data import load
from tutelage.evaluation import ece, predict
from tutelage.evaluation.calibration.temperature import Temperature, fit_temperature
from tutelage.models import Observed, load_weights, read_metadata, temperature_of
from tutelage.models.tempered import Tempered
from tutelage.recipe import calibrating
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.calibrating import told
from tutelage.recipe.plan import Given
from tutelage.recipe.trying import planned
from tutelage.recipe.validated import recipe_from


@pytest.fixture(scope="module")
def both(archive, tmp_path_factory):
    """The same run without and with a temperature."""
    place = tmp_path_factory.mktemp("calibrate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        recipe = {**small(archive), "report": ["none"], "gates": {"ece": 0.5}}
        recipe["train"] = {**recipe["train"], "epochs": 8}
        plain = quiet_run(recipe, place / "plain")
        recipe |= {"calibrate": True, "export": True}
        return recipe, plain, quiet_run(recipe, place / "calibrated")


def test_accuracy_stays_and_the_figures_are_those_of_the_divided_logits(both):
    recipe, plain, calibrated = both
    before, after = (run.report["models"]["student"] for run in (plain, calibrated))
    assert after["accuracy"] == before["accuracy"]
    assert after["nll"] != before["nll"]
    test = load(recipe["data"]["source"]).test.open("a test")
    answers = predict(calibrated.student, test)
    assert after["ece"] == pytest.approx(ece(answers.logits, answers.targets), abs=1e-9)
    (gate,) = calibrated.report["gates"]
    assert gate["value"] == after["ece"]
    assert (
        calibrated.report["models"]["baseline"]["nll"] == plain.report["models"]["baseline"]["nll"]
    )


def test_the_temperature_is_that_of_validation_and_is_told(both):
    recipe, plain, calibrated = both
    validation = load(recipe["data"]["source"]).validation
    answers = predict(plain.student, validation)
    wanted = fit_temperature(answers.logits, answers.targets)
    assert wanted.limit == ""
    kept = temperature_of(calibrated.folder / "student.safetensors")
    assert kept == pytest.approx(wanted.value, rel=1e-5)
    assert isinstance(calibrated.student.read, Tempered)
    assert calibrated.student.read.temperature == kept
    note = f"temperature of {kept:.3g}"
    assert any(
        note in line and "100 validation examples" in line for line in calibrated.report["notes"]
    )
    assert not any("temperature of" in line for line in plain.report["notes"])
    assert repr(kept) in (calibrated.folder / "MODEL_CARD.md").read_text()
    assert "temperature" not in read_metadata(plain.folder / "student.safetensors")


def test_the_exported_file_divides(both):
    import onnxruntime

    recipe, plain, calibrated = both
    validation = load(recipe["data"]["source"]).validation
    session = onnxruntime.InferenceSession(
        str(calibrated.folder / "student.onnx"), providers=["CPUExecutionProvider"]
    )
    inputs = validation.batch(torch.arange(20)).inputs.numpy().astype(np.float32)
    kept = temperature_of(calibrated.folder / "student.safetensors")
    expected = predict(plain.student, validation).logits[:20] / kept
    found = torch.from_numpy(session.run(None, {"inputs": inputs})[0])
    assert torch.allclose(found, expected, atol=1e-4)


def test_the_weights_that_ship_are_the_plain_ones(both):
    _, plain, calibrated = both
    own = Observed(plain.student.model)
    before = {name: value.clone() for name, value in own.model.state_dict().items()}
    load_weights(own.model, calibrated.folder / "student.safetensors")
    assert all(torch.equal(before[name], value) for name, value in own.model.state_dict().items())


def test_a_finished_arm_that_is_taken_up_again_has_the_same_temperature(both):
    recipe, _, calibrated = both
    kept = temperature_of(calibrated.folder / "student.safetensors")
    again = quiet_run(recipe, calibrated.folder, resume=True)
    assert again.student.read.temperature == kept
    stage = calibrated.folder / "checkpoint" / "student-0" / "temperature" / "finished.json"
    facts = json.loads(stage.read_text())
    assert facts["value"] == kept
    # What was found before is taken, not found again; and the report is that of the same student.
    stage.write_text(json.dumps({**facts, "value": 7.0}))
    (calibrated.folder / "checkpoint" / "report" / "finished.json").unlink()
    changed = quiet_run(recipe, calibrated.folder, resume=True)
    assert changed.student.read.temperature == 7.0
    assert (
        changed.report["models"]["student"]["accuracy"]
        == (calibrated.report["models"]["student"]["accuracy"])
    )
    assert temperature_of(calibrated.folder / "student.safetensors") == 7.0


def test_what_validation_cannot_determine_is_said_and_does_not_ship():
    (line,) = told(Temperature(0.01, 0.01, 0.01, 100, "certain"))
    assert "uncalibrated" in line
    assert "nearly all of its answers are right" in line
    assert told(None) == []


def test_a_student_that_is_right_of_all_validation_examples_stays_as_it_is(both, monkeypatch):
    recipe, plain, _ = both
    certain = Temperature(0.01, 0.01, 0.01, 100, "certain")
    monkeypatch.setattr(calibrating, "fit_temperature", lambda *_: certain)
    made = planned(recipe_from(recipe), Given(load(recipe["data"]["source"])))
    trained = Trained("student-0", plain.student, 0.9, 10, 1.0)
    found = calibrating.calibrated(trained, made, Desk(Console(quiet=True)))
    assert found.model is plain.student
    assert (found.temperature, found.divisor) == (certain, None)
