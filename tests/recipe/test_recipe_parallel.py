"""One recipe, two processes: as torchrun starts them."""

import json

import pytest
import torch
from recipe_samples import content, quiet_run, small, write
from safetensors.torch import load_file

from two_processes import two_processes

pytestmark = pytest.mark.slow


def start(recipe, out, *more):
    words = ["-m", "tutelage", "run", recipe, "--out", out, *more]
    return two_processes(*words, timeout=200)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_make_the_student_of_one(archive, tmp_path, parallel):
    recipe, out = write(tmp_path / "r.yaml", small(archive)), tmp_path / "out"
    words = ["--set", f"train.parallel={parallel}"]
    done = start(recipe, out, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher mlp(hidden=[32]): training for 3 epochs") == 1
    assert done.stdout.count("measuring on the test split") == 1
    assert done.stdout.count("student.safetensors") == 1
    lines = (out / "log.jsonl").read_text().splitlines()
    arms = [json.loads(line)["arm"] for line in lines]
    assert arms == ["teacher"] * 6 + ["baseline-0"] * 4 + ["student-0"] * 4
    quiet_run(small(archive), tmp_path / "alone")
    mine, alone = (
        load_file(folder / "student.safetensors") for folder in (out, tmp_path / "alone")
    )
    for name, value in alone.items():
        torch.testing.assert_close(mine[name], value, atol=1e-5, rtol=1e-4)
    before = content(out)
    again = start(recipe, out, *words, "--resume")
    assert again.returncode == 0, again.stderr
    assert "its report stands as it is" in again.stdout
    assert content(out) == before


def test_what_the_first_process_refuses_is_told_once(archive, tmp_path):
    recipe, out = write(tmp_path / "r.yaml", small(archive)), tmp_path / "out"
    out.mkdir()
    (out / "something").write_text("of somebody")
    done = start(recipe, out, "--set", "train.parallel=ddp")
    assert done.returncode != 0
    assert done.stderr.count("tutelage: ") == 1
    assert "is there already" in done.stderr
    assert [path.name for path in out.iterdir()] == ["something"]


def test_processes_that_are_not_asked_for_are_refused(archive, tmp_path):
    recipe = write(tmp_path / "r.yaml", small(archive))
    done = start(recipe, tmp_path / "out")
    assert done.returncode != 0
    assert "this is one of 2 processes, and parallel is none" in done.stderr
    assert not (tmp_path / "out").exists()
