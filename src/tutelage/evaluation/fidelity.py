"""How alike two models answer, whoever is right: pure functions of two models' logits.

The reference comes first (the teacher, or the same student trained without one), then the model
in question.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.metrics import checked, usable


def agreement(reference: Tensor, other: Tensor) -> float:
    """Share of examples that both models answer with the same class, right or wrong.

    Args:
        reference: Logits ``(N, C)``.
        other: Logits ``(N, C)`` of the same examples.

    Returns:
        A share in [0, 1].

    Example:
        >>> agreement(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        0.5

    Paper: Stanton et al., "Does Knowledge Distillation Really Work?", arXiv 2106.05945.
    """
    return agreeing(reference, other).double().mean().item()


def predictive_kl(reference: Tensor, other: Tensor) -> float:
    """Kullback-Leibler divergence KL(reference ‖ other) of the class probabilities.

    ``mean(sum_c p_c (log p_c - log q_c))`` at temperature 1, p of the reference: 0 only where the
    two give every class the same probability.

    Returns:
        Mean over examples, in nats.

    Example:
        >>> predictive_kl(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]))  # a shift
        0.0
    """
    divergence = kl_each(reference, other).mean()
    return divergence.clamp(min=0).item()  # rounding alone can bring it below


def jensen_shannon(reference: Tensor, other: Tensor) -> float:
    """Jensen-Shannon divergence: symmetric, and at most log 2 = 0.693 even where KL is infinite.

    ``(KL(p ‖ m) + KL(q ‖ m)) / 2`` with ``m = (p + q) / 2``.

    Returns:
        Mean over examples, in nats, in [0, log 2].

    Example:
        >>> round(jensen_shannon(torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]])), 4)
        0.6931
    """
    return js_each(reference, other).mean().item()


def negative_flip_rate(reference: Tensor, other: Tensor, targets: Tensor) -> float:
    """Share of all examples that the reference got right and the other model gets wrong.

    What a user of the reference loses on being given the other model, even at equal accuracy.

    Args:
        reference: Logits ``(N, C)``.
        other: Logits ``(N, C)`` of the same examples.
        targets: True class numbers ``(N,)``.

    Returns:
        A share of all N examples, in [0, 1].

    Example:
        >>> negative_flip_rate(torch.eye(2), torch.eye(2)[[0, 0]], torch.tensor([0, 1]))
        0.5

    Paper: Yan et al., "Positive-Congruent Training", CVPR 2021, arXiv 2011.09161.
    """
    before, after = _rights(reference, other, targets)
    return (before & ~after).double().mean().item()


def positive_flip_rate(reference: Tensor, other: Tensor, targets: Tensor) -> float:
    """Share of all examples that the reference got wrong and the other model gets right.

    ``accuracy(other) = accuracy(reference) + positive flips - negative flips``.

    Example:
        >>> positive_flip_rate(torch.eye(2)[[0, 0]], torch.eye(2), torch.tensor([0, 1]))
        0.5
    """
    before, after = _rights(reference, other, targets)
    return (~before & after).double().mean().item()


def agreeing(reference: Tensor, other: Tensor) -> Tensor:
    """Which examples both models answer with the same class, ``(N,)`` of bool."""
    reference, other = _pair(reference, other)
    return reference.argmax(-1) == other.argmax(-1)


def kl_each(reference: Tensor, other: Tensor) -> Tensor:
    """KL(reference ‖ other) of each example, ``(N,)`` in nats: `predictive_kl` is its mean."""
    reference, other = _pair(reference, other)
    return _kl(reference.log_softmax(-1), other.log_softmax(-1))


def js_each(reference: Tensor, other: Tensor) -> Tensor:
    """Jensen-Shannon divergence of each example, ``(N,)`` in nats, in [0, log 2]."""
    reference, other = _pair(reference, other)
    p, q = reference.log_softmax(-1), other.log_softmax(-1)
    middle = torch.logaddexp(p, q) - torch.log(torch.tensor(2.0, dtype=p.dtype))
    return ((_kl(p, middle) + _kl(q, middle)) / 2).clamp(min=0)


@dataclass(frozen=True)
class SharedErrors:
    """What a model does where the reference is wrong.

    Attributes:
        examples: How many the reference gets wrong.
        both: How many of these the other model gets wrong as well.
        same: How many of these with the very same wrong class.
    """

    examples: int
    both: int
    same: int

    @property
    def copied(self) -> float | None:
        """Share of the reference's errors that the other repeats, class and all; None of none."""
        return self.same / self.examples if self.examples else None

    @property
    def alike(self) -> float | None:
        """Share of the common errors that have the same wrong class; None where there is none."""
        return self.same / self.both if self.both else None


def shared_errors(reference: Tensor, other: Tensor, targets: Tensor) -> SharedErrors:
    """How a model answers where the reference is wrong: does it repeat the errors?

    On the reference's errors, agreement means the same wrong class. What two networks share
    without teaching is had from a model that never saw the reference: compare with that.

    Args:
        reference: Logits ``(N, C)``.
        other: Logits ``(N, C)`` of the same examples.
        targets: True class numbers ``(N,)``.

    Example:
        >>> teacher, student = torch.eye(3)[[1, 1, 2]], torch.eye(3)[[1, 2, 0]]
        >>> shared_errors(teacher, student, torch.tensor([0, 0, 2]))
        SharedErrors(examples=2, both=2, same=1)

    Paper: "A Functional Perspective on Knowledge Distillation in Neural Networks",
    arXiv 2510.12615.
    """
    before, after = _rights(reference, other, targets)
    same = agreeing(reference, other) & ~before
    return SharedErrors(int((~before).sum()), int((~before & ~after).sum()), int(same.sum()))


def _rights(reference: Tensor, other: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    reference, other = _pair(reference, other)
    reference, targets = checked(reference, targets)
    return reference.argmax(-1) == targets, other.argmax(-1) == targets


def _pair(reference: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    if reference.shape != other.shape or reference.ndim != 2 or len(reference) == 0:
        raise DataError(
            f"logits of shapes {tuple(reference.shape)} and {tuple(other.shape)} were given: two "
            "models are compared on the same examples and classes, both (N, C)."
        )
    return usable(reference), usable(other)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    # 0 · log 0 = 0: a class the reference excludes costs nothing, whatever the other says.
    return torch.where(p > -torch.inf, p.exp() * (p - q), 0.0).sum(-1)
