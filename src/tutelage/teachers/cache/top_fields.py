"""How the k likeliest classes of an answer lie in a record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import ModelError, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.teachers.cache.asking import Asked
from tutelage.teachers.cache.codes import PackedNumbers, from_bytes, in_bytes
from tutelage.teachers.cache.forms import Form
from tutelage.teachers.sparse import fewer, sparse_answers

Field = tuple[str, str, tuple[int, ...]]
"""Name, type and shape in one record."""

_LOWEST = -65504.0  # of fp16; -inf stays what it is


class TopFields:
    """Sparse answers between tensors and the fields of records.

    Class numbers lie as they are, in the fewest whole bytes, with fp16 or fp32; with int8 they
    are sorted and packed (`PackedNumbers`), and log-probabilities follow their order in 8 bits
    (`in_bytes`). A tail of +inf marks a unit that nobody asked for: it comes back finite, as an
    even distribution, for masks to leave out.

    Args:
        form: What is kept.
        units: Shape of one example's units.
        classes: C.
    """

    def __init__(self, form: Form, units: tuple[int, ...], classes: int):
        self._form, self._units, self._classes = form, units, classes
        self._even = -math.log(form.k + 1)
        self._packed = form.precision == "int8"
        self._numbers = {
            name: PackedNumbers(count, classes)
            for name, count in (("top", form.k), ("drawn", form.draws))
            if count and self._packed
        }

    @property
    def fields(self) -> Sequence[Field]:
        """What a record has."""
        form, units = self._form, self._units
        real = "<f4" if form.precision == "fp32" else "<f2"
        counts = {"top": form.k} | ({"drawn": form.draws} if form.draws else {})
        if self._packed:
            ids = [(name, "u1", (*units, code.bytes)) for name, code in self._numbers.items()]
            logits = [
                ("logits", "u1", (*units, form.k)),
                ("most", real, units),
                ("span", real, units),
            ]
        else:
            small = next(t for t in ("<i2", "<u2", "<i4") if self._classes - 1 <= np.iinfo(t).max)
            ids = [(name, small, (*units, count)) for name, count in counts.items()]
            logits = [("logits", real, (*units, form.k))]
        means = [("mean", real, units)] if form.draws else []
        return [*ids, *logits, ("tail", real, units), *means]

    def put(self, fields: NDArray[Any], answer: Outputs, asked: Asked) -> None:
        """Write answers to N examples; units beyond theirs are marked as not asked for.

        Args:
            fields: N records.
            answer: Dense or sparse, with all units of an example or, along the first, fewer.
            asked: Which units are wanted, and where draws fall.

        Raises:
            ModelError: Numbers that are wanted are NaN or infinite.
            SparseAnswer: The answers are sparse already, and keep too few classes or no draws.
        """
        form, units = self._form, tuple(answer.logits.shape[1:-1])
        mask = asked.wanted(units)
        if isinstance(answer, SparseOutputs):
            given = _checked(fewer(answer, form.k), form.draws, mask)
        else:
            place = answer.logits.device
            points = asked.points(len(fields), units).to(place) if form.draws else None
            given = sparse_answers(
                answer.logits, form.k, mask=mask, draws=form.draws, points=points
            )
        found = self._filled(given, mask, len(fields))
        order = found.top.argsort(-1) if self._packed else None
        self._put_numbers(fields, "top", found.top)
        if order is not None:
            code, most, span = in_bytes(found.logits.gather(-1, order).flatten(0, -2).numpy())
            fields["logits"] = code.reshape(fields["logits"].shape)
            fields["most"] = most.reshape(fields["most"].shape)
            fields["span"] = span.reshape(fields["span"].shape)
        else:
            fields["logits"] = self._rounded(found.logits)
        fields["tail"] = self._rounded(found.log_tail)
        if found.drawn is not None and found.tail_mean is not None:
            self._put_numbers(fields, "drawn", found.drawn)
            fields["mean"] = self._rounded(found.tail_mean)

    def take(
        self,
        fields: NDArray[Any],
        device: torch.device | str,
        units: tuple[int, ...],
        features: Mapping[str, Tensor],
    ) -> SparseOutputs:
        """The answers of records, in fp32, of the first ``units`` of each example."""
        there = (slice(None), *(slice(size) for size in units))

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(fields[name][there]).to(device)

        tail = tensor("tail").float()
        tail = tail.masked_fill(torch.isposinf(tail), self._even)  # the record keeps its mark
        if self._packed:
            codes = (fields[name][there] for name in ("logits", "most", "span"))
            log_p = self._unpacked(*codes).to(device)
        else:
            log_p = tensor("logits").float()
        numbers = {
            name: self._take_numbers(fields[name][there], name).to(device)
            for name in ("top", "drawn")[: 1 + bool(self._form.draws)]
        }
        mean = tensor("mean").float().contiguous() if self._form.draws else None
        return SparseOutputs(
            log_p.contiguous(), features, **numbers, log_tail=tail.contiguous(), tail_mean=mean
        )

    def lacks(
        self, fields: NDArray[Any], mask: Tensor | None, units: tuple[int, ...]
    ) -> NDArray[Any]:
        """Which records lack a unit that is wanted now, ``(N,)``."""
        tail = fields["tail"][(slice(None), *(slice(size) for size in units))]
        absent = np.isposinf(tail)
        if mask is not None:
            absent &= mask.cpu().numpy()
        return np.asarray(absent.reshape(len(fields), -1).any(axis=1))

    def _filled(self, given: SparseOutputs, mask: Tensor | None, count: int) -> SparseOutputs:
        """The same for all units of a record, on the CPU; marked where nothing is."""
        given = _moved(given, torch.device("cpu"))
        if mask is None and given.log_tail.shape[1:] == self._units:
            return given
        shape, k, draws = (count, *self._units), self._form.k, self._form.draws
        wanted = torch.ones(given.log_tail.shape, dtype=torch.bool) if mask is None else mask.cpu()
        there = torch.zeros(shape, dtype=torch.bool)
        there[(slice(None), *(slice(size) for size in wanted.shape[1:]))] = wanted

        def spread(empty: Tensor, part: Tensor) -> Tensor:
            empty[there] = part[wanted].to(empty.dtype)
            return empty

        return SparseOutputs(
            spread(torch.full((*shape, k), self._even), given.logits),
            top=spread(torch.arange(k).expand(*shape, k).clone(), given.top),
            log_tail=spread(torch.full(shape, torch.inf), given.log_tail),
            drawn=None
            if given.drawn is None
            else spread(torch.zeros((*shape, draws), dtype=torch.int64), given.drawn),
            tail_mean=None
            if given.tail_mean is None
            else spread(torch.zeros(shape), given.tail_mean),
        )

    def _put_numbers(self, fields: NDArray[Any], name: str, numbers: Tensor) -> None:
        if self._packed:
            # Draws are in any order: sorted they pack, and nothing else depends on it.
            rows = numbers.sort(-1).values.flatten(0, -2).numpy()
            fields[name] = self._numbers[name].pack(rows).reshape(fields[name].shape)
        else:
            fields[name] = numbers.numpy()

    def _take_numbers(self, field: NDArray[Any], name: str) -> Tensor:
        if not self._packed:
            return torch.from_numpy(field).long().contiguous()
        rows = self._numbers[name].unpack(field.reshape(-1, field.shape[-1]))
        return torch.from_numpy(rows).view(*field.shape[:-1], -1)

    def _unpacked(self, codes: NDArray[Any], most: NDArray[Any], span: NDArray[Any]) -> Tensor:
        rows = from_bytes(codes.reshape(-1, codes.shape[-1]), most.ravel(), span.ravel())
        return torch.from_numpy(rows).view(codes.shape)

    def _rounded(self, values: Tensor) -> NDArray[Any]:
        """As it is kept: fp16's lowest for what is below it, but -inf for -inf."""
        if self._form.precision != "fp32":
            values = lifted(values)
        found: NDArray[Any] = values.numpy()
        return found


