"""Gradients by term in two processes: the same as in one."""

from pathlib import Path

import engine_apart
import pytest
import torch

from tutelage.engine import Machine
from two_processes import two_processes

SCRIPT = Path(__file__).with_name("engine_apart.py")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apart")
    done = two_processes(SCRIPT, folder)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"results{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("way", engine_apart.WAYS)
def test_the_trajectory_is_that_of_one_process(shared, way):
    alone = engine_apart.learnt(way, Machine("cpu", accumulate=3))
    for found in shared:
        assert found[way].keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[way][name], value, rtol=0, atol=1e-5, msg=name)


def test_both_processes_have_the_same_bits_and_a_hook_changes_none(shared):
    one, two = shared
    for way in (*engine_apart.WAYS, "watched"):
        assert all(torch.equal(value, two[way][name]) for name, value in one[way].items())
    assert all(torch.equal(value, one["plain"][name]) for name, value in one["watched"].items())


def test_shards_are_refused_in_one_line_by_both(shared):
    for found in shared:
        for said, what in zip(
            found["refused"],
            ("resolve: pcgrad", "this optimizer", "a log of gradients"),
            strict=True,
        ):
            assert said.startswith(f"{what} needs the gradient of each term apart, and fsdp")
            assert "\n" not in said
