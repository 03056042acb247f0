"""How near the logits of an exported file come to the model's."""

from dataclasses import dataclass

from torch import Tensor

from tutelage.core.errors import ExportError


@dataclass(frozen=True)
class Parity:
    """How well a file in ONNX Runtime agreed with the model in torch on real examples.

    Attributes:
        max_difference: Largest difference of any logit, as a share of the largest logit.
        equal_top1: Share of examples with the same answer; ties between classes count as equal.
        examples: How many examples were compared.
    """

    max_difference: float
    equal_top1: float
    examples: int


def parity_of(found: Tensor, expected: Tensor, tolerance: float) -> Parity:
    """How the file's logits ``(N, C)`` agree with the model's."""
    scale = expected.abs().amax().clamp(min=1e-12)
    # Two classes nearer than the tolerance to each other may change places: a tie.
    chosen = expected.gather(-1, found.argmax(-1, keepdim=True))[:, 0]
    same = expected.amax(-1) - chosen <= 2 * tolerance * scale
    difference = float((found - expected).abs().amax() / scale)
    return Parity(difference, same.double().mean().item(), len(expected))


def refuse_difference(parity: Parity, tolerance: float) -> None:
    """Raise `ExportError` where the file is not the model."""
    if not parity.max_difference <= tolerance:  # NaN is refused too
        raise ExportError(
            f"the ONNX file differs from the model by {parity.max_difference:.2g} of the largest "
            f"logit on {parity.examples} real examples, and {tolerance:.2g} is allowed: nothing "
            "was written."
        )
    if parity.equal_top1 < 1:
        raise ExportError(
            f"the ONNX file gives another class for {1 - parity.equal_top1:.2%} of "
            f"{parity.examples} real examples: nothing was written."
        )
