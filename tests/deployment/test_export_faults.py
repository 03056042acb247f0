"""Kills and full disks while a model is exported: the file that was there is whole, or the new one."""

import os
import signal
import subprocess
import sys

import onnxruntime
import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError
from tutelage.deployment import export, export_exits, export_onnx, read_policy
from tutelage.evaluation import ExitPolicy
from tutelage.models import Intake, Observed, build_model

_CHILD = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[2])
import test_export_faults as samples
from tutelage.deployment import export, exit_policy
inner = getattr({module}, {name!r})
def planted(*args, **options):
    found = inner(*args, **options) if {after} else None
    print("ready", flush=True)
    sys.stdin.read()
    return found
setattr({module}, {name!r}, planted)
samples.{make}(Path(sys.argv[1]), 1)
"""
X = Batch(torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


def plain(path, seed):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    return export_onnx(Observed(net), X, path, source=f"number {seed}")


def exits(path, seed):
    torch.manual_seed(seed)
    spec = {"vgg": {"widths": [4, 8], "per_stage": 1}}
    options = {"model": spec, "exits": {"layer1": {"convolutions": 1}}}
    made = build_model({"with_exits": options}, classes=3, shape=(1, 8, 8))
    policy = ExitPolicy((0.01 * (seed + 1),), (1.0, 2.0))
    return export_exits(Observed(made, intake=Intake([0.5], [0.2])), policy, X, path)


def killed(path, module, name, make, *, after):
    code = _CHILD.format(module=module, name=name, make=make, after=after)
    command = [sys.executable, "-c", code, str(path), os.path.dirname(__file__)]  # noqa: PTH120
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        os.kill(child.pid, signal.SIGKILL)
        child.wait(timeout=10)


def test_a_kill_while_a_model_is_exported_leaves_the_older_file(tmp_path):
    """The new file is written and checked, and has no name yet."""
    path = tmp_path / "s.onnx"
    plain(path, 0)
    before = path.read_bytes()
    killed(path, "export", "_compare", "plain", after=True)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2  # what the killed one was about


def test_a_file_of_exits_and_its_policy_belong_together_after_a_kill(tmp_path):
    """The kill comes when the new file has its name, and the policy beside it is the older one."""
    path = tmp_path / "s.onnx"
    exits(path, 0)
    killed(path, "exit_policy", "write_whole", "exits", after=False)
    assert read_policy(tmp_path / "s.exits.json").thresholds == (0.01,)
    assert read_policy(path).thresholds == (0.02,)
    assert len(onnxruntime.InferenceSession(str(path)).get_outputs()) == 2


def test_a_full_disk_is_called_by_its_name_and_leaves_the_older_file(tmp_path, monkeypatch):
    import onnx

    path = tmp_path / "s.onnx"
    plain(path, 0)
    before = path.read_bytes()

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full)
    with pytest.raises(ExportError, match=r"cannot be written to \(No space left on device\)"):
        plain(path, 1)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["s.onnx"]
    assert export.OPSET == 20
