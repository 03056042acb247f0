"""Models that are there already, put on trial: what ``tutelage evaluate`` does."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeInt

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, ModelError, RecipeError
from tutelage.data import Splits, labelled
from tutelage.data.sets import Examples
from tutelage.deployment import export_onnx
from tutelage.evaluation import (
    DataFacts,
    Latency,
    Measured,
    Report,
    check_gates,
    environment,
    file_bytes,
    macs,
    onnx_latency,
    parameters,
    predict,
    torch_latency,
    weight_bytes,
)
from tutelage.evaluation.answers import save_answers
from tutelage.evaluation.examining import examine
from tutelage.evaluation.gates.judging import gates
from tutelage.evaluation.language import reads_tokens
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed
from tutelage.recipe.arms import Desk
from tutelage.recipe.candidates import Candidate, candidate, section_from
from tutelage.recipe.proving import parts
from tutelage.recipe.reading import Data, assign, read
from tutelage.recipe.sections import Asked, Named, Parts, Section
from tutelage.recipe.shelf import Shelf, data_of

FOLDER = Path("evaluations")
"""Where reports go that were not told where to go."""

_Model = str | dict[str, Any]


class Evaluation(Section):
    """An evaluation as data.

    Attributes:
        student: The model on trial: a run folder, an ONNX file, or its description.
        teacher: Whom it is compared with; null for nobody.
        baseline: The same student trained without a teacher; null for none.
        data: What they are asked: a source, or a recipe or run whose data is meant.
        report: The parts of the proof, as in a recipe.
        gates: What the student must reach, as in a recipe.
        seed: Of every random choice.
    """

    student: _Model
    teacher: _Model | None = None
    baseline: _Model | None = None
    data: _Model
    report: Parts = Field(default_factory=lambda: [Named(name="standard")])
    gates: dict[str, Asked] = Field(default_factory=dict)
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Evaluated:
    """What an evaluation made.

    Attributes:
        report: As in ``report.json``.
        folder: Where it lies.
        passed: Whether every gate passed.
    """

    report: dict[str, Any]
    folder: Path
    passed: bool


def plain(words: str) -> Any:
    """A word as it is; ``{...}`` and ``[...]`` as the mapping or list that they write.

    >>> plain("runs/a"), plain("{npz: {path: a.npz}}")
    ('runs/a', {'npz': {'path': 'a.npz'}})
    """
    written = words.strip()
    if not written.startswith(("{", "[")):
        return words
    return assign({}, [f"value={written}"])["value"]


def gates_of(written: list[str]) -> dict[str, Any]:
    """Thresholds by name, from ``NAME=NUMBER`` or the recipes and runs that set them.

    Raises:
        RecipeError: One is neither.
    """
    found: dict[str, Any] = {}
    for words in written:
        path = Path(words)
        if "=" in words and not path.exists():
            found |= assign({}, [words])
        elif path.exists():
            found |= read(path / "resolved.yaml" if path.is_dir() else path).get("gates") or {}
        else:
            raise RecipeError(
                f"--gate {words!r:.200}: write NAME=NUMBER, like accuracy_drop=0.01, or name a "
                "recipe whose gates are meant."
            )
    return found


def evaluate(
    written: Data, out: Path | None, desk: Desk, *, force: bool = False, command: str = ""
) -> Evaluated:
    """Ask all models the test split, once, and write what is found.

    Args:
        written: An `Evaluation` as plain data.
        out: Where the report goes; None for a folder named after the student.
        desk: Where progress is told.
        force: Whether a report that is there already may be replaced.
        command: What the report says to type to make it again.

    Raises:
        TutelageError: One line: a model, the data or an option is wrong; nothing was written.
    """
    asked = section_from(Evaluation, written, "")
    chosen = parts(asked.report, asked.gates)
    _check_gates(asked)
    shelf = Shelf()
    data = data_of(asked.data, shelf)
    if reads_tokens(data.validation):
        raise RecipeError(
            f"data: {data.name} is text, and evaluate asks models that know classes: a run on text "
            "is measured in its own report; name tasks in its recipe (evaluation.tasks)."
        )
    named = {"student": asked.student, "teacher": asked.teacher, "baseline": asked.baseline}
    found = {
        role: candidate(role, words, data, shelf)
        for role, words in named.items()
        if words is not None
    }
    folder = out or FOLDER / found["student"].short
    _check_free(folder, force)
    desk.say("measuring on the test split, opened once")
    test = data.test.open("the evaluation")
    models = {role: one.answers for role, one in found.items()}
    with tempfile.TemporaryDirectory() as spare:
        files, notes = _files(models, data, Path(spare))
        trial = _subjects(asked, found, files, data, test)
        for role, model in models.items():
            trial.know(role, "test", predict(model, test))
        proof = examine(trial, chosen, lambda title: desk.say(f"proof: {title}"))
        measured = _measured(found, trial, notes)
    report = Report(
        recipe={"name": folder.name, "evaluate": asked.model_dump()},
        seed=asked.seed,
        teacher=measured.get("teacher"),
        student=measured["student"],
        baseline=measured.get("baseline"),
        data=DataFacts(
            name=data.name,
            train=0 if trial.train is None else len(trial.train),
            validation=len(data.validation),
            test=len(test),
            origin=str(data.origin.get("licence", "")),
        ),
        gates=asked.gates,
        environment=environment(date=datetime.now(UTC).date().isoformat()),
        command=command,
        parts=proof,
        notes=[*(note for one in found.values() for note in one.notes), *notes],
    )
    figures = report.write(folder)
    answers = {role: arm.predictions for role, arm in report.arms.items()}
    save_answers(folder, answers, data.test.fingerprint())
    return Evaluated(figures, folder, all(gate["passed"] for gate in figures["gates"]))


def _check_gates(asked: Evaluation) -> None:
    check_gates(asked.gates)
    for name in asked.gates:
        for role in gates()[name].needs:
            if getattr(asked, role) is None:
                raise RecipeError(
                    f"gate {name!r} compares with a {role}, and none is given: add --{role}, or "
                    "leave the gate out."
                )


def _check_free(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"--out: {folder} is a file: name a folder.")
    if (folder / "resolved.yaml").exists():
        raise RecipeError(
            f"--out: {folder} is a run's own folder, whose report stays as it is: name another."
        )
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise RecipeError(
            f"--out: {folder} is there already: name another folder, or replace its report by "
            "--force."
        )


def _subjects(
    asked: Evaluation,
    found: Mapping[str, Candidate],
    files: Mapping[str, Path],
    data: Splits,
    test: Examples,
) -> Subjects:
    """Whom and what the proof may look at; what a stranger's model learned from is not known."""
    student, teacher = found["student"], found.get("teacher")
    return Subjects(
        models={role: one.answers for role, one in found.items()},
        test=test,
        validation=data.validation,
        train=None if student.train is None else labelled(student.train),
        taught=None if teacher is None else teacher.taught,
        groups=data.groups,
        files=files,
        seed=asked.seed,
    )


