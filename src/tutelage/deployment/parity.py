"""How near the logits of an exported file come to the model's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ExportError


@dataclass(frozen=True)
class Parity:
    """How well a file in its own runtime agreed with the model in torch on real examples.

    Attributes:
        max_difference: Largest difference of any logit, as a share of the largest logit.
        equal_top1: Share of examples with the same answer; ties between classes count as equal.
        examples: How many examples were compared.
    """

    max_difference: float
    equal_top1: float
    examples: int


def parity_of(found: Tensor, expected: Tensor, tolerance: float) -> Parity:
    """How the file's logits ``(N, C)`` or ``(N, T, C)`` agree with the model's."""
    scale = expected.abs().amax().clamp(min=1e-12)
    # Two classes nearer than the tolerance to each other may change places: a tie.
    chosen = expected.gather(-1, found.argmax(-1, keepdim=True))[..., 0]
    same = expected.amax(-1) - chosen <= 2 * tolerance * scale
    difference = float((found - expected).abs().amax() / scale)
    return Parity(difference, same.double().mean().item(), len(expected))


def compared(
    answer: Callable[[Inputs], Tensor],
    inputs: Inputs,
    expected: Tensor,
    tolerance: float,
    *,
    what: str = "the ONNX file",
    most: int | None = None,
) -> Parity:
    """Ask a file one by one, in small groups and all together: a batch size baked in shows itself.

    Args:
        answer: The file in its runtime.
        inputs: Real examples ``(N, ...)``.
        expected: The model's logits ``(N, C)`` or ``(N, T, C)`` for them.
        tolerance: Largest difference allowed, as a share of the largest logit.
        what: The file, in messages.
        most: How many examples the file takes at once; None where it takes any number.

    Raises:
        ExportError: Some answer is not the model's.
    """
    total = len(expected)
    found, examples = torch.empty_like(expected), Batch(inputs)
    for rows in parts(total, most):
        given = answer(examples[rows].inputs).to(expected)
        if given.shape != expected[rows].shape:
            raise ExportError(
                f"{what} answers with {tuple(given.shape)}, and the model with "
                f"{tuple(expected[rows].shape)}: nothing was written."
            )
        found[rows] = given
        refuse_difference(parity_of(found[rows], expected[rows], tolerance), tolerance, what=what)
    return parity_of(found, expected, tolerance)


def parts(total: int, most: int | None = None) -> Iterator[slice]:
    """The rows that a file is asked together.

    >>> [(rows.start, rows.stop) for rows in parts(3)]
    [(0, 1), (1, 2), (2, 3), (0, 3)]
    """
    alone, small, most = min(4, total), min(11, total), most or total
    yield from (slice(i, i + 1) for i in range(alone))
    for first, last in ((alone, small), (small, total), (0, total)):
        yield from (slice(i, min(i + most, last)) for i in range(first, last, most))


def refuse_difference(parity: Parity, tolerance: float, *, what: str = "the ONNX file") -> None:
    """Raise `ExportError` where the file is not the model."""
    if not parity.max_difference <= tolerance:  # NaN is refused too
        raise ExportError(
            f"{what} differs from the model by {parity.max_difference:.2g} of the largest "
            f"logit on {parity.examples} real examples, and {tolerance:.2g} is allowed: nothing "
            "was written."
        )
    if parity.equal_top1 < 1:
        raise ExportError(
            f"{what} gives another class for {1 - parity.equal_top1:.2%} of "
            f"{parity.examples} real examples: nothing was written."
        )
