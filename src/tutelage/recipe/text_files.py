"""What a run on text leaves to be used: weights, an ONNX file, and a Hugging Face folder."""

import tempfile
from pathlib import Path

import torch

from tutelage.core.errors import ModelError, NotInstalled
from tutelage.data.text import LibraryTokenizer
from tutelage.deployment import export_onnx
from tutelage.models import Observed, save_weights
from tutelage.models.hf_layout import save_hf
from tutelage.models.shrunk import has_adapters, merged
from tutelage.recipe.outcome import Arms

FOLDER = "student"
_ROWS = 8  # of validation text that an exported file is held against


def write_student(arms: Arms, folder: Path) -> list[str]:
    """Write ``student.safetensors`` and, unless ``export: false``, what other tools read.

    Returns:
        What a reader of the report must know of these files, a sentence each.

    Raises:
        ExportError: The ONNX file does not compute what the student computes.
    """
    made, student = arms.plan, arms.students[0].model
    words = {"recipe": made.name}
    save_weights(student.model, folder / "student.safetensors", metadata=words)
    if not made.export:
        return []
    plain = merged(student.model) if has_adapters(student.model) else student.model
    whole = Observed(plain, intake=student.intake, read=student.read).eval()
    rows = torch.arange(min(_ROWS, len(made.splits.validation)))
    batch = made.splits.validation.batch(rows)
    parity = export_onnx(whole, batch, folder / "student.onnx", source=made.name)
    return [
        f"student.onnx computes what the student computes: on {parity.examples} rows of validation "
        f"text the largest difference of a logit is {parity.max_difference:.2g}, and "
        f"{parity.equal_top1:.1%} of the likeliest tokens are the same.",
        *_hugging_face(arms, whole, folder / FOLDER),
    ]


def _hugging_face(arms: Arms, student: Observed, target: Path) -> list[str]:
    tokenizer = getattr(arms.plan.splits.validation, "tokenizer", None)
    try:
        with tempfile.TemporaryDirectory() as spare:
            files = (
                tokenizer.save_folder(spare) if isinstance(tokenizer, LibraryTokenizer) else None
            )
            save_hf(student, target, tokenizer_files=files)
    except (ModelError, NotInstalled) as error:
        return [f"There is no folder in Hugging Face's layout: {error}"]
    return [f"The folder {FOLDER} holds the student in Hugging Face's layout."]
