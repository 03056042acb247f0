"""How one answer lies in a file: a record of fixed length, with a checksum of its own."""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.errors import ModelError, RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs, SparseOutputs, dense
from tutelage.teachers.cache.asking import Asked
from tutelage.teachers.cache.forms import Form as Form
from tutelage.teachers.cache.seals import Words as Words
from tutelage.teachers.cache.seals import salts as salts
from tutelage.teachers.cache.seals import tags_of, weights_of
from tutelage.teachers.cache.top_fields import Field, TopFields, lifted

_LOWEST = 65504.0  # fp16 reaches so far


class Layout:
    """Between answers and records.

    Dense logits are kept in fp16 as their distance to the row's largest, which has 4 bytes of its
    own: so logits of any size come back with a precision of fp16 near the largest, and nothing
    overflows. A top-k answer has class numbers, log-probabilities at temperature 1, and the log of
    the rest's mass (`TopFields`): never renormalised.

    Args:
        form: What is kept.
        shape: Of one example's logits, ``(..., C)``.
        features: Shapes of one example's features, by path.

    Raises:
        RecipeError: More classes are to be kept than there are.

    Example:
        >>> layout = Layout(Form("top", k=1), (3,), {})
        >>> words = layout.encode(Outputs(torch.tensor([[0.7, 0.2, 0.1]]).log()))
        >>> back = layout.decode(words)
        >>> back.top.item(), round(back.log_tail.exp().item(), 3), layout.bytes
        (0, 0.3, 16)
    """

    def __init__(self, form: Form, shape: tuple[int, ...], features: Mapping[str, tuple[int, ...]]):
        self.form, self.shape, self.features = form, shape, dict(features)
        units, classes = shape[:-1], shape[-1]
        if form.form == "top" and form.k > classes:
            raise RecipeError(f"k is {form.k}, and there are {classes} classes: keep fewer.")
        self._top = TopFields(form, units, classes) if form.form == "top" else None
        real = "<f4" if form.precision == "fp32" else "<f2"
        fields: list[Field] = [("tag", "<u4", ()), ("sight", "<f4", ())]
        if self._top is not None:
            fields += self._top.fields
        else:
            if form.precision == "fp16":
                fields.append(("largest", "<f4", (*units, 1)))
            fields.append(("logits", real, shape))
        fields += [(f"feature {i}", real, one) for i, one in enumerate(self.features.values())]
        fields.sort(key=lambda field: -np.dtype(field[1]).itemsize)  # so that all are aligned
        sizes = [np.dtype(kind).itemsize * prod(each) for _, kind, each in fields]
        ends = np.cumsum(sizes).tolist()
        self.bytes = -(-ends[-1] // 8) * 8
        self.words = self.bytes // 8
        self.record = np.dtype(
            {
                "names": [name for name, _, _ in fields],
                "formats": [(kind, each) for _, kind, each in fields],
                "offsets": [0, *ends[:-1]],
                "itemsize": self.bytes,
            }
        )
        self._weights = weights_of(self.words)

    def encode(
        self, answer: Outputs, sights: Tensor | float = 0.0, asked: Asked | None = None
    ) -> Words:
        """Records of an answer, not sealed yet.

        Args:
            answer: To N examples.
            sights: Of the inputs they were given for (`sights_of`), ``(N,)``.
            asked: Which units are wanted, and where draws fall.

        Raises:
            ModelError: The answer has NaN or +inf, or a feature is too large for fp16.
            ShapeMismatch: It is of another shape.
            SparseAnswer: It is sparse, and dense logits or more classes are to be kept.
        """
        if self._top is None or not isinstance(answer, SparseOutputs):
            self._check("logits", tuple(dense(answer, "a cache").shape[1:]), self.shape)
        else:
            units = tuple(answer.log_tail.shape[1:])
            self._check("logits", (*units, self.shape[-1]), self.shape)
        asked = asked or Asked()
        words = np.zeros((len(answer.logits), self.words), np.uint64)
        fields = words.view(self.record)[:, 0]
        fields["sight"] = sights
        if self._top is not None:
            self._top.put(fields, answer, asked)
        else:
            mask = asked.wanted(tuple(answer.logits.shape[1:-1]))
            self._put_dense(fields, answer.logits.detach().float(), mask)
        for number, (path, shape) in enumerate(self.features.items()):
            self._put_feature(fields, number, path, answer[path].detach().float(), shape)
        return words

    def decode(
        self,
        words: Words,
        device: torch.device | str = "cpu",
        shown: Iterable[str] = (),
        asked: Asked | None = None,
    ) -> Outputs:
        """The answers of records, in fp32, with the features ``shown``."""
        fields = words.view(self.record)[:, 0]
        units = self.shape[:-1] if asked is None or asked.units is None else asked.units

        def take(name: str, cut: tuple[int, ...] = ()) -> Tensor:
            there = fields[name][(slice(None), *(slice(size) for size in cut))]
            return torch.from_numpy(there).to(device)

        order = list(self.features)
        features = {path: take(f"feature {order.index(path)}").float() for path in shown}
        features = {path: one.contiguous() for path, one in features.items()}
        if self._top is not None:
            return self._top.take(fields, device, units, features)
        logits = take("logits", units).float().contiguous()
        if self.form.precision == "fp16":
            logits = logits.add_(take("largest", units))
        return Outputs(logits, features)

    def lacks(self, words: Words, asked: Asked) -> NDArray[np.bool_]:
        """Which records lack the answer to a unit that is wanted now ``(N,)``."""
        if self._top is None:
            return np.zeros(len(words), bool)
        units = self.shape[:-1] if asked.units is None else asked.units
        return self._top.lacks(words.view(self.record)[:, 0], asked.wanted(units), units)

    def sights(self, words: Words) -> NDArray[np.float32]:
        """What the inputs of these records looked like ``(N,)``."""
        found: NDArray[np.float32] = words.view(self.record)[:, 0]["sight"]
        return found

    def seal(self, words: Words, salt: Words) -> None:
        """Write each record's checksum into it; ``salt`` ``(N,)`` says where it belongs."""
        fields = words.view(self.record)[:, 0]
        fields["tag"] = 0
        fields["tag"] = tags_of(words, self._weights, salt)

    def unseal(self, words: Words, salt: Words) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which records are whole, and which are torn; the others were never written.

        The checksums in ``words`` are taken out.
        """
        tags = words.view(self.record)[:, 0]["tag"]
        found = tags.copy()
        tags[...] = 0
        whole = found == tags_of(words, self._weights, salt)
        return whole, ~whole & (found != 0)

    def _put_dense(self, fields: NDArray[Any], logits: Tensor, mask: Tensor | None) -> None:
        if mask is not None:  # padding may be anything; what is sound there stays
            broken = ~torch.isfinite(logits.amax(-1, keepdim=True))
            logits = torch.where(broken & ~mask.unsqueeze(-1), 0.0, logits)
        largest = logits.amax(-1, keepdim=True)
        if not bool(torch.isfinite(largest).all()):
            raise ModelError(
                "the teacher answered with NaN or infinite logits, which teach nothing: look at "
                "its weights and its intake; nothing of this batch was kept."
            )
        there = (slice(None), *(slice(size) for size in logits.shape[1:-1]))
        if self.form.precision == "fp16":
            fields["largest"][there] = _numpy(largest)
            logits = lifted(logits - largest)
        fields["logits"][there] = _numpy(logits)

    def _put_feature(
        self, fields: NDArray[Any], number: int, path: str, feature: Tensor, shape: tuple[int, ...]
    ) -> None:
        self._check(f"feature {path!r}", tuple(feature.shape[1:]), shape)
        if self.form.precision != "fp32" and bool((feature.abs() > _LOWEST).any()):
            raise ModelError(
                f"feature {path!r} reaches {float(feature.abs().max()):.4g}, beyond fp16: "
                "keep it with precision='fp32'."
            )
        fields[f"feature {number}"] = _numpy(feature)

    def _check(self, what: str, found: tuple[int, ...], kept: tuple[int, ...]) -> None:
        if found == kept:
            return
        room = self.form.length
        if room is None:
            raise ShapeMismatch(
                f"the teacher's {what} are {found} for each example, and this cache keeps {kept}: "
                "records have one length; cut or fill up the inputs to one size, or set length to "
                "the longest."
            )
        if what != "logits" or len(found) != len(kept) or found[1:] != kept[1:] or found[0] > room:
            raise ShapeMismatch(
                f"the teacher's {what} are {found} for each example, and this cache has room for "
                f"{kept}: set length to the longest."
            )


def layout_for(
    form: Form, answer: Outputs, features: Iterable[str], classes: int | None = None
) -> Layout:
    """The layout that fits an answer.

    Raises:
        SparseAnswer: The answer is sparse, and nobody said how many classes there are.
        RecipeError: Examples of unlike lengths were said, and an answer has but one unit.
    """
    if isinstance(answer, SparseOutputs) and form.form == "top" and classes is not None:
        shape = (*answer.log_tail.shape[1:], classes)
    else:
        shape = tuple(dense(answer, "a cache without classes=...").shape[1:])
    if form.length is not None:
        if len(shape) < 2 or tuple(features):
            raise RecipeError(
                f"length is {form.length}, for texts of unlike lengths, and these answers have "
                f"{shape} logits an example{' and features' if features else ''}: leave it out."
            )
        shape = (form.length, *shape[1:])
    return Layout(form, shape, {path: tuple(answer[path].shape[1:]) for path in features})


def as_kept(answer: Outputs, form: Form, features: Iterable[str] = ()) -> Outputs:
    """An answer as it would come back from a cache.

    >>> as_kept(Outputs(torch.tensor([[70001.0, -70000.0]])), Form()).logits
    tensor([[70001., 4497.]])
    """
    layout = layout_for(form, answer, features)
    units = tuple(answer.logits.shape[1:-1])
    asked = Asked(units=units)
    return layout.decode(
        layout.encode(answer, asked=asked), answer.logits.device, layout.features, asked
    )


def _numpy(t: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = t.cpu().numpy()
    return found
