"""Two processes learn as one: DDP and FSDP against one process, through ``torchrun`` and gloo."""

from pathlib import Path

import engine_shared
import pytest
import torch
from engine_nets import same
from engine_shared import trajectory

from tutelage.engine import Keep, Machine, adamw
from two_processes import two_processes

SCRIPT = Path(__file__).with_name("engine_shared.py")
ONE = Machine("cpu", accumulate=3)


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def shared(request, tmp_path_factory):
    """What both processes found, and where they kept it; all runs of a kind in one start."""
    folder = tmp_path_factory.mktemp(request.param)
    done = two_processes(SCRIPT, request.param, folder)
    assert done.returncode == 0, done.stderr
    found = [torch.load(folder / f"results{rank}.pt", weights_only=False) for rank in (0, 1)]
    return found, folder


@pytest.fixture(scope="module")
def alone():
    return trajectory(ONE)


def close(one, two, tolerance=1e-5):
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=tolerance, msg=name)


def test_the_trajectory_is_that_of_one_process(shared, alone):
    for found in shared[0]:
        close(found["trajectory"]["weights"], alone["weights"])
        close(found["trajectory"]["adapter"], alone["adapter"])
        assert found["trajectory"]["best"] == alone["best"]
        assert found["trajectory"]["validations"] == [
            (step, pytest.approx(value, abs=1e-5)) for step, value in alone["validations"]
        ]


def test_the_terms_told_are_those_of_the_whole_batch(shared, alone):
    first, second = (found["trajectory"]["terms"] for found in shared[0])
    assert len(first) == len(alone["terms"]) == 8
    for ours, whole in zip(first, alone["terms"], strict=True):
        assert ours == pytest.approx(whole, abs=1e-5)
    assert second == []  # hooks speak in the first process only


def test_a_stop_changes_nothing(shared):
    for found in shared[0]:
        same(*found["resumed"])


def test_one_process_can_go_on_from_what_two_kept(shared, tmp_path):
    (found, _), folder = shared
    keep = Keep(folder / "whole", every=100)
    longer = trajectory(ONE, adamw(learning_rate=0.01), keep, steps=8)
    whole = found["resumed"][0]
    assert whole["/step"] == 8
    assert longer["validations"] == [
        (step, value)
        for step, value in zip(
            [whole[f"/extras/validation/history/{i}/0"] for i in range(3)],
            [whole[f"/extras/validation/history/{i}/1"] for i in range(3)],
            strict=True,
        )
    ]
    best = {k.split("/")[-1]: v for k, v in whole.items() if "/validation/best/" in k}
    close({k: v for k, v in longer["weights"].items() if k in best}, best, 0)


def test_a_batchwise_objective_says_what_each_process_sees(shared):
    first, second = (found["batchwise"] for found in shared[0])
    assert second == []
    assert len(first) == 1
    # 16 examples, 8 in each process, in 3 parts of which the first has 2
    assert "spread compares" in first[0]
    assert "of the 16 at a time (processes: 2, accumulate: 3)" in first[0]


def test_batchnorm_statistics_are_the_same_everywhere(shared):
    first, second = (found["normalised"] for found in shared[0])
    same(first, second)
    one = engine_shared.normalised(Machine("cpu"))
    torch.testing.assert_close(first["0.running_mean"], one["0.running_mean"], rtol=0, atol=1e-6)
    torch.testing.assert_close(first["0.running_var"], one["0.running_var"], rtol=0.1, atol=0.05)
    assert not torch.allclose(first["0.running_var"], one["0.running_var"], rtol=0, atol=1e-6)


def test_all_processes_decide_what_the_first_measured(shared):
    # The first measures 0.0 for ever and loses patience; the second always finds a better one.
    assert [found["disagreeing"] for found in shared[0]] == [(3, True, 1)] * 2


def test_a_nan_in_one_share_stops_all_processes_with_the_same_words(shared):
    said = [found["diverging"] for found in shared[0]]
    assert said[0].startswith("step 0, student: the term 'ce' is nan")
    assert said[0] == said[1]


def test_a_batch_too_small_to_share_is_refused(shared):
    for found in shared[0]:
        assert "a batch of 1 examples cannot be shared by 2 processes" in found["too_small"]


def test_a_parameter_without_a_gradient_is_named_before_ddp_waits_for_it(shared):
    for found in shared[0]:
        said, unchanged = found["unreached"]
        if shared[1].name.startswith("fsdp"):
            assert said is None
            continue
        assert said.startswith("'model.head.weight' gets no gradient from this objective")
        assert said.endswith("or use parallel: fsdp.")
        assert unchanged


def test_compiled_and_plain_networks_learn_the_same(shared):
    for found in shared[0]:
        close(*found["compiled"], 1e-6)


def test_fp16_gradients_are_scaled_over_processes(shared):
    one = engine_shared.half(Machine("cpu"))
    for found in shared[0]:
        close(found["half"], one, 5e-3)
    assert not torch.equal(one["model.head.weight"], engine_shared.Deep(6, 0).head.weight)


def test_learners_of_one_model_share_it(shared):
    one = engine_shared.shared_model(Machine("cpu"))
    for found in shared[0]:
        close(found["shared_model"], one)
