"""Every way of teaching through two processes of DDP is that of one, or is refused in a line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from settings_apart import NORMALISED, WAYS, learnt

from tutelage.engine import Machine

SCRIPT = Path(__file__).with_name("settings_apart.py")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    done = subprocess.run(
        [*command, str(SCRIPT), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "shared.pt", weights_only=True)


@pytest.mark.parametrize("name", WAYS)
def test_two_processes_learn_what_one_learns(name, shared):
    found, alone = shared[name], learnt(name, Machine("cpu"))
    assert not isinstance(alone, str), alone
    assert not isinstance(found, str), found
    if name in NORMALISED:
        assert all(bool(value.isfinite().all()) for value in found.values())
        assert any(not torch.equal(found[key], value) for key, value in alone.items())
        return
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=2e-5, msg=key)
