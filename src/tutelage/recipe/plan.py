"""From a recipe to the things it names: data, networks, objective. Nothing is trained here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.core.errors import RecipeError, TutelageError
from tutelage.core.outputs import Outputs
from tutelage.core.seeds import derive
from tutelage.data import Augment, Loader, Splits, labelled
from tutelage.data.sets import Examples
from tutelage.engine import Learner, Machine
from tutelage.models import Intake, Observed, class_order, load_weights
from tutelage.models.build import build_model
from tutelage.models.readers import reader_of
from tutelage.objectives.base import AbstractObjective, Sum, Weighted
from tutelage.recipe import schema, sections
from tutelage.recipe.sections import Named, Recipe, Train
from tutelage.recipe.store import file_hash

Make = Callable[[int], Observed]
"""From a seed to a network with its first weights."""


@dataclass(frozen=True)
class TeacherPlan:
    """Where the teacher comes from."""

    make: Make
    shown: str
    given: bool
    train: Train | None
    seed: int
    sees: Examples
    expect: float | None
    key: Any


@dataclass(frozen=True)
class Given:
    """What is there already and need not be made from the recipe's words.

    Attributes:
        whole: The data with all its labels.
        teacher: Makes the teacher, where it is an object from Python.
        student: Makes the student, likewise.
        objective: Makes the objective, likewise.
    """

    whole: Splits
    teacher: Make | None = None
    student: Make | None = None
    objective: Callable[[], AbstractObjective] | None = None


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, made from a recipe or from Python objects.

    Attributes:
        name: Of the run.
        splits: The data; its train set keeps only the labels that the student may see.
        teacher: How to get the teacher.
        student: Makes the student of one seed.
        objective: Makes the objective anew, for each student.
        train: How the student learns.
        baseline: How the same student learns without a teacher; None for no baseline.
        seeds: One student (and baseline) for each.
        export: Whether to write ONNX.
        gates: What must be reached.
        recipe: The recipe with all defaults, as plain data, for the report.
    """

    name: str
    splits: Splits
    teacher: TeacherPlan
    student: Make
    objective: Callable[[], AbstractObjective]
    train: Train
    baseline: Train | None
    seeds: tuple[int, ...]
    export: bool
    gates: Mapping[str, float]
    recipe: Mapping[str, Any]

    @property
    def probe(self) -> Any:
        """A few training examples, un-augmented."""
        return self.splits.train.batch(torch.arange(min(8, len(self.splits.train))))


def plan(recipe: Recipe, given: Given) -> Plan:
    """Resolve every name, file and shape of ``recipe``; nothing is written.

    Args:
        recipe: What to do.
        given: The data, and what comes from Python.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    whole, teacher = given.whole, recipe.teacher
    splits = few_labels(whole, recipe)
    statistics = channel_statistics(splits.train)
    order = class_order(teacher.classes, list(whole.classes)) if teacher.classes else None
    made = Plan(
        name=recipe.name,
        splits=splits,
        teacher=TeacherPlan(
            make=given.teacher or _network("teacher", teacher, whole, statistics, order),
            shown=shown(teacher.model),
            given=given.teacher is not None or teacher.weights is not None,
            train=teacher.train,
            seed=teacher.seed,
            sees=whole.train if teacher.labels == "all" else labelled(splits.train),
            expect=teacher.expect,
            key=[teacher.model_dump(exclude={"expect"}), _content(teacher.weights), statistics],
        ),
        student=given.student or _network("student", recipe.student, whole, statistics),
        objective=given.objective or (lambda: objective(recipe.objective)),
        train=recipe.train,
        baseline=recipe.baseline,
        seeds=tuple(recipe.seeds),
        export=recipe.export,
        gates=recipe.gates,
        recipe=recipe.model_dump(),
    )
    check_plan(made)
    return made


def load_data(recipe: Recipe) -> Splits:
    """The recipe's data with all its labels."""
    splits: Splits = schema.build("data", recipe.data.source, "data.source")
    return splits


def few_labels(whole: Splits, recipe: Recipe) -> Splits:
    """The data with as many labels as the student may see."""
    if recipe.data.labels is None:
        return whole
    try:
        return whole.unlabelled(labels=recipe.data.labels, seed=0)
    except TutelageError as error:
        raise type(error)(f"data.labels: {error}") from error


def objective(written: list[Named]) -> AbstractObjective:
    """``[{ce: {weight: 0.1}}, {kd: {weight: 0.9, temperature: 4}}]`` -> their weighted sum."""
    parts: list[AbstractObjective] = []
    for index, named in enumerate(written):
        key, options = f"objective.{index}", dict(named.options)
        weight = options.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise RecipeError(
                f"{key}.{named.name}.weight: got {weight!r}: this should be a number."
            )
        made = schema.build("objective", Named(name=named.name, options=options), key)
        try:
            parts.append(Weighted(made, float(weight)))
        except TutelageError as error:
            raise type(error)(f"{key}.{named.name}.weight: {error}") from error
    if all(not part.needs_teacher for part in parts):
        raise RecipeError("objective: none of its terms looks at the teacher: add kd, say.")
    return parts[0] if len(parts) == 1 else Sum(*parts)


def learner(model: Observed, train: Train) -> Learner:
    """A network with the optimizer, schedule, clipping and average that ``train`` says."""
    rate = train.learning_rate
    return Learner(
        model,
        schema.build("optimizer", train.optimizer, "train.optimizer", learning_rate=rate),
        schedule=schema.build("schedule", train.schedule, "train.schedule"),
        clip=train.clip,
        average=train.average,
    )


