"""The end of a run on text: the test text is read once, by all models, and files are written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch

from tutelage.core.errors import DataError, ModelError
from tutelage.core.text import TextTokenizer
from tutelage.data import Examples
from tutelage.deployment.language_card import language_card
from tutelage.evaluation import environment, parameters, torch_latency, weight_bytes
from tutelage.evaluation.costs.writing import WritingCost, writing_costs
from tutelage.evaluation.faces.language import terminal
from tutelage.evaluation.language import (
    LanguageReport,
    MeasuredLanguage,
    read_tokens,
)
from tutelage.evaluation.language.asking import ask_all
from tutelage.evaluation.language.report import LanguageSeed
from tutelage.evaluation.language.writing import reads_at_most, why_silent
from tutelage.evaluation.report import write_whole
from tutelage.models import Observed, seq2seq
from tutelage.recipe.arms import Desk
from tutelage.recipe.caching import notes
from tutelage.recipe.facts import facts_of, macs_of
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.outcome import Arms, times, tuned
from tutelage.recipe.plan import Plan
from tutelage.recipe.proving import parts
from tutelage.recipe.tasked import tasks_of, text_evaluation
from tutelage.recipe.text_apart import is_apart, read_apart
from tutelage.recipe.text_files import write_student
from tutelage.recipe.text_read import Read, bytes_of, read_beside
from tutelage.recipe.tuning import Choice

_READ, _WRITTEN = 128, 32  # tokens, where writing is timed


def text_figures(
    arms: Arms, choices: Sequence[Choice], folder: RunFolder | None, desk: Desk, command: str
) -> dict[str, Any]:
    """Measure on the test text and, with a folder, write the report, the student and its card."""
    desk.say("measuring on the test split, opened once")
    test = arms.plan.splits.test.open("the report")
    read = read_apart(arms, test) if is_apart(arms.plan) else read_beside(arms, test)
    found = _report(arms, choices, desk, command, read)
    if folder is None:
        return found.figures
    more = write_student(arms, folder.path)
    found = replace(found, notes=[*found.notes, *more])
    figures = found.write(folder.path)
    write_whole(folder.path / "MODEL_CARD.md", language_card(figures))
    folder.finish("report", {})
    return figures


def print_text_summary(figures: Mapping[str, Any], desk: Desk) -> None:
    """The table of the models and the verdict, on the desk's console."""
    desk.say(terminal(figures))


def _report(
    arms: Arms, choices: Sequence[Choice], desk: Desk, command: str, read: Read
) -> LanguageReport:
    made = arms.plan
    writing, told = _writing(made, read.models)
    return LanguageReport(
        recipe=dict(made.recipe),
        seed=made.seeds[0],
        models=_measured(arms, read, writing),
        apart=read.apart,
        data=facts_of(made, choices, len(read.test), None),
        text_bytes=bytes_of(read.test, read.tables["student"]),
        seeds=_seeds(arms, read),
        gates=made.gates,
        environment=environment(date=datetime.now(UTC).date().isoformat()),
        curves={trained.label: trained.curve for trained in arms.shown},
        command=command,
        notes=[
            *arms.taught.notes,
            *notes(made),
            *made.way.notes(),
            *map(tuned, choices),
            *times(arms),
            *told,
        ],
        parts=read.parts,
        tasks=_tasks(arms, read, desk),
        length=read.test.example_shape[0],
        absent=read.absent,
    )


def _tasks(arms: Arms, read: Read, desk: Desk) -> list[dict[str, Any]]:
    """Every task, asked of the teacher and of all seeds."""
    tasks = tasks_of(text_evaluation(arms.plan.recipe).tasks)
    tokenizer: TextTokenizer | None = getattr(read.test, "tokenizer", None)
    if not tasks:
        return []
    if tokenizer is None:
        raise DataError("evaluation.tasks: the texts have no tokenizer, by which tasks are read.")
    several = {role: [model] for role, model in read.models.items()}
    for role, arm in (("student", arms.students), ("baseline", arms.baselines)):
        if role in several:
            several[role] += [trained.model for trained in arm[1:]]
    return [
        ask_all(task, several, tokenizer, seeds=arms.plan.seeds, say=desk.say) for task in tasks
    ]


def _writing(
    made: Plan, models: Mapping[str, Observed]
) -> tuple[dict[str, WritingCost], list[str]]:
    """What writing costs the models that write, and why it is not known of others."""
    asked = text_evaluation(made.recipe).speed
    if not ("cost" in parts(made.report) if asked is None else asked):
        return {}, []
    silent = {
        role: why
        for role, model in models.items()
        if (why := why_silent(model)) and model.read is not seq2seq
    }
    told = [f"The {role}'s writing is not timed: {why}." for role, why in silent.items()]
    able = {role: model for role, model in models.items() if role not in silent}
    room = min(map(reads_at_most, able.values()), default=0)
    tokens = min(_WRITTEN, room // 2)
    if tokens < 1:
        return {}, told
    try:
        prompt = _prompt(made.splits.validation, min(_READ, room - tokens - 1))
        return writing_costs(able, prompt, tokens=tokens), told
    except ModelError as error:
        return {}, [*told, f"Writing is not timed: {error}"]


def _prompt(text: Examples, most: int) -> torch.Tensor:
    """The first tokens of validation text, ``(1, most)`` or as many as there are."""
    found: list[torch.Tensor] = []
    for row in range(len(text)):
        batch = text.batch(torch.tensor([row]))
        inputs = batch.inputs if isinstance(batch.inputs, Mapping) else {"input_ids": batch.inputs}
        tokens = inputs["input_ids"]
        seen = inputs.get("attention_mask", torch.ones_like(tokens)) != 0
        found.append(tokens[seen])
        if sum(map(len, found)) >= most:
            break
    return torch.cat(found)[None, : max(most, 1)]


def _measured(
    arms: Arms, read: Read, writing: Mapping[str, WritingCost]
) -> dict[str, MeasuredLanguage]:
    made = arms.plan
    example = made.splits.validation.batch(torch.arange(1))
    plain = torch_latency(read.models, example)
    return {
        role: MeasuredLanguage(
            read.tables[role],
            parameters(model).total,
            weight_bytes(model),
            macs_of(model, example),
            [plain[role]],
            name=made.teacher.shown if role == "teacher" else made.shown,
            facts={"writing": writing[role].as_dict() if role in writing else None},
        )
        for role, model in read.models.items()
    }


def _seeds(arms: Arms, read: Read) -> list[LanguageSeed]:
    found = []
    for i, seed in enumerate(arms.plan.seeds):
        others = {"student": arms.students[i].model}
        if arms.baselines:
            others["baseline"] = arms.baselines[i].model
        tables = read.tables if i == 0 else read_tokens(others, read.test)[0]
        values = {role: tables[role].nll.mean().item() for role in others}
        found.append(LanguageSeed(seed, values["student"], values.get("baseline")))
    return found
