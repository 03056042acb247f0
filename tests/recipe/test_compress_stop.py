"""A run that is killed while it heals goes on to the same end, and teaches nothing twice."""

import json

from compress_samples import NARROW, squeezed
from recipe_samples import quiet_run, write
from safetensors.torch import load_file
from test_recipe_stop import same, start, wait_for

from typed import typed

WEIGHTS = "checkpoint/compress/narrow/model.safetensors"


def test_a_kill_in_the_middle_of_healing_ends_bit_for_bit_alike(archive, tmp_path, monkeypatch):
    heal = {"epochs": 60, "learning_rate": 0.05}  # 780 steps, a checkpoint every 200
    ways = {"narrow": [{"prune": {**NARROW["prune"], "heal": heal}}]}
    recipe, out = squeezed(archive, ways=ways), tmp_path / "out"
    whole = quiet_run(recipe, tmp_path / "whole").folder
    path = write(tmp_path / "r.yaml", recipe)
    with start(path, out) as process:
        wait_for(process, out / "log.jsonl", "compress/narrow")
        process.kill()
        process.communicate()
    assert not (out / WEIGHTS).exists()
    student = (out / "checkpoint" / "student-0" / "model.safetensors").stat().st_mtime_ns
    code, _, err = typed(monkeypatch, "run", path, "--out", out, "--resume")
    assert (code, err) == (0, "")
    same(load_file(out / WEIGHTS), load_file(whole / WEIGHTS))
    again = (out / "checkpoint" / "student-0" / "model.safetensors").stat().st_mtime_ns
    assert again == student
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    taught = [line["step"] for line in lines if line["arm"] == "student-0" and "terms" in line]
    assert taught == sorted(set(taught))
    assert (out / "shipped.onnx").is_file()
