"""Own text in two processes: each writes it alike, and learns from its share."""

from pathlib import Path

import pytest
import torch
from settings_own_text import WAYS, learnt

from tutelage.engine import Machine
from two_processes import two_processes

SCRIPT = Path(__file__).with_name("settings_own_text.py")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own_text")
    done = two_processes(SCRIPT, folder)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "shared.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", WAYS)
def test_two_processes_learn_what_one_learns(name, parallel, shared):
    found, alone = shared[f"{parallel}: {name}"], learnt(name, Machine("cpu"))
    assert not isinstance(alone, str), alone
    assert not isinstance(found, str), found
    for key, value in alone.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=2e-5, msg=key)
