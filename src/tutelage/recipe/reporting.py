"""The end of a run: the test set is opened once, all is measured on it, files are written."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError
from tutelage.deployment import Parity, export_onnx, model_card
from tutelage.deployment.card import task_of
from tutelage.evaluation import (
    Measured,
    Predictions,
    Report,
    SeedResult,
    accuracy,
    environment,
    onnx_latency,
    parameters,
    predict,
    print_summary,
    torch_latency,
    weight_bytes,
)
from tutelage.evaluation.answers import save_answers
from tutelage.evaluation.examining import examine
from tutelage.evaluation.fidelity import agreement
from tutelage.evaluation.language import reads_tokens
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.report import write_whole
from tutelage.models import Observed, save_weights
from tutelage.models.tempered import KEY as TEMPERATURE
from tutelage.recipe.arms import Desk
from tutelage.recipe.caching import notes
from tutelage.recipe.calibrating import told
from tutelage.recipe.compressing.sweep import notes as compressed_notes
from tutelage.recipe.compressing.sweep import on_test
from tutelage.recipe.facts import facts_of, macs_of
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.outcome import Arms, given, times, training, tried, tuned
from tutelage.recipe.plan import Plan
from tutelage.recipe.proving import parts, subjects
from tutelage.recipe.referencing import reference_of
from tutelage.recipe.text_reporting import print_text_summary, text_figures
from tutelage.recipe.tuning import Choice


def report(arms: Arms, choices: Sequence[Choice], desk: Desk, *, command: str) -> dict[str, Any]:
    """Measure, write and show; returns ``report.json``'s content.

    A run that was finished before keeps its report: what was measured is not measured again.
    """
    if desk.folder is None:
        figures = _figures(arms, choices, None, desk, command)
    else:
        written = desk.folder.path / "report.json"
        if desk.folder.finished("report") is not None and written.is_file():
            desk.say("this run was finished before: its report stands as it is")
            figures = json.loads(written.read_text(encoding="utf-8"))
        else:
            figures = _figures(arms, choices, desk.folder, desk, command)
    if figures.get("kind") == "language":
        print_text_summary(figures, desk)
    else:
        print_summary(figures, desk.console)
    return figures


def _figures(
    arms: Arms, choices: Sequence[Choice], folder: RunFolder | None, desk: Desk, command: str
) -> dict[str, Any]:
    if reads_tokens(arms.plan.splits.validation):
        return text_figures(arms, choices, folder, desk, command)
    if folder is None:
        return _measure(arms, choices, None, desk, command).figures
    return _write(arms, choices, folder, desk, command)


def _write(
    arms: Arms, choices: Sequence[Choice], folder: RunFolder, desk: Desk, command: str
) -> dict[str, Any]:
    made, student = arms.plan, arms.students[0]
    words = {"recipe": made.name, "classes": "\n".join(made.splits.classes)}
    save_weights(
        student.model.model,
        folder.path / "student.safetensors",
        metadata=words | ({} if student.divisor is None else {TEMPERATURE: repr(student.divisor)}),
    )
    found = _measure(arms, choices, folder.path, desk, command)
    figures = found.write(folder.path)
    answers = {role: arm.predictions for role, arm in found.arms.items()}
    save_answers(folder.path, answers, made.splits.test.fingerprint())
    card = model_card(figures, temperature=student.divisor, task=task_of(made.splits.example_shape))
    write_whole(folder.path / "MODEL_CARD.md", card)
    teacher = arms.shipped["teacher"]
    reference_of(folder.path, made.splits.validation, teacher, desk)
    folder.finish("report", {})
    return figures


def _measure(
    arms: Arms, choices: Sequence[Choice], folder: Path | None, desk: Desk, command: str
) -> Report:
    made, models = arms.plan, arms.shipped
    desk.say("measuring on the test split, opened once")
    test = made.splits.test.open("the report")
    answers = {role: predict(model, test) for role, model in models.items()}
    smaller = _shipped(arms, answers, test)
    others = _others(arms, test)
    with tempfile.TemporaryDirectory() as spare:
        files, more = _exports(models, made, folder, Path(spare))
        if "student" in files:
            more.append(_same_everywhere(files["student"], answers["student"], test))
        measured = _measured(models, answers, files, made)
        trial = subjects(made, tried(arms), test, others)
        trial = replace(trial, training=training(arms), files=files)
        for role, found in answers.items():
            trial.know(role, "test", found)
        proof = examine(
            trial, parts(made.report, made.gates), lambda title: desk.say(f"proof: {title}")
        )
    return Report(
        recipe=dict(made.recipe),
        seed=made.seeds[0],
        teacher=measured["teacher"],
        student=measured["student"],
        baseline=measured.get("baseline"),
        data=facts_of(made, choices, len(test), smaller),
        seeds=_seeds(arms, answers, others),
        gates=made.gates,
        environment=environment(date=datetime.now(UTC).date().isoformat()),
        curves={trained.label: trained.curve for trained in arms.shown},
        command=command,
        parts=proof,
        compression=smaller,
        notes=[
            *arms.taught.notes,
            *notes(made),
            *made.way.notes(),
            *given(arms, test),
            *told(arms.students[0].temperature),
            *map(tuned, choices),
            *compressed_notes(smaller),
            *times(arms),
            *more,
        ],
    )


def _shipped(arms: Arms, answers: Mapping[str, Predictions], test: Any) -> dict[str, Any] | None:
    """What the sweep came to, with the chosen file's answers to the test split, asked once."""
    found = arms.compressed
    if found is None or found.file is None:
        return None if found is None else found.facts
    tested = on_test(found.file, answers["student"], answers["teacher"], test)
    return {**found.facts, "test": tested}


