"""A teacher whose answers are kept on disk, by example and view."""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, MissingFeature, suggest
from tutelage.core.outputs import Answers, Lender, Outputs
from tutelage.core.source import Source
from tutelage.teachers.cache.asking import Asked, asked_of
from tutelage.teachers.cache.counts import Counts, Filled
from tutelage.teachers.cache.fingerprint import teacher_hash
from tutelage.teachers.cache.forms import Form, Precision
from tutelage.teachers.cache.keys import Keys
from tutelage.teachers.cache.live import Live, place_of
from tutelage.teachers.cache.manifest import FORMAT, Views
from tutelage.teachers.cache.records import Words
from tutelage.teachers.cache.shards import Rows
from tutelage.teachers.cache.sight import sights_of
from tutelage.teachers.cache.store import Store

_SHARD = 1 << 26


class Cached(nn.Module):
    """Answers kept in files, each under its (example id, view); the teacher gives what is missing.

    A view is a function of (seed, view, id) alone, mixtures included (`tutelage.data.Loader`), so
    the student meets exactly the inputs that the teacher saw; each batch is held against them. An
    answer that was just asked for is returned as it would be read: whether a cache was built ahead
    or on the way makes no difference, nor does a stop. Dense answers of ``precision="fp32"`` come
    back bit for bit. Several processes may read; one writes, the others ask the teacher for what
    is missing and keep nothing.

    Args:
        teacher: Answers what is not kept: a `tutelage.models.Frozen`, an ensemble. None where
            everything is there.
        folder: Where the answers lie; made where it is missing.
        source: The loader that teaches: it says which examples in which views.
        form: ``dense`` logits, or the ``top`` k with the mass of all others, which divergences
            can use (``kd``, ``reverse_kl``, ``js`` ... at temperature 1).
        k: Classes kept of ``top``.
        precision: ``fp16``, ``fp32``, or ``int8`` of ``top``: log-probabilities in 8 bits, class
            numbers packed.
        draws: Classes of the tail drawn besides, which make ``kd`` unbiased: for data seen once.
        length: Positions of the longest text, where texts are of unlike lengths.
        classes: How many there are, where the teacher's answers are sparse already (a server's).
        features: The teacher's features to keep, by path.
        compute: The precision that the teacher answers in, whoever asks: ``fp32``, ``bf16`` or
            ``fp16`` (autocast).
        name: Tells a teacher that is no torch module from others; modules are hashed.
        shard: Bytes of a file at most.

    Raises:
        DataError: The folder holds answers of another teacher, data or augmentation, or in another
            form; or the source shows new views for ever.
        ModelError: The teacher cannot be told from others, or shows no features.

    Example:
        >>> import tempfile
        >>> from tutelage.data import Loader, TensorSet
        >>> loader = Loader(TensorSet(torch.rand(5, 3)), 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ask = lambda batch: Outputs(batch.inputs * 2)
        ...     with Cached(ask, folder, loader, name="twice", precision="fp32") as teacher:
        ...         _ = teacher.fill(loader)
        ...         batch = next(loader.epoch(1))
        ...         same = bool((teacher(batch).logits == batch.inputs * 2).all())
        ...         same, teacher.counts.asked, teacher.counts.found
        (True, 5, 2)
    """

    def __init__(
        self,
        teacher: Answers | None,
        folder: str | Path,
        source: Views,
        *,
        form: Literal["dense", "top"] = "dense",
        k: int = 10,
        precision: Precision = "fp16",
        draws: int = 0,
        length: int | None = None,
        classes: int | None = None,
        features: Sequence[str] = (),
        compute: Literal["fp32", "bf16", "fp16"] = "fp32",
        name: str | None = None,
        shard: int = _SHARD,
    ):
        super().__init__()
        self.folder, self.counts = Path(folder), Counts()
        self._form = Form(form, k, precision, draws, length)
        self._features = tuple(dict.fromkeys(features))
        self._live = None if teacher is None else Live(teacher, self._features, compute)
        self._keys = Keys(source)
        wanted = {
            "format": FORMAT,
            **({} if teacher is None else {"teacher": _told(teacher, name)}),
            **self._keys.identity,
            **self._form.told(),
            "compute": compute,
            "features": list(self._features),
            "temperature": 1,
            "examples": self._keys.count,
        }
        self._store = Store(
            self.folder,
            self._form,
            self._features,
            wanted,
            examples=self._keys.count,
            shard=shard,
            classes=classes,
        )
        self._shown: list[str] = []
        self.teacher: Answers | None = teacher

    def forward(self, batch: Batch) -> Outputs:
        """The answer to a batch, read or asked for, without a graph."""
        rows, view = self._keys.of(batch)
        asked = asked_of(self._form, batch)
        sights, near = sights_of(batch)
        found = self._store.read(view, rows)
        if found is None:
            nothing = np.zeros(len(rows), bool)
            return self._asked(batch, rows, view, sights, asked, None, nothing)
        words, whole = found
        layout = self._store.layout
        assert layout is not None
        whole &= ~layout.lacks(words, asked)
        there = slice(None) if whole.all() else whole
        off = np.abs(layout.sights(words)[there] - sights.numpy()[there]) > near
        if off.any():
            raise _other_inputs(rows[there][off], view, self._keys)
        self.counts.found += int(whole.sum())
        if not whole.all():
            return self._asked(batch, rows, view, sights, asked, words, whole)
        return layout.decode(words, place_of(batch), self._shown, asked)

    def fill(
        self, source: Source[Batch], told: Callable[[int, int], None] = lambda done, of: None
    ) -> Filled:
        """Ask for all answers that are not kept yet; a fill that was stopped goes on.

        Args:
            source: Gives every example in each of its views, in epochs: a loader, best one that
                goes `tutelage.data.Loader.in_order`.
            told: Called with the answers gone through, and how many there are.

        Raises:
            DataError: Another process writes into the folder, or the source is another.
        """
        if isinstance(source, Views) and dict(source.identity()) != self._keys.identity:
            raise DataError(
                "this source shows other views than the one the cache was made for: fill it from "
                "loader.in_order() of the same loader."
            )
        if not self._store.may_write():
            raise DataError(
                f"another process is writing into the cache in {self.folder}: wait for it, or "
                "choose another folder."
            )
        begun, before = time.monotonic(), self.counts.asked
        every = self._keys.count * self._keys.views
        answers, place, store = (
            0,
            torch.device("cpu") if self._live is None else self._live.home,
            self._store,
        )
        for view in range(self._keys.views):
            done, here = view * self._keys.count, store.present(view)
            if not here.all():
                for batch in source.epoch(view):
                    self(batch.to(place))
                    done += len(batch)
                    told(min(done, every), every)
                here = store.present(view)
            answers += int(here.sum())
            told((view + 1) * self._keys.count, every)
        seconds = time.monotonic() - begun
        asked = self.counts.asked - before
        return Filled(answers, asked, seconds, store.bytes, store.record, store.torn)

    def tap(self, paths: Iterable[str]) -> Self:
        """Show these features from now on; they must be among those kept."""
        for path in paths:
            if path not in self._features:
                raise MissingFeature(
                    f"this cache keeps no feature {path!r}: name it in features when it is made. "
                    f"{suggest(path, self._features)}"
                )
            if path not in self._shown:
                self._shown.append(path)
        return self

    def release(self) -> None:
        """Show no features from now on."""
        self._shown.clear()
        if self._live is not None:
            self._live.release()

    def lend(self, paths: Iterable[str]) -> dict[str, nn.Module]:
        """Modules of the live teacher."""
        paths = list(paths)
        if not paths:
            return {}
        if not isinstance(self.teacher, Lender):
            raise MissingFeature(
                f"a cache has no modules of its own to lend ({', '.join(paths)}), and no live "
                "teacher behind it has: give it the model as its teacher."
            )
        return dict(self.teacher.lend(paths))

    def close(self) -> None:
        """Let the files and the right to write go; the next answer takes them up again."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _asked(
        self,
        batch: Batch,
        rows: Rows,
        view: int,
        sights: Tensor,
        asked: Asked,
        words: Words | None,
        whole: NDArray[np.bool_],
    ) -> Outputs:
        """Ask for the whole batch, so that an answer does not depend on what was kept of it."""
        if self._live is None:
            raise DataError(
                f"the cache in {self.folder} lacks the answer to example "
                f"{self._keys.id(rows[~whole][0])} in view {view}, and there is no live teacher to "
                "ask: give it one, or fill it first."
            )
        answer = self._live(batch)
        layout = self._store.layout_of(answer)
        fresh = layout.encode(answer, sights, asked)
        if words is not None:
            fresh[whole] = words[whole]
        answers = layout.decode(fresh, place_of(batch), self._shown, asked)
        missing = ~whole
        self.counts.asked += int(missing.sum())
        # What is returned may lie in the same memory as what is sealed: a copy is written.
        if self._store.write(view, rows[missing], fresh[missing]):
            self.counts.stored += int(missing.sum())
        return answers


def _told(teacher: Answers, name: str | None) -> str:
    return teacher_hash(teacher) if name is None else name


def _other_inputs(rows: Rows, view: int, keys: Keys) -> DataError:
    return DataError(
        f"example {keys.id(rows[0])} in view {view} does not look as it did when the teacher "
        "answered: learn from the loader that the cache was made for, with the same data, "
        "augmentation, view_seed and views."
    )
