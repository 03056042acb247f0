"""The files of a cache: begun by its first answer, read by many, written by one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.teachers.cache.lock import WriterLock
from tutelage.teachers.cache.manifest import compare, digest, read_manifest, write_manifest
from tutelage.teachers.cache.records import Form, Layout, Words, layout_for
from tutelage.teachers.cache.shards import Rows, Shards


class Store:
    """A folder of records.

    Args:
        folder: Where; made when there is something to write.
        form: What is kept of an answer.
        features: Paths of the features kept.
        wanted: What the manifest must say, shapes apart.
        examples: Rows of a view.
        shard: Bytes of a file at most.
        classes: How many there are, where the teacher's answers are sparse already.

    Raises:
        DataError: The folder holds something else.
    """

    def __init__(
        self,
        folder: Path,
        form: Form,
        features: Sequence[str],
        wanted: Mapping[str, Any],
        *,
        examples: int,
        shard: int,
        classes: int | None = None,
    ):
        self.folder, self._form, self._features = folder, form, features
        self._classes = classes
        self._wanted, self._examples, self._shard = dict(wanted), examples, shard
        self._lock = WriterLock(folder / "writer.lock")
        self.layout: Layout | None = None
        self._shards: Shards | None = None
        self.open()

    @property
    def record(self) -> int:
        """Bytes of one answer; 0 before the first."""
        return 0 if self.layout is None else self.layout.bytes

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        return 0 if self._shards is None else self._shards.bytes()

    @property
    def torn(self) -> int:
        """Broken records that were met so far."""
        return 0 if self._shards is None else self._shards.torn

    def open(self) -> bool:
        """Whether there are files; they are of this very cache then."""
        if self._shards is not None:
            return True
        found = read_manifest(self.folder)
        if found is None:
            return False
        compare(self.folder, found, self._wanted)
        shapes = {path: tuple(one) for path, one in found["feature shapes"].items()}
        self._use(Layout(self._form, tuple(found["shape"]), shapes), found)
        return True

    def layout_of(self, answer: Outputs) -> Layout:
        """The layout of all answers; of the first one, the writer notes it for everybody."""
        if self.layout is not None:
            return self.layout
        layout = layout_for(self._form, answer, self._features, self._classes)
        if self.may_write() and not self.open():
            manifest = {
                **self._wanted,
                "classes": layout.shape[-1],
                "shape": list(layout.shape),
                "feature shapes": {path: list(one) for path, one in layout.features.items()},
                "shard": max(min(self._shard // layout.bytes, self._examples), 1),
            }
            write_manifest(self.folder, manifest)
            self._use(layout, manifest)
        return self.layout or layout

    def read(self, view: int, rows: Rows) -> tuple[Words, NDArray[np.bool_]] | None:
        """Records, and which of them are there and whole; None where there is no file at all."""
        if not self.open():
            return None
        assert self._shards is not None
        return self._shards.read(view, rows)

    def write(self, view: int, rows: Rows, words: Words) -> bool:
        """Keep records, if this process may; says whether it did."""
        if self._shards is None or not self.may_write():
            return False
        self._shards.write(view, rows, words)
        return True

    def present(self, view: int) -> NDArray[np.bool_]:
        """Which records of a view are there and whole."""
        if not self.open():
            return np.zeros(self._examples, bool)
        assert self._shards is not None
        return self._shards.present(view)

    def may_write(self) -> bool:
        """Take the right to write, if nobody else has it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"the cache cannot be made in {self.folder} ({error.strerror or error}): choose "
                "another folder."
            ) from error
        return self._lock.take()

    def close(self) -> None:
        """Let the files and the right to write go; both are taken up again when needed."""
        if self._shards is not None:
            self._shards.close()
        self._lock.release()

    def _use(self, layout: Layout, manifest: Mapping[str, Any]) -> None:
        self.layout = layout
        self._shards = Shards(
            self.folder,
            layout,
            rows=self._examples,
            size=manifest["shard"],
            seed=int(digest(manifest)[:16], 16),
        )
