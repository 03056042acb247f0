"""A package of a real run: what is in it is true, and it is there whole or not at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import onnxruntime
import pytest
import torch
import yaml

from package_samples import SECRET, contents, finished_run
from tutelage.core.errors import PackageError, RecipeError
from tutelage.data.audit import audit
from tutelage.data.audit.card import data_card
from tutelage.deployment import package as packing
from tutelage.deployment.manifest import MODELS, PAPERS
from tutelage.deployment.reference import REFERENCE
from tutelage.deployment.rmf import nist_ai_rmf
from tutelage.deployment.verify import verify
from tutelage.recipe.packaging import package_run


def data(name):
    return json.loads(contents()[name])


@pytest.fixture
def copied(tmp_path):
    return shutil.copytree(finished_run(), tmp_path / "run")


def test_all_that_is_promised_is_in_it_and_nothing_else():
    names = set(contents(signed=True))
    assert names == {*MODELS[:2], REFERENCE, *PAPERS, "manifest.json", "signature.json"}
    run = yaml.safe_load((finished_run() / "resolved.yaml").read_text())
    manifest = data("manifest.json")
    assert manifest["run"] == {
        "name": "small",
        "identity": run["identity"],
        "data": run["data"],
        "student": {
            "file": "student.onnx",
            "numbers": "float32",
            "from": "student.onnx",
            "compressed": False,
        },
    }
    assert manifest["tutelage"] == version("tutelage")


def test_what_preprocessing_says_is_enough_to_get_the_runs_own_answers(tmp_path):
    """Raw bytes of the test images, treated as the package says, give the kept logits."""
    stated, labels = data("preprocessing.json"), data("labels.json")["labels"]
    (given,) = stated["inputs"].values()
    assert "divide stored bytes (uint8) by 255" in stated["what_to_do"]
    from safetensors.torch import load_file

    kept = load_file(finished_run() / "answers.safetensors")
    logits = next(value for name, value in kept.items() if "student" in name)
    model = tmp_path / "student.onnx"
    model.write_bytes(contents()["student.onnx"])
    session = onnxruntime.InferenceSession(str(model))

    from tutelage.data.arrays import npz

    recipe = json.loads((finished_run() / "report.json").read_text())["recipe"]
    test = npz(**recipe["data"]["source"]["npz"]).test.open("a test").batch(torch.arange(100))
    stored = (test.inputs * 255).round().byte().numpy()
    assert list(stored.shape[1:]) == given["shape"]
    raw = stored.astype(given["dtype"]) / np.float32(255)
    (found,) = session.run(None, {"inputs": raw})
    assert found.shape == (100, len(labels))
    np.testing.assert_allclose(found, logits.float().numpy(), atol=2e-2)
    assert stated["temperature"]["value"] > 0


def test_the_bill_of_materials_names_what_runs_it_and_what_made_it():
    bill = data("sbom.json")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    scopes = {each["name"]: each["scope"] for each in bill["components"]}
    assert (scopes["onnxruntime"], scopes["numpy"]) == ("required", "required")
    assert (scopes["torch"], scopes["tutelage"]) == ("excluded", "excluded")
    versions = {each["name"]: each["version"] for each in bill["components"]}
    assert versions["torch"] == version("torch")
    licences = {each["name"]: each.get("licenses") for each in bill["components"]}
    assert licences["tutelage"] == [{"expression": "Apache-2.0"}]
    assert licences["onnxruntime"] == [{"license": {"name": "MIT License"}}]
    refs = [each["bom-ref"] for each in bill["components"]]
    assert len(refs) == len(set(refs))
    model = bill["metadata"]["component"]["bom-ref"]
    for each in bill["dependencies"]:
        assert {each["ref"], *each["dependsOn"]} <= {*refs, model}
    files = data("manifest.json")["files"]
    for each in bill["metadata"]["component"]["components"]:
        assert each["hashes"][0]["content"] == files[each["name"]]["sha256"]


def test_the_framework_is_answered_by_figures_and_gaps_are_told():
    text = contents(signed=True)["nist_ai_rmf.md"].decode()
    report = data("report.json")
    accuracy = report["models"]["student"]["accuracy"]
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert f"{accuracy:.1%} right" in lines["MEASURE 2.3"]
    assert "1 of 1 gates passed" in lines["GOVERN 1.4"]
    assert "**Not answered here.** No attack was tried" in lines["MEASURE 2.7"]
    assert "not asked: " in lines["MEASURE 1.1"]
    assert "; signed." in lines["GOVERN 1.6"]
    gaps = sum("**Not answered here.**" in line for line in lines.values())
    rows = sum(line[:4] in ("GOVE", "MAP ", "MEAS", "MANA") for line in lines)
    assert f"Of {rows} questions listed here" in text
    assert f" {rows - gaps} are answered by figures or files" in text


def test_the_framework_quotes_what_a_part_found():
    report = data("report.json")
    finding = {"status": "warning", "text": "It | breaks <easily>."}
    report["parts"] = {"attacks": {"left_out": None, "findings": [finding]}}
    text = nist_ai_rmf(report, signed=False)
    assert "It \\| breaks &lt;easily>. (report.json, parts.attacks)" in text
    assert "**unsigned**" in text
    report["parts"]["attacks"]["left_out"] = "there is no teacher"
    text = nist_ai_rmf(report, signed=False)
    assert "No attack was tried" in text
    assert "left out: attacks (there is no teacher)" in text


def test_an_audits_card_is_taken_if_it_is_of_the_same_data(copied, tmp_path):
    from tutelage.data.arrays import npz

    source = json.loads((copied / "report.json").read_text())["recipe"]["data"]["source"]
    card = data_card(audit(npz(**source["npz"])).as_dict())
    (copied / "DATA_CARD.md").write_text(card)
    package_run(copied, tmp_path / "a")
    assert (tmp_path / "a" / "DATA_CARD.md").read_text() == card
    other = card.replace(data("manifest.json")["run"]["data"]["test"][:16], "0" * 16)
    (copied / "DATA_CARD.md").write_text(other)
    package_run(copied, tmp_path / "b")
    told = (tmp_path / "b" / "DATA_CARD.md").read_text()
    assert "No audit of them came with the run" in told
    assert yaml.safe_load(told.split("---\n")[1])["dataset_info"]["splits"][0]["name"] == "train"


def test_the_card_goes_in_as_it_was_edited(copied, tmp_path):
    card = (copied / "MODEL_CARD.md").read_text() + "\nAsk Ada.\n"
    (copied / "MODEL_CARD.md").write_text(card)
    package_run(copied, tmp_path / "p")
    assert (tmp_path / "p" / "MODEL_CARD.md").read_text() == card


def test_the_same_run_makes_the_same_archive(tmp_path):
    for name in ("a.zip", "b.zip"):
        package_run(finished_run(), tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("name", ["p.zip", "p"])
def test_what_is_there_is_not_replaced_unasked_and_only_packages_ever_are(name, tmp_path):
    out = tmp_path / name
    package_run(finished_run(), out)
    with pytest.raises(RecipeError, match="is there already"):
        package_run(finished_run(), out)
    (tmp_path / "key").write_bytes(SECRET)
    package_run(finished_run(), out, force=True, key=tmp_path / "key")
    assert verify(out, tmp_path / "key").signature.startswith("signed")
    precious = tmp_path / f"x{name}"
    precious.mkdir()
    (precious / "thesis.md").write_text("years")
    with pytest.raises(RecipeError, match="--force replaces nothing else"):
        package_run(finished_run(), precious, force=True)
    assert (precious / "thesis.md").read_text() == "years"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"x{name}", "key"])


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda run: (run / "report.json").unlink(), RecipeError, "there is no report.json"),
        (lambda run: (run / "student.onnx").unlink(), RecipeError, "export: false"),
        (lambda run: (run / "report.json").write_text("{"), PackageError, "is no whole report"),
        (lambda run: (run / "report.json").write_text("{}"), PackageError, "is no whole report"),
        (lambda run: os.truncate(run / "student.safetensors", 900), Exception, "safetensors"),
        (lambda run: os.truncate(run / "student.onnx", 900), Exception, "cannot be loaded"),
        (lambda run: os.truncate(run / "MODEL_CARD.md", 0), PackageError, "is empty"),
    ],
)
def test_a_run_that_is_not_whole_makes_no_package(spoil, error, says, copied, tmp_path):
    spoil(copied)
    with pytest.raises(error, match=says):
        package_run(copied, tmp_path / "p.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "_zipped", full)
    with pytest.raises(RecipeError, match="cannot be written \\(No space left"):
        package_run(finished_run(), tmp_path / "p.zip")
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import sys
from pathlib import Path
from tutelage.deployment import package
from tutelage.recipe.packaging import package_run
before = package.sync
def wait(made):
    before(made)
    print("ready", flush=True)
    sys.stdin.read()
package.sync = wait
package_run(Path(sys.argv[1]), Path(sys.argv[2]), force=True)
"""


@pytest.mark.parametrize("older", [False, True])
def test_a_kill_in_the_middle_leaves_no_target_or_the_older_one(older, tmp_path):
    out = tmp_path / "p.zip"
    if older:
        package_run(finished_run(), out)
    before = out.read_bytes() if older else None
    command = [sys.executable, "-c", _KILLED, str(finished_run()), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
    assert (out.read_bytes() if out.exists() else None) == before
    started = time.monotonic()
    package_run(finished_run(), out, force=older)
    assert verify(out).name == "small"
    assert time.monotonic() - started < 30