def lifted(values: Tensor) -> Tensor:
    """Finite numbers below fp16's lowest, put there; -inf stays."""
    return torch.where(torch.isneginf(values), values, values.clamp(min=_LOWEST))


def _moved(answer: SparseOutputs, place: torch.device) -> SparseOutputs:
    return SparseOutputs(
        answer.logits.detach().to(place).float(),
        top=answer.top.to(place),
        log_tail=answer.log_tail.detach().to(place).float(),
        drawn=None if answer.drawn is None else answer.drawn.to(place),
        tail_mean=None if answer.tail_mean is None else answer.tail_mean.detach().to(place).float(),
    )


def _checked(answer: SparseOutputs, draws: int, mask: Tensor | None) -> SparseOutputs:
    """A sparse teacher's answer, if it is sound and has the draws that are to be kept."""
    there = 0 if answer.drawn is None else answer.drawn.shape[-1]
    if there != draws:
        raise SparseAnswer(
            f"the teacher's answers are sparse with {there} draws, and {draws} are to be kept: "
            f"set draws: {there}."
        )
    bad = ~(answer.logits <= 1).all(-1) | ~(answer.log_tail <= 1)
    if bool((bad if mask is None else bad & mask).any()):
        raise ModelError(
            "the teacher answered with NaN or infinite logits, which teach nothing: look at its "
            "weights and its intake; nothing of this batch was kept."
        )
    return answer