def loader(examples: Examples, train: Train, seed: int) -> Loader:
    """Batches of ``examples`` as ``train`` says."""
    steps = [schema.build("augment", a, f"train.augment.{i}") for i, a in enumerate(train.augment)]
    # A last batch of one example would break BatchNorm; no example is lost for good, as the
    # order changes from epoch to epoch.
    lonely = len(examples) % train.batch_size == 1 and len(examples) > 1
    return Loader(
        examples,
        min(train.batch_size, len(examples)),
        augment=Augment(steps) if steps else None,
        seed=derive(seed, "order"),
        drop_last=lonely,
    )


def machine(train: Train) -> Machine:
    """What ``train`` runs on."""
    return Machine(
        device=train.device,
        precision=train.precision,
        accumulate=train.accumulate,
        channels_last=train.channels_last,
        compile=train.compile,
        parallel=train.parallel,
    )


def channel_statistics(examples: Examples) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of each channel over (at most 10,000) training images."""
    if len(examples.example_shape) != 3:
        return None
    rows = torch.linspace(0, len(examples) - 1, min(len(examples), 10_000)).long()
    pixels = examples.batch(rows).inputs
    assert isinstance(pixels, torch.Tensor)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp(min=1e-3)
    return [round(float(m), 5) for m in mean], [round(float(s), 5) for s in std]


def shown(named: Named) -> str:
    """``vgg(widths=[16, 32])``: a model's name for people."""
    options = ", ".join(f"{key}={value}" for key, value in named.options.items())
    return f"{named.name}({options})" if options else named.name


def check_plan(made: Plan) -> None:
    """Let everything be built once and meet one batch, so that a run cannot fail on its words."""
    batch = made.probe
    with torch.no_grad():
        answers = {}
        for role, observed in (("student", made.student(0)), ("teacher", made.teacher.make(0))):
            taps = made.objective().taps[0 if role == "student" else 1]
            answers[role] = _answer(role, observed, taps, batch, len(made.splits.classes))
        want = made.objective()
        try:
            want.bind(answers["student"], answers["teacher"])
            want(answers["student"], answers["teacher"], batch)
        except TutelageError as error:
            raise type(error)(f"objective: {error}") from error
    for key, train in (("train", made.train), ("baseline", made.baseline)):
        if train is not None:
            _check_train(key, train, made.splits)
    if made.teacher.train is not None:
        _check_train("teacher.train", made.teacher.train, made.splits)
    elif not made.teacher.given:
        raise RecipeError(
            "teacher: it knows nothing yet: give weights, or train: {epochs: 10} to train it first."
        )


def _check_train(key: str, train: Train, splits: Splits) -> None:
    try:
        learner(Observed(nn.Linear(1, 1)), train)
        loader(splits.train, train, 0)
        machine(train)
    except TutelageError as error:
        raise type(error)(str(error).replace("train.", f"{key}.", 1)) from error


def _answer(role: str, observed: Observed, taps: Any, batch: Any, classes: int) -> Outputs:
    try:
        observed.tap(taps).eval()
        outputs: Outputs = observed(batch)
    except TutelageError as error:
        raise type(error)(f"{role}: {error}") from error
    except RuntimeError as error:  # torch's own words for shapes that do not fit
        first = str(error).splitlines()[0]
        raise RecipeError(
            f"{role}.model: it cannot read examples of shape {tuple(batch.inputs.shape[1:])} "
            f"({first}): choose another model, or set intake.size or intake.channels."
        ) from error
    if outputs.logits.shape[-1] != classes:
        raise RecipeError(
            f"{role}.model: it gives {outputs.logits.shape[-1]} logits, and the data has "
            f"{classes} classes: choose the classes it was made for."
        )
    return outputs


def _network(
    role: str,
    section: sections.Teacher | sections.Student,
    splits: Splits,
    statistics: tuple[list[float], list[float]] | None,
    order: list[int] | None = None,
) -> Make:
    shape = splits.train.example_shape
    intake = section.intake
    inner = (intake.channels or shape[0], *([intake.size] * 2 if intake.size else shape[1:]))
    own = section.classes if isinstance(section, sections.Teacher) else None
    classes = len(own or splits.classes)
    spec = _spec(role, section.model)

    def make(seed: int) -> Observed:
        torch.manual_seed(derive(seed, "weights"))
        try:
            model = build_model(spec, classes=classes, shape=inner if len(shape) == 3 else shape)
        except TutelageError as error:
            raise type(error)(f"{role}.model: {error}") from error
        if section.weights is not None:
            try:
                load_weights(model, Path(section.weights))
            except TutelageError as error:
                raise type(error)(f"{role}.weights: {error}") from error
        front = _intake(role, section.intake, shape, statistics)
        return Observed(model, intake=front, read=reader_of(model), classes=order)

    return make


def _spec(role: str, named: Named) -> Any:
    if ":" in named.name:
        return {named.name: named.options} if named.options else named.name
    given = {"classes"} | ({"channels", "inputs", "size", "row"} - set(named.options))
    return {named.name: schema.checked("model", named, f"{role}.model", given)}


def _intake(
    role: str,
    written: sections.Intake,
    shape: tuple[int, ...],
    statistics: tuple[list[float], list[float]] | None,
) -> nn.Module | None:
    if statistics is None:
        if written != sections.Intake():
            raise RecipeError(f"{role}.intake: these examples are no images; leave it out.")
        return None
    mean, std = written.mean or statistics[0], written.std or statistics[1]
    channels = written.channels or shape[0]
    for key, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise RecipeError(
                f"{role}.intake.{key}: got {len(values)} values, and the model reads {channels} "
                "channels: give one for each."
            )
    if channels != shape[0] and len(mean) != channels:
        mean, std = mean * channels, std * channels
    return Intake(mean, std, size=written.size, channels=written.channels)


def _content(weights: str | None) -> str | None:
    return None if weights is None or not Path(weights).is_file() else file_hash(Path(weights))
