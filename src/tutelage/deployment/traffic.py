"""What a served model was asked and what it answered, as rows in a folder; NumPy only, no torch.

Inputs are not kept, but for a sampled share that is asked for: a row holds a few numbers of each.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError
from tutelage.deployment.summaries import summary as summary
from tutelage.deployment.summaries import summary_names as summary_names
from tutelage.deployment.traffic_chunks import KEPT, PATTERN, Chunk, load, prune, save
from tutelage.deployment.traffic_rows import alike, rows_of

_WAIT = 1.0  # seconds from an answer to its row on disk, about
_WAITING = 32 * 2**20  # bytes of inputs that wait to be summed up

Array = NDArray[Any]


@dataclass(frozen=True)
class Traffic:
    """Rows of a log, oldest first.

    Attributes:
        times: Seconds since 1970, ``(N,)`` of float64.
        versions: Which version of the model answered, one word a row.
        summaries: ``(N, F)`` of float32, see `summary`.
        logits: ``(N, C)`` of float32.
        features: Names of the F numbers.
        kept: Raw inputs that were kept, by name, ``(K, ...)``.
        kept_rows: Which rows they are of, ``(K,)``.
        seconds: Latency of each answer, NaN where none was told, ``(N,)``.
        shadow: Logits of a shadow model, NaN where it was not asked, ``(N, C)``.
        skipped: Chunks that were truncated, foreign or of another form.
        broken: Rows left out because they hold NaN or infinite numbers.
    """

    times: Array
    versions: list[str]
    summaries: Array
    logits: Array
    features: tuple[str, ...]
    kept: dict[str, Array]
    kept_rows: Array
    seconds: Array
    shadow: Array
    skipped: int = 0
    broken: int = 0

    def __len__(self) -> int:
        return len(self.times)

    def take(self, rows: Array) -> "Traffic":
        """Some rows, by ascending number, with the inputs that were kept of them."""
        place = np.full(len(self), -1)
        place[rows] = np.arange(len(rows))
        found = place[self.kept_rows]
        return Traffic(
            self.times[rows],
            [self.versions[row] for row in rows],
            self.summaries[rows],
            self.logits[rows],
            self.features,
            {name: value[found >= 0] for name, value in self.kept.items()},
            found[found >= 0],
            self.seconds[rows],
            self.shadow[rows],
            self.skipped,
            self.broken,
        )


class TrafficLog:
    """Writes rows into a folder from a thread of its own, in chunks that are always whole.

    A full disk, a burst or odd arrays never stop the service: the rows are counted as dropped.

    Args:
        folder: Where; made if it is not there.
        version: What the rows are said to be answered by: the digest of the package.
        most_bytes: Of all chunks in the folder together; the oldest go.
        keep_inputs: Share of the inputs that are kept as they came, 0 to 1.

    Attributes:
        dropped: Rows that could not be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with TrafficLog(folder, version="a1b2c3") as log:
        ...     log.append({"inputs": np.zeros((2, 1, 8, 8), "f4")}, np.zeros((2, 3), "f4"))
        >>> read_traffic(folder).logits.shape
        (2, 3)
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str,
        most_bytes: int = 64 * 2**20,
        keep_inputs: float = 0.0,
    ):
        if not 0 <= keep_inputs <= 1:
            raise DataError(f"keep_inputs is {keep_inputs}: give a share from 0 to 1.")
        self.folder, self.version, self.dropped = Path(folder), version, 0
        self._most, self._keep = most_bytes, keep_inputs
        self._waiting: list[dict[str, Any]] = []
        self._bytes, self._busy, self._closed = 0, False, False
        self._wake = threading.Condition()
        self._dice = np.random.default_rng()
        self._chunk, self._path = Chunk(), self.folder
        self._thread: threading.Thread | None = None

    def append(
        self,
        inputs: Mapping[str, Array],
        logits: Array,
        when: float | None = None,
        *,
        seconds: float | None = None,
        shadow: Array | None = None,
    ) -> None:
        """Take rows to be written soon; arrays are copied, and nothing is ever raised.

        Args:
            inputs: By name, one example a row, ``(N, ...)``.
            logits: What was answered, ``(N, C)``.
            when: Seconds since 1970; None is now. Rows of one call are a microsecond apart.
            seconds: Latency of the answer.
            shadow: What a shadow model answered, ``(N, C)``.
        """
        count = 0
        try:
            count = len(logits)
            taken: dict[str, Any] = {
                "inputs": {name: np.array(value) for name, value in inputs.items()},
                "logits": np.array(logits, dtype=np.float32),
                "when": time.time() if when is None else float(when),
                "seconds": np.nan if seconds is None else float(seconds),
                "shadow": None if shadow is None else np.array(shadow, dtype=np.float32),
            }
            size = sum(value.nbytes for value in taken["inputs"].values())
        except Exception:  # whatever a caller hands over, its service goes on
            taken, size = {}, 0
        with self._wake:
            if not taken or self._closed or self._bytes + size > _WAITING:
                self.dropped += count
                return
            self._waiting.append(taken)
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="traffic")
                self._thread.start()

    def flush(self) -> None:
        """Wait until all rows that were taken are on disk, or dropped."""
        with self._wake:
            self._wake.notify_all()
            self._wake.wait_for(lambda: not self._waiting and not self._busy, timeout=30)

    def close(self) -> None:
        """Write what waits, and end; rows that come later are dropped."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def __enter__(self) -> "TrafficLog":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _work(self) -> None:
        closed = False
        while not closed:
            with self._wake:
                if not self._closed:
                    self._wake.wait(_WAIT)
                closed = self._closed
                taken, self._waiting, self._bytes = self._waiting, [], 0
                self._busy = True
            lost = self._take(taken) if taken else 0
            with self._wake:
                self.dropped += lost
                self._busy = False
                self._wake.notify_all()

    def _take(self, taken: list[dict[str, Any]]) -> int:
        """Write rows; how many could not be."""
        lost = 0
        for group in alike(taken):
            try:
                lost += self._write(rows_of(group, self.version, self._dice, self._keep))
            except Exception:  # odd arrays of one caller must not end the thread
                lost += sum(len(each["logits"]) for each in group)
        return lost

    def _write(self, rows: Chunk) -> int:
        whole = self._chunk.full(self._most) or not self._chunk.fits(rows)
        chunk = rows if whole else self._chunk.joined(rows)
        path = self._path
        if whole:
            path = self.folder / f"traffic-{time.time_ns():020d}-{os.getpid()}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(chunk, path)
            prune(self.folder, self._most, path)
        except OSError:
            return len(rows)
        self._chunk, self._path = chunk, path
        return 0


def read_traffic(folder: Path, *, since: float | None = None, last: int | None = None) -> Traffic:
    """The rows of a log, by time; chunks that are truncated or foreign are skipped and counted.

    Where chunks differ in the numbers they hold (another model's traffic), the newest decides.

    Args:
        folder: Where a `TrafficLog` wrote.
        since: Seconds since 1970: older rows are left out.
        last: How many of the newest rows; None is all.

    Returns:
        The rows, perhaps none.

    Raises:
        DataError: There is no such folder.
    """
    if not Path(folder).is_dir():
        raise DataError(f"there is no traffic folder {str(folder)!r}: check its path.")
    paths = sorted(Path(folder).glob(PATTERN), reverse=True)
    chunks = [chunk for chunk in map(load, paths) if chunk is not None and len(chunk)]
    fitting = [chunk for chunk in chunks if _fits(chunk, chunks[0])]
    if not fitting:
        none = np.zeros((0, 0), np.float32)
        empty = np.zeros(0)
        return Traffic(
            empty, [], none, none, (), {}, empty.astype(int), empty, none, skipped=len(paths)
        )
    found = _joined(fitting[::-1], skipped=len(paths) - len(fitting))
    order = np.argsort(found.times, kind="stable")
    finite = (found.summaries, found.logits, found.times[:, None])
    good = np.isfinite(np.concatenate(finite, axis=1).sum(axis=1))
    rows = order[good[order]]
    if since is not None:
        rows = rows[found.times[rows] >= since]
    return found.take(rows if last is None else rows[len(rows) - min(last, len(rows)) :])


def _fits(chunk: Chunk, newest: Chunk) -> bool:
    same = chunk.rows["logits"].shape[1] == newest.rows["logits"].shape[1]
    return same and chunk.features == newest.features


def _joined(chunks: list[Chunk], skipped: int) -> Traffic:
    def column(name: str) -> Array:
        return np.concatenate([chunk.rows[name] for chunk in chunks])

    starts = np.cumsum([0, *map(len, chunks)])
    newest = chunks[-1].rows
    shapes = {name: value.shape[1:] for name, value in newest.items() if name.startswith(KEPT)}
    like = [
        (chunk.rows, start)
        for chunk, start in zip(chunks, starts, strict=False)
        if {n: v.shape[1:] for n, v in chunk.rows.items() if n.startswith(KEPT)} == shapes
    ]
    summaries, logits = column("summaries"), column("logits")
    broken = ~(np.isfinite(summaries).all(1) & np.isfinite(logits).all(1))
    return Traffic(
        column("times"),
        [chunk.version for chunk in chunks for _ in range(len(chunk))],
        summaries,
        logits,
        chunks[0].features,
        {name[len(KEPT) :]: np.concatenate([rows[name] for rows, _ in like]) for name in shapes},
        np.concatenate([rows["kept_rows"] + start for rows, start in like]),
        column("seconds"),
        column("shadow"),
        skipped,
        int(broken.sum()),
    )
