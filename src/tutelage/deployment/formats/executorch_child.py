"""What a fresh process does: turn a ``.pt2`` program into a ``.pte`` file, or ask such a file.

Both run compiled code of ExecuTorch, which ends a process where it could raise an error.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from json import dumps
from pathlib import Path

import torch


def lower(program: Path, made: Path, words: str) -> None:
    """Write the program for XNNPACK, with a method ``tutelage_about`` that returns the words."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    lowered = to_edge_transform_and_lower(
        torch.export.load(program),
        partitioner=[XnnpackPartitioner()],
        constant_methods={"tutelage_about": torch.tensor(list(words.encode()), dtype=torch.uint8)},
    )
    made.write_bytes(bytes(lowered.to_executorch().buffer))


def check(file: Path, examples: Path, tolerance: str) -> None:
    """Compare the file with the model's logits; one line of JSON: the parity, or the error."""
    from safetensors.torch import load_file

    from tutelage.core.errors import TutelageError
    from tutelage.deployment.formats.executorch import WHAT
    from tutelage.deployment.formats.executorch_file import open_executorch
    from tutelage.deployment.formats.kept import same_answers

    given = load_file(examples)
    expected = given.pop("expected")
    inputs = {name.removeprefix("input."): each for name, each in given.items()}
    asked = inputs[""] if list(inputs) == [""] else inputs
    try:
        model = open_executorch(file)
        found = asdict(same_answers(model, asked, expected, float(tolerance), WHAT))
    except TutelageError as error:
        found = {"error": str(error)}
    sys.stdout.write(f"\n{dumps(found)}\n")


_DO: Mapping[str, Callable[[Path, Path, str], None]] = {"lower": lower, "check": check}

if __name__ == "__main__":
    _DO[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), sys.stdin.read())
