"""A run's folder: made once, never overwritten unasked, taken up again when asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import CheckpointError, RecipeError
from tutelage.engine.machine import rank
from tutelage.evaluation.report import write_whole
from tutelage.recipe.reading import parse, written
from tutelage.recipe.together import by_first

_RESOLVED = "resolved.yaml"


class RunFolder:
    """The files of one run; of several processes the first one writes them.

    Args:
        path: The folder.
        identity: Names the run: a hash of its recipe and data.
        resume: Whether a run that is there already goes on.

    Raises:
        RecipeError: The folder holds something else, or there is nothing to resume.
    """

    def __init__(self, path: Path, identity: str, *, resume: bool):
        self.path, self.identity = path, identity
        by_first(self._check_same if resume else self._check_free)

    def begin(self, resolved: Mapping[str, Any]) -> None:
        """Make the folder with its ``resolved.yaml``."""
        by_first(lambda: self._begin({"identity": self.identity, **resolved}))

    def note(self, key: str, value: Any) -> None:
        """Add something to ``resolved.yaml`` that was found out on the way."""
        if rank() == 0:
            self._resolve({**self._resolved(), key: value})

    def keep(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write plain data into a file of its own, whole or not at all."""
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        by_first(lambda: write_whole(self.path / name, text + "\n"))

    @property
    def log(self) -> Path:
        """The log of all stages."""
        return self.path / "log.jsonl"

    def stage(self, label: str) -> Path:
        """Where one stage keeps its checkpoint and its end."""
        return self.path / "checkpoint" / label

    def weights(self, label: str) -> Path:
        """Where a finished stage's weights lie."""
        return self.stage(label) / "model.safetensors"

    def finished(self, label: str) -> dict[str, Any] | None:
        """What a finished stage left, or None."""
        path = self.stage(label) / "finished.json"
        if not path.is_file():
            return None
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): remove it to do this stage again."
            ) from error
        return found

    def finish(self, label: str, facts: Mapping[str, Any]) -> None:
        """Note that a stage is over; its checkpoint is not needed any more."""
        stage = self.stage(label)
        stage.mkdir(parents=True, exist_ok=True)
        write_whole(stage / "finished.json", json.dumps(facts))
        (stage / "state.pt").unlink(missing_ok=True)

    def _begin(self, resolved: Mapping[str, Any]) -> None:
        try:
            (self.path / "checkpoint").mkdir(parents=True, exist_ok=True)
            if not (self.path / _RESOLVED).exists():
                self._resolve(resolved)
        except OSError as error:
            raise RecipeError(
                f"--out: {str(self.path)!r:.200} cannot be made ({error.strerror}): choose another "
                "folder with --out."
            ) from error

    def _check_free(self) -> None:
        try:
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
        except OSError as error:
            raise RecipeError(
                f"--out: {str(self.path)!r:.200} cannot be looked into ({error.strerror}): choose "
                "another folder."
            ) from error
        if taken:
            raise RecipeError(
                f"{self.path} is there already, and a run never overwrites another: choose a new "
                "folder with --out, or go on with it by --resume."
            )

    def _check_same(self) -> None:
        before = self._resolved().get("identity")
        if before != self.identity:
            raise RecipeError(
                f"{self.path} holds a run of another recipe or other data: resume it with what "
                "it was started with, or choose a new folder with --out."
            )

    def _resolve(self, resolved: Mapping[str, Any]) -> None:
        write_whole(self.path / _RESOLVED, written(resolved))

    def _resolved(self) -> dict[str, Any]:
        path = self.path / _RESOLVED
        if not path.is_file():
            raise RecipeError(
                f"there is no run to resume in {self.path}: leave --resume out to start one, or "
                "name its folder with --out."
            )
        try:
            return parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecipeError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({type(error).__name__}): this run cannot be resumed; "
                "choose a new folder with --out."
            ) from error
