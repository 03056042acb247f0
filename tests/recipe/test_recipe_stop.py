"""Real processes, interrupted and killed: the run goes on and ends as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from recipe_samples import quiet_run, small, write
from safetensors.torch import load_file

from typed import typed


def long(archive):
    """Enough steps to be stopped among: a checkpoint every 200 of 1,300."""
    recipe = {**small(archive), "baseline": False}
    return {**recipe, "train": {**recipe["train"], "epochs": 100}}


@pytest.fixture(scope="module")
def whole(archive, tmp_path_factory):
    """The student of a run that nobody stopped."""
    place = tmp_path_factory.mktemp("whole")
    before = os.environ.get("TUTELAGE_CACHE")
    os.environ["TUTELAGE_CACHE"] = str(place / "cache")
    try:
        quiet_run(long(archive), place / "out")
    finally:
        os.environ.pop("TUTELAGE_CACHE") if before is None else os.environ.update(
            TUTELAGE_CACHE=before
        )
    return load_file(place / "out" / "student.safetensors")


def start(recipe, out, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "tutelage", "run", recipe, "--out", out, *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process, log, word):
    end = time.monotonic() + 90
    while not (log.exists() and word in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{word!r} did not come within 90 s"
        time.sleep(0.005)


def same(student, whole):
    assert set(student) == set(whole)
    assert all(torch.equal(student[name], whole[name]) for name in whole)


def test_ctrl_c_in_the_middle_of_the_student_tells_how_to_go_on_bit_for_bit(
    archive, whole, tmp_path, monkeypatch
):
    recipe, out = write(tmp_path / "r.yaml", long(archive)), tmp_path / "out"
    with start(recipe, out) as process:
        wait_for(process, out / "log.jsonl", "student-0")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.startswith("tutelage: stopped after step ")
    assert said.endswith(f"of 1300. Go on with: tutelage run {recipe} --out {out} --resume\n")
    assert said.count("\n") == 1
    assert not (out / "student.safetensors").exists()
    code, _, err = typed(monkeypatch, "run", recipe, "--out", out, "--resume")
    assert (code, err) == (0, "")
    same(load_file(out / "student.safetensors"), whole)


def killed(recipe, out, kills, chance, monkeypatch):
    more = ()
    for _ in range(kills):
        with start(recipe, out, *more) as process:
            wait_for(process, out / "resolved.yaml", "environment")
            time.sleep(chance.uniform(0, 1.5))
            process.kill()
            process.communicate()
        more = ("--resume",)
    code, _, err = typed(monkeypatch, "run", recipe, "--out", out, "--resume")
    assert (code, err) == (0, "")


def test_a_run_that_is_killed_ends_bit_for_bit_like_an_unbroken_one(
    archive, whole, tmp_path, monkeypatch
):
    recipe, out = write(tmp_path / "r.yaml", long(archive)), tmp_path / "out"
    killed(recipe, out, 1, random.Random(5), monkeypatch)
    same(load_file(out / "student.safetensors"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_five_times_ends_bit_for_bit_like_an_unbroken_one(
    archive, whole, tmp_path, monkeypatch, seed
):
    recipe, out = write(tmp_path / "r.yaml", long(archive)), tmp_path / "out"
    killed(recipe, out, 5, random.Random(seed), monkeypatch)
    same(load_file(out / "student.safetensors"), whole)
    leftovers = [path for path in out.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not leftovers


@pytest.mark.slow
def test_a_real_full_disk_is_one_line_and_can_be_gone_on_from(
    archive, whole, tmp_path, monkeypatch
):
    resource = pytest.importorskip("resource")
    recipe, out = write(tmp_path / "r.yaml", long(archive)), tmp_path / "out"

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = subprocess.run(
        [sys.executable, "-m", "tutelage", "run", recipe, "--out", out],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=small_files,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    code, _, err = typed(monkeypatch, "run", recipe, "--out", out, "--resume")
    assert (code, err) == (0, "")
    same(load_file(out / "student.safetensors"), whole)
