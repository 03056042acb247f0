"""Two processes that learn together, as ``torchrun`` starts them."""

import os
import subprocess
import sys


def two_processes(*words, timeout=180):
    """Run ``words`` behind torchrun on a free port; what they printed and their exit status."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return subprocess.run(
        [*launcher, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
