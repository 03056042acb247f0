"""``answers.safetensors``: what each model of a report answered, kept to compare runs later."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tutelage.core.errors import DataError
from tutelage.evaluation.predict import Predictions

FILE = "answers.safetensors"


@dataclass(frozen=True)
class Kept:
    """The answers of a report.

    Attributes:
        models: By role, each on the same examples in the same order.
        fingerprint: SHA-256 of the test split that was asked.
    """

    models: Mapping[str, Predictions]
    fingerprint: str


def save_answers(folder: Path, models: Mapping[str, Predictions], fingerprint: str) -> Path:
    """Write ``answers.safetensors``: logits of each model, targets, ids; whole or not at all.

    Args:
        folder: Where ``report.json`` is.
        models: By role; all on the same examples.
        fingerprint: Of the test split.
    """
    from safetensors.torch import save

    first = next(iter(models.values()))
    tensors = {f"logits.{role}": each.logits.contiguous() for role, each in models.items()}
    tensors |= {"targets": first.targets.contiguous(), "ids": first.ids.contiguous()}
    words = {"test": fingerprint, "classes": "\n".join(first.classes)}
    path, temporary = folder / FILE, folder / f".{FILE}.{os.getpid()}.tmp"
    try:
        # Not save_file: it makes files that nobody but their owner may read.
        temporary.write_bytes(save(tensors, words))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_answers(folder: Path) -> Kept | None:
    """What `save_answers` wrote there; None where there is no such file.

    Raises:
        DataError: It cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            words = file.metadata() or {}
            found: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        classes = tuple(words["classes"].split("\n"))
        models = {
            name.removeprefix("logits."): Predictions(
                logits, found["targets"], found["ids"], classes
            )
            for name, logits in found.items()
            if name.startswith("logits.")
        }
        return Kept(models, words["test"])
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(
            f"{path} cannot be read ({type(error).__name__}): it was written by another program, "
            "or is broken; remove it to compare figures alone."
        ) from error
