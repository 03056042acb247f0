"""Every example runs as it stands, as a program of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_says_something(example, tmp_path):
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "TUTELAGE_CACHE": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        cwd=tmp_path,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    left = [path.name for path in tmp_path.iterdir()]
    assert left in ([], ["teachers"])


def test_there_are_examples():
    assert len(EXAMPLES) >= 5
