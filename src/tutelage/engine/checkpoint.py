"""A run, put away and taken up again, bit for bit.

Only between two items: a setting's generator is then at its end, so nothing hides in it. The
file is written beside its place and moved there, so there is always a whole one.
"""

import os
import pickle
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.core.errors import CheckpointError
from tutelage.engine.learner import Learner
from tutelage.engine.machine import rank
from tutelage.engine.parallel import load_whole_state, whole_state
from tutelage.engine.setting import AbstractSetting, Stateful

_FORMAT = 1


@dataclass(frozen=True)
class Keep:
    """Where and how often a run is put away.

    Attributes:
        folder: Holds ``state.pt``; made if need be.
        every: Items between two writes.
        identity: Names the run (a hash of its recipe); another run's checkpoint is refused.
    """

    folder: Path
    every: int = 500
    identity: str = ""

    @property
    def file(self) -> Path:
        """The checkpoint."""
        return self.folder / "state.pt"


def save(
    keep: Keep,
    setting: AbstractSetting[Any],
    step: int,
    extras: Mapping[str, Stateful],
) -> None:
    """Write all that a later run needs, or nothing at all."""
    parts = {
        name: whole_state(part) if isinstance(part, Learner) else part.state_dict()
        for name, part in setting.stateful().items()
    }
    if rank() != 0:
        return
    whole = {
        "format": _FORMAT,
        "identity": keep.identity,
        "step": step,
        "parts": parts,
        "extras": {name: extra.state_dict() for name, extra in extras.items()},
        "teachers": {name: each.fingerprint() for name, each in setting.teachers().items()},
        "random": _random_state(),
    }
    unfinished = keep.file.with_suffix(f".{os.getpid()}.part")
    try:
        keep.folder.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            torch.save(whole, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(keep.file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise CheckpointError(
            f"the checkpoint {keep.file} cannot be written: {error.strerror or error}; the one "
            "before it, if any, is whole. Make room, or choose another folder."
        ) from error


def load(keep: Keep, setting: AbstractSetting[Any], extras: Mapping[str, Stateful]) -> int:
    """Put a prepared ``setting`` back where it was; returns the step to go on from."""
    whole = _read(keep)
    _compare(setting, whole["teachers"])
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
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint {keep.file} does not fit this run ({reason}): choose another folder."
        ) from error
    _set_random_state(whole["random"])
    step: int = whole["step"]
    return step


def _read(keep: Keep) -> dict[str, Any]:
    try:
        whole: dict[str, Any] = torch.load(keep.file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"the checkpoint {keep.file} cannot be read ({str(error).splitlines()[0]}): remove it "
            "to start anew."
        ) from error
    if whole.get("format") != _FORMAT:
        raise CheckpointError(
            f"the checkpoint {keep.file} has format {whole.get('format')!r}, and this version "
            f"reads {_FORMAT}: remove it to start anew."
        )
    if whole["identity"] != keep.identity:
        raise CheckpointError(
            f"the checkpoint {keep.file} belongs to another run (its recipe or data differ): "
            "resume with what it was started with, or choose another folder."
        )
    return whole


def _compare(setting: AbstractSetting[Any], before: Mapping[str, int]) -> None:
    for name, teacher in setting.teachers().items():
        if before.get(name) != teacher.fingerprint():
            raise CheckpointError(
                f"{name} is not the teacher that this run was started with: resume with that "
                "one, or choose another folder."
            )


def _random_state() -> dict[str, Any]:
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert isinstance(keys, np.ndarray)
    return {
        "torch": torch.get_rng_state(),
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    words = keys.numpy().astype(np.uint32)
    np.random.set_state((kind, words, position, has_gauss, cached))