def _others(arms: Arms, test: Any) -> dict[str, list[Predictions]]:
    """The test answers of the seeds that are not shipped."""
    kinds = {"student": arms.students[1:], "baseline": arms.baselines[1:]}
    return {
        role: [predict(trained.model, test) for trained in more]
        for role, more in kinds.items()
        if more
    }


def _seeds(
    arms: Arms,
    answers: Mapping[str, Predictions],
    others: Mapping[str, Sequence[Predictions]],
) -> list[SeedResult]:
    reached = {
        role: [accuracy(each.logits, each.targets) for each in [first, *others.get(role, [])]]
        for role, first in answers.items()
    }
    alone = reached.get("baseline", [None] * len(arms.plan.seeds))
    found = zip(arms.plan.seeds, reached["student"], alone, strict=True)
    return [SeedResult(*each) for each in found]


def _exports(
    models: Mapping[str, Observed], made: Plan, folder: Path | None, spare: Path
) -> tuple[dict[str, Path], list[str]]:
    """ONNX files of all three: the student's to ship, the others' for their latency."""
    if not made.export:
        return {}, []
    rows = torch.arange(min(256, len(made.splits.validation)))
    examples, files, notes = made.splits.validation.batch(rows), {}, []
    for role, model in models.items():
        ships = role == "student" and folder is not None
        path = folder / "student.onnx" if ships and folder else spare / f"{role}.onnx"
        try:
            parity: Parity = export_onnx(
                model, examples, path, names=made.splits.classes, source=made.name
            )
        except ExportError as error:
            if role == "student":
                raise
            notes.append(f"The {role} could not be exported to ONNX for its latency: {error}")
            continue
        files[role] = path
        if role == "student":
            notes.append(
                f"student.onnx computes what the student computes: on {parity.examples} real "
                f"validation examples the largest difference of a logit is "
                f"{parity.max_difference:.2g}, and {parity.equal_top1:.1%} of the answers are "
                "the same."
            )
    return files, notes


def _same_everywhere(file: Path, student: Predictions, test: Any) -> str:
    """Whether the exported file answers all of the test split as the network does."""
    found = predict(OnnxModel(file), test)
    same = agreement(student.logits, found.logits)
    apart = float((student.logits - found.logits).abs().max())
    return (
        f"On all {len(test):,} test examples student.onnx gives {same:.2%} of the student's "
        f"answers, and no logit differs by more than {apart:.2g}."
    )


def _measured(
    models: Mapping[str, Observed],
    answers: Mapping[str, Predictions],
    files: Mapping[str, Path],
    made: Plan,
) -> dict[str, Measured]:
    example: Batch = made.splits.validation.batch(torch.arange(1))
    plain = torch_latency(models, example)
    # One backend for all, or their times could not be compared.
    fast = onnx_latency(files, example) if set(files) == set(models) else {}
    return {
        role: Measured(
            answers[role],
            parameters(model).total,
            weight_bytes(model),
            macs_of(model, example),
            [*([fast[role]] if role in fast else []), plain[role]],
            name=made.teacher.shown if role == "teacher" else made.shown,
            file_bytes=files[role].stat().st_size if role in files else None,
        )
        for role, model in models.items()
    }