def _measured(
    found: Mapping[str, Candidate], trial: Subjects, notes: list[str]
) -> dict[str, Measured]:
    """Everything that is counted of each model; what could not be goes to the notes."""
    assert trial.validation is not None
    example = trial.validation.batch(torch.arange(1))
    times = _latencies(trial, example)
    measured = {}
    for role, one in found.items():
        model, operations = one.answers, None
        if isinstance(model, OnnxModel):
            counts, heavy, file = model.parameters, model.bytes, file_bytes(model.path)
        else:
            counts, heavy, file = parameters(model).total, weight_bytes(model), None
        try:
            operations = model.macs() if isinstance(model, OnnxModel) else macs(model, example)
        except ModelError as error:
            notes.append(f"MACs of the {role} are not counted: {error}")
        answers = trial.answers(role)
        measured[role] = Measured(answers, counts, heavy, operations, times[role], one.name, file)
    return measured


def _files(
    models: Mapping[str, Observed | OnnxModel], data: Splits, spare: Path
) -> tuple[dict[str, Path], list[str]]:
    """ONNX files of all, where one of them is a file: or their times could not be compared."""
    files = {role: model.path for role, model in models.items() if isinstance(model, OnnxModel)}
    notes = []
    for role, model in models.items() if files else ():
        if not isinstance(model, Observed):
            continue
        path, rows = spare / f"{role}.onnx", torch.arange(min(16, len(data.validation)))
        try:
            export_onnx(model, data.validation.batch(rows), path)
            files[role] = path
        except ExportError as error:
            notes.append(f"The {role} has no time in ONNX Runtime: {error}")
    return files, notes


def _latencies(trial: Subjects, example: Batch) -> dict[str, list[Latency]]:
    """Times of each, in ONNX Runtime first where there are files."""
    models = {role: one for role, one in trial.models.items() if not isinstance(one, OnnxModel)}
    fast = onnx_latency(trial.files, example) if trial.files else {}
    slow = torch_latency(models, example) if models else {}
    return {role: [each[role] for each in (fast, slow) if role in each] for role in trial.models}
