"""What a model answered."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import MissingFeature, SparseAnswer, suggest


@dataclass(frozen=True)
class Outputs:
    """One model's answer to one batch: its logits, and what was tapped on the way.

    Teacher and student, cached answers and ensembles all speak in outputs, so an objective
    never knows who is on the other side.

    Attributes:
        logits: ``(N, ..., C)``, unnormalised, classes last.
        features: What was tapped, by path, each ``(N, ...)``.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Tensor:
        if path not in self.features:
            raise MissingFeature(
                f"no feature was tapped at {path!r}. {suggest(path, self.features)}"
            )
        return self.features[path]

    def detach(self) -> "Outputs":
        """The same answer, cut from the graph: nobody learns through it."""
        return self.map(Tensor.detach)

    def float(self) -> "Outputs":
        """The same answer with every half-precision tensor in fp32; float64 stays."""
        return self.map(lambda t: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Outputs":
        """Every tensor, changed."""
        return Outputs(change(self.logits), {k: change(v) for k, v in self.features.items()})


@dataclass(frozen=True)
class SparseOutputs(Outputs):
    """An answer of which only k classes are kept, with the mass of all others: never renormalised.

    Attributes:
        logits: Log-probabilities of the kept classes, ``(N, ..., k)`` at temperature 1, in any
            order. Objectives that cannot work with them must call `dense` first.
        top: Class numbers of the kept classes, ``(N, ..., k)`` of int64, no two of one unit alike.
        log_tail: Log of the probability of all other classes together, ``(N, ...)``; -inf for none.
        drawn: Classes drawn from those others, ``(N, ..., m)`` of int64, repeated where drawn
            twice: each stands for one m-th of the tail's mass. None where none were drawn.
        tail_mean: The mean log-probability of such a draw, exactly, ``(N, ...)``; there where
            ``drawn`` is.
    """

    top: Tensor = field(kw_only=True)
    log_tail: Tensor = field(kw_only=True)
    drawn: Tensor | None = field(kw_only=True, default=None)
    tail_mean: Tensor | None = field(kw_only=True, default=None)

    def map(self, change: Callable[[Tensor], Tensor]) -> "SparseOutputs":
        """Every floating tensor, changed."""
        return SparseOutputs(
            change(self.logits),
            {k: change(v) for k, v in self.features.items()},
            top=self.top,
            log_tail=change(self.log_tail),
            drawn=self.drawn,
            tail_mean=None if self.tail_mean is None else change(self.tail_mean),
        )


def dense(outputs: Outputs, asker: str) -> Tensor:
    """All logits ``(N, ..., C)`` of ``outputs``; a sparse answer is refused in ``asker``'s name."""
    if isinstance(outputs, SparseOutputs):
        raise SparseAnswer(
            f"{asker} needs the logits of all classes, and this teacher's answers keep only "
            f"{outputs.top.shape[-1]}: use 'kd', or keep dense answers."
        )
    return outputs.logits


class Answers(Protocol):
    """Anything that answers a batch with outputs: a model, a cache, an API, an ensemble, a peer."""

    def __call__(self, batch: Batch) -> Outputs:
        """The answer to ``batch``."""
        ...


@runtime_checkable
class Tapped(Protocol):
    """Whoever can be asked to show features in all answers: a model, a frozen one, an ensemble."""

    def tap(self, paths: Iterable[str]) -> object:
        """Show the features at ``paths`` from now on."""
        ...

    def release(self) -> None:
        """Show none from now on."""
        ...


@runtime_checkable
class Lender(Protocol):
    """Whoever can lend modules of its own to an objective: a model, a frozen one, an ensemble."""

    def lend(self, paths: Iterable[str]) -> Mapping[str, torch.nn.Module]:
        """The modules at ``paths``."""
        ...


Terms = Mapping[str, Tensor]
"""Named scalars, each a mean over the batch's units; the loss is their sum."""

Measure = Callable[[Batch], Terms]
"""What an update lowers: from (a part of) a batch to terms."""
