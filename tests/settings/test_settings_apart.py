"""Every way of teaching through two processes of DDP is that of one, or is refused in a line."""

from pathlib import Path

import pytest
import torch
from settings_apart import NORMALISED, WAYS, learnt

from tutelage.engine import Machine
from two_processes import two_processes

SCRIPT = Path(__file__).with_name("settings_apart.py")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    done = two_processes(SCRIPT, folder)
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
