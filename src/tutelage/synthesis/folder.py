"""The folder of a run: which stages are finished, and what they left."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.core.errors import CheckpointError, DataError
from tutelage.synthesis.costs import Spent
from tutelage.synthesis.item import together
from tutelage.synthesis.item_files import read_dropped, read_items, write_rows, write_whole
from tutelage.synthesis.journal import Journal
from tutelage.synthesis.stage import Outcome
from tutelage.teachers.cache.lock import WriterLock

if TYPE_CHECKING:
    from tutelage.synthesis.pipeline import Told


@dataclass(frozen=True)
class Kept:
    """A stage that was finished before.

    Attributes:
        outcome: What it left.
        told: What it said of itself.
    """

    outcome: Outcome
    told: dict[str, Any]


@dataclass(frozen=True)
class Folder:
    """Where a run keeps all it has.

    ``run.json`` says which run it is, ``stages/01-NAME`` has ``journal.jsonl``, ``items.jsonl``,
    ``dropped.jsonl``, and ``stage.json``, which is written last.

    Args:
        path: The folder.
    """

    path: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes here.

        Raises:
            CheckpointError: Somebody does.
            DataError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"{str(self.path)!r} cannot be made ({error.strerror or error}): choose another "
                "folder."
            ) from error
        lock = WriterLock(self.path / ".lock")
        if not lock.take():
            raise CheckpointError(
                f"another process writes to {str(self.path)!r}, or nobody may: wait for it, or "
                "choose another folder."
            )
        try:
            yield
        finally:
            lock.release()

    def begin(self, identity: Mapping[str, Any], *, resume: bool) -> None:
        """Note which run this is, or see that it is the one that was noted.

        Raises:
            CheckpointError: It is another one, ``resume`` was not said or is said of no run, or the
                folder holds files of others.
        """
        path = self.path / "run.json"
        if not path.exists():
            self._free(resume=resume)
            write_whole(path, json.dumps(identity, indent=1) + "\n")
            return
        if not resume:
            raise CheckpointError(
                f"{str(self.path)!r} holds a run: go on with --resume, or choose another folder."
            )
        found = _read(path)
        for key in sorted({*found, *identity}):
            if found.get(key) != identity.get(key):
                raise CheckpointError(
                    f"{str(self.path)!r} holds a run with other {key}: choose another folder, or "
                    "give what it was begun with."
                )

    def _free(self, *, resume: bool) -> None:
        others = sorted(each.name for each in self.path.iterdir() if not each.name.startswith("."))
        if resume:
            raise CheckpointError(
                f"{str(self.path)!r} holds no run to go on with: look at the path, or leave out "
                "--resume to begin one."
            )
        if others:
            raise CheckpointError(
                f"{str(self.path)!r} holds no run but {others[0]!r}, which might be overwritten: "
                "choose another folder."
            )

    def journal(self, number: int, name: str) -> Journal:
        """The answers of a stage."""
        return Journal(self._place(number, name) / "journal.jsonl")

    def finish(self, number: int, name: str, came: str, outcome: Outcome, told: "Told") -> None:
        """Keep what a stage left; ``came`` is the hash of what it was made of."""
        place = self._place(number, name)
        write_rows(place / "items.jsonl", (item.row() for item in outcome.items))
        write_rows(place / "dropped.jsonl", (each.row() for each in outcome.dropped))
        row = {"came": came, "left": together(outcome.items), "told": asdict(told)}
        write_whole(place / "stage.json", json.dumps(row, indent=1, ensure_ascii=False) + "\n")

    def finished(self, number: int, name: str, came: str) -> Kept | None:
        """What a stage left; None where it was not finished.

        Raises:
            CheckpointError: It was made of something else, or was changed since.
            DataError: Its files are broken.
        """
        place = self._place(number, name)
        if not (place / "stage.json").exists():
            return None
        row = _read(place / "stage.json")
        items = read_items(place / "items.jsonl")
        if row.get("came") != came or row.get("left") != together(items):
            raise CheckpointError(
                f"{str(place)!r} was changed, or made of other items: remove it and those after "
                "it (answers that are still wanted are asked again)."
            )
        told = {**row["told"], "spent": Spent(**row["told"]["spent"])}
        dropped = read_dropped(place / "dropped.jsonl")
        return Kept(Outcome(items, dropped, told["report"]), told)

    def _place(self, number: int, name: str) -> Path:
        return self.path / "stages" / f"{number:02d}-{name}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read ({error}): remove it.") from error
    return found
