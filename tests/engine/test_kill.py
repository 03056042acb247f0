"""Real processes, really killed, at moments that a seed chooses."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from engine_nets import kept, log_lines, same
from engine_run import main

SCRIPT = Path(__file__).with_name("engine_run.py")


def start(kind, folder, steps, delay):
    folder.mkdir(exist_ok=True)
    (folder / "started").unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), kind, str(folder), str(steps), str(delay)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what it puts in the background with Ctrl-C ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not (folder / "started").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "the run did not start within a minute"
        time.sleep(0.005)
    return process


def killed_and_resumed(folder, kind, *, steps, delay, kills, span):
    chance, reached = random.Random(11), []
    for _ in range(kills):
        with start(kind, folder / "killed", steps, delay) as process:
            time.sleep(chance.uniform(0.01, span))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert process.returncode == -signal.SIGKILL
        reached.append(kept(folder / "killed")["/step"])
    assert reached == sorted(reached)
    assert 0 < reached[-1] < steps  # it did go on between the kills, and did not end by itself
    assert main(kind, folder / "killed", steps, 0) == 0
    assert main(kind, folder / "whole", steps, 0) == 0
    same(kept(folder / "killed"), kept(folder / "whole"))
    assert log_lines(folder / "killed") == log_lines(folder / "whole")


def test_a_run_killed_three_times_ends_bit_for_bit_like_an_unbroken_one(tmp_path):
    killed_and_resumed(tmp_path, "small", steps=80, delay=0.02, kills=3, span=0.4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "cnn"])
def test_a_run_killed_twelve_times_ends_bit_for_bit_like_an_unbroken_one(tmp_path, kind):
    killed_and_resumed(tmp_path, kind, steps=600, delay=0.005, kills=12, span=0.4)


def test_ctrl_c_stops_between_two_steps_and_the_run_can_go_on(tmp_path):
    with start("small", tmp_path / "cut", 60, 0.05) as process:
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    step = kept(tmp_path / "cut")["/step"]
    assert 0 < step < 60
    assert said.strip() == f"stopped after step {step} of 60."
    assert main("small", tmp_path / "cut", 60, 0) == 0
    assert main("small", tmp_path / "whole", 60, 0) == 0
    same(kept(tmp_path / "cut"), kept(tmp_path / "whole"))


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    with start("small", tmp_path / "cut", 5, 30) as process:
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert process.poll() is None  # the first only asks, and the step takes half a minute
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert "KeyboardInterrupt" in said
    assert kept(tmp_path / "cut")["/step"] == 0
