"""A run's folder: made once, never overwritten unasked, taken up again when asked."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tutelage.core.errors import RecipeError
from tutelage.engine.machine import rank
from tutelage.evaluation.report import write_whole

_RESOLVED = "resolved.yaml"


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
        identity: Names the run: a hash of its recipe and data.
        resume: Whether a run that is there already goes on.

    Raises:
        RecipeError: The folder holds something else, or there is nothing to resume.
    """

    def __init__(self, path: Path, identity: str, *, resume: bool):
        self.path, self.identity = path, identity
        if resume:
            self._check_same()
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RecipeError(
                f"{path} is there already, and a run never overwrites another: choose a new "
                "folder with --out, or go on with it by --resume."
            )

    def begin(self, resolved: Mapping[str, Any]) -> None:
        """Make the folder with its ``resolved.yaml``."""
        if rank() != 0:
            return
        try:
            (self.path / "checkpoint").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(
                f"{self.path} cannot be made ({error.strerror}): choose another folder with --out."
            ) from error
        if not (self.path / _RESOLVED).exists():
            text = yaml.safe_dump(
                {"identity": self.identity, **resolved}, sort_keys=False, allow_unicode=True
            )
            write_whole(self.path / _RESOLVED, text)

    @property
    def log(self) -> Path:
        """The log of all stages."""
        return self.path / "log.jsonl"

    def stage(self, label: str) -> Path:
        """Where one stage keeps its checkpoint and its end."""
        return self.path / "checkpoint" / label

    def finished(self, label: str) -> dict[str, Any] | None:
        """What a finished stage left, or None."""
        path = self.stage(label) / "finished.json"
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def finish(self, label: str, facts: Mapping[str, Any]) -> None:
        """Note that a stage is over; its checkpoint is not needed any more."""
        if rank() != 0:
            return
        stage = self.stage(label)
        stage.mkdir(parents=True, exist_ok=True)
        write_whole(stage / "finished.json", json.dumps(facts))
        (stage / "state.pt").unlink(missing_ok=True)

    def _check_same(self) -> None:
        resolved = self.path / _RESOLVED
        if not resolved.is_file():
            raise RecipeError(
                f"there is no run to resume in {self.path}: leave --resume out to start one, or "
                "name its folder with --out."
            )
        before = yaml.safe_load(resolved.read_text()).get("identity")
        if before != self.identity:
            raise RecipeError(
                f"{self.path} holds a run of another recipe or other data: resume it with what "
                "it was started with, or choose a new folder with --out."
            )
