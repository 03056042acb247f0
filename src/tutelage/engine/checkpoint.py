"""A run, put away and taken up again, bit for bit.

Only between two items: a setting's generator is then at its end, so nothing hides in it. The
file is written beside its place and moved there, so there is always a whole one. Its content is
the same whether one process learnt or several: a run may go on with another number of them.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage.core.errors import CheckpointError
from tutelage.engine.learner import Learner
from tutelage.engine.machine import rank, total
from tutelage.engine.options import whole_number
from tutelage.engine.parallel import load_whole_state, whole_state
from tutelage.engine.randomness import random_state, set_random_state
from tutelage.engine.setting import AbstractSetting, Stateful

_FORMAT = 2
_MAGIC = b"tutelage checkpoint\n"
_HEAD = len(_MAGIC) + 32
_KEYS = {"format", "identity", "facts", "step", "parts", "extras", "teachers", "random"}


@dataclass(frozen=True)
class Keep:
    """Where and how often a run is put away.

    Attributes:
        folder: Holds ``state.pt``; made if need be.
        every: Items between two writes; there is one more at the start and one at the end.
        identity: Names the run (a hash of its recipe); another run's checkpoint is refused.
    """

    folder: Path
    every: int = 500
    identity: str = ""

    def __post_init__(self) -> None:
        whole_number(self.every, "Keep: every")
        object.__setattr__(self, "folder", Path(self.folder))  # a text will do

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return self.folder / "state.pt"


def save(
    keep: Keep,
    setting: AbstractSetting[Any],
    step: int,
    extras: Mapping[str, Stateful],
    teachers: Mapping[str, int],
    facts: Mapping[str, int],
    place: torch.device,
) -> None:
    """Write all that a later run needs, or nothing at all.

    Args:
        keep: Where.
        setting: Its learners, and all else in it that has a state.
        step: Items done.
        extras: What else has a state: hooks, validation.
        teachers: Fingerprints, to refuse another teacher.
        facts: By name, what a later start must give alike for the run to be the same one.
        place: The run's device.
    """
    parts = {
        name: whole_state(part) if isinstance(part, Learner) else part.state_dict()
        for name, part in setting.stateful().items()
    }
    failed: CheckpointError | None = None
    if rank() == 0:
        whole = {
            "format": _FORMAT,
            "identity": keep.identity,
            "facts": dict(facts),
            "step": step,
            "parts": parts,
            "extras": {name: extra.state_dict() for name, extra in extras.items()},
            "teachers": dict(teachers),
            "random": random_state(),
        }
        packed = io.BytesIO()
        torch.save(whole, packed)
        try:
            _write(keep, packed.getbuffer())
        except CheckpointError as error:
            failed = error
    # All processes go on, or none, and none before the file is there.
    anywhere = total(failed is not None, place)
    if failed or anywhere:
        raise failed or CheckpointError(f"the first process could not write {keep.file}.")


def _write(keep: Keep, content: memoryview) -> None:
    unfinished = keep.file.with_suffix(".part")  # one name: a killed run leaves one, not many
    try:
        keep.folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(content).digest())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(keep.file)
        _sync_folder(keep.folder)
    except OSError as error:
        _remove(unfinished)
        raise CheckpointError(
            f"the checkpoint {keep.file} cannot be written: {error.strerror or error}; the one "
            "before it, if any, is whole. Make room, or choose another folder."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Let the new name outlive a power cut, where the system can do that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(unfinished: Path) -> None:
    try:
        unfinished.unlink(missing_ok=True)
    except OSError:  # the folder itself cannot be used: that is what is being reported
        return


def load(
    keep: Keep,
    setting: AbstractSetting[Any],
    extras: Mapping[str, Stateful],
    teachers: Mapping[str, int],
    facts: Mapping[str, int],
) -> int:
    """Put a prepared ``setting`` back where it was; returns the step to go on from."""
    whole = _read(keep)
    for name, now in facts.items():
        then = whole["facts"].get(name)
        if then != now:
            raise CheckpointError(
                f"the checkpoint {keep.file} is of a run with {name} {then}, and this one has "
                f"{now}: resume with what it was started with, or choose another folder."
            )
    for name, fingerprint in teachers.items():
        if whole["teachers"].get(name) != fingerprint:
            raise CheckpointError(
                f"{name} is not the teacher that this run was started with: resume with that "
                "one, or choose another folder."
            )
    parts = setting.stateful()
    if set(parts) != set(whole["parts"]):
        raise CheckpointError(
            f"the checkpoint {keep.file} holds {sorted(whole['parts'])}, and this setting needs "
            f"{sorted(parts)}: it belongs to another run; choose another folder."
        )
    try:
        for name, part in parts.items():
            if isinstance(part, Learner):
                load_whole_state(part, whole["parts"][name])
            else:
                part.load_state_dict(whole["parts"][name])
        for name, extra in extras.items():
            if name in whole["extras"]:
                extra.load_state_dict(whole["extras"][name])
        set_random_state(whole["random"])
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"the checkpoint {keep.file} does not fit this run ({_reason(error)}): choose another "
            "folder."
        ) from error
    step: int = whole["step"]
    return step


def _read(keep: Keep) -> dict[str, Any]:
    try:
        content = keep.file.read_bytes()
    except OSError as error:
        raise _unreadable(keep, error.strerror or str(error)) from error
    if not content.startswith(_MAGIC):
        raise _unreadable(keep, "it is no checkpoint of tutelage")
    body = memoryview(content)[_HEAD:]
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : _HEAD]:
        raise _unreadable(keep, "it is damaged: its checksum is wrong")
    try:
        whole: dict[str, Any] = torch.load(io.BytesIO(body), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a strange pickle makes torch raise
        raise _unreadable(keep, _reason(error)) from error
    found = whole.get("format") if isinstance(whole, dict) else None
    if found != _FORMAT or set(whole) != _KEYS:
        raise CheckpointError(
            f"the checkpoint {keep.file} has format {found!r}, and this version reads {_FORMAT}: "
            "remove it to start anew."
        )
    if whole["identity"] != keep.identity:
        raise CheckpointError(
            f"the checkpoint {keep.file} belongs to another run (its recipe or data differ): "
            "resume with what it was started with, or choose another folder."
        )
    return whole


def _unreadable(keep: Keep, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint {keep.file} cannot be read ({reason}): remove it to start anew."
    )


def _reason(error: Exception) -> str:
    """The line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, KeyError) and lines:
        return f"it lacks {lines[0]}"
    if not lines:
        return type(error).__name__
    return lines[1] if lines[0].endswith(":") and len(lines) > 1 else lines[0]
