"""What a fresh process does that turns a ``.pt2`` program into a ``.pte`` file.

ExecuTorch's compiler and OpenVINO in one process end it (ExecuTorch 1.5, OpenVINO 2026.4): the
first answer after both is an abort in a mutex. Its runtime and OpenVINO go well together.
"""

import sys
from pathlib import Path

import torch


def lower(program: Path, words: str, made: Path) -> None:
    """Write the program for XNNPACK, with a method ``tutelage_about`` that returns the words."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        torch.export.load(program),
        partitioner=[XnnpackPartitioner()],
        constant_methods={"tutelage_about": torch.tensor(list(words.encode()), dtype=torch.uint8)},
    )
    made.write_bytes(bytes(lowered.to_executorch().buffer))


if __name__ == "__main__":
    lower(Path(sys.argv[1]), sys.stdin.read(), Path(sys.argv[2]))
