"""From a recipe to the things it names: data, networks, objective. Nothing is trained here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tutelage.core.batch import Batch
from tutelage.core.errors import TutelageError
from tutelage.core.outputs import Answers
from tutelage.core.seeds import derive
from tutelage.core.source import Source
from tutelage.data import Splits, labelled
from tutelage.data.sets import Examples
from tutelage.engine import AbstractSetting, Learner
from tutelage.models import Observed, class_order
from tutelage.objectives.base import AbstractObjective
from tutelage.recipe import schema
from tutelage.recipe.crossed import cutter_of, mapped, own_data
from tutelage.recipe.equipment import learner, variants
from tutelage.recipe.headless import heads_of, is_headless, learning, listening, with_paths
from tutelage.recipe.networks import (
    Join,
    Make,
    Statistics,
    channel_statistics,
    content_of,
    grafting,
    network,
    shown,
)
from tutelage.recipe.objective import Part, joined, parts_of
from tutelage.recipe.outside import outside_sets
from tutelage.recipe.remote import absent
from tutelage.recipe.sections import Cache, Compress, Named, Recipe, Server, Train
from tutelage.recipe.shrinking import NAME, Shrink, shrinking
from tutelage.recipe.texts import outputs_of
from tutelage.recipe.ways import Batches, Way, texts_of, way


@dataclass(frozen=True)
class TeacherPlan:
    """Where the teacher comes from.

    Attributes:
        make: Makes it, with the weights it starts with.
        shown: What people call it.
        given: Whether it knows something already.
        train: How it is trained first, if it is.
        seed: Of its first weights and its training.
        sees: What it is trained on.
        expect: The accuracy it is known for.
        key: All that it is made of, as plain data.
        own: The data cut by a tokenizer of its own; None for the student's.
        server: Where it is asked; None for a network here.
    """

    make: Make
    shown: str
    given: bool
    train: Train | None
    seed: int
    sees: Examples
    expect: float | None
    key: Any
    own: Splits | None = None
    server: Server | None = None


@dataclass(frozen=True)
class Given:
    """What is there already and need not be made from the recipe's words.

    Attributes:
        whole: The data with all its labels.
        teacher: Makes the teacher, where it is an object from Python.
        student: Makes the student, likewise.
        objective: Makes the objective, likewise.
        key: What tells these objects from others, as plain data.
    """

    whole: Splits
    teacher: Make | None = None
    student: Make | None = None
    objective: Callable[[], AbstractObjective] | None = None
    key: Any = None


@dataclass(frozen=True)
class Plan:
    """Everything a run needs, made from a recipe or from Python objects.

    Attributes:
        name: Of the run.
        splits: The data; its train set keeps only the labels that the student may see.
        teacher: How to get the teacher.
        student: Makes the student of one seed.
        shrink: Makes the student of its teacher; None where it has weights of its own.
        join: Makes of a student and its teacher the network that learns; None for the student
            itself.
        several: Makes versions of each example of the batches that the student learns from.
        shown: What people call the student.
        parts: Makes the objective's parts anew, for each student.
        way: Who learns from whom.
        train: How the student learns.
        baseline: How the same student learns without a teacher; None for no baseline.
        seeds: One student (and baseline) for each.
        export: Whether to write ONNX.
        calibrate: Whether a temperature is fitted on validation.
        gates: What must be reached.
        report: The parts of the proof, as the recipe names them.
        control: Whether a student of a teacher that knows nothing is trained, too.
        outside: Sets the models were never meant for, by name, as the models read them.
        recipe: The recipe with all defaults, as plain data, for the report.
        cache: How the teacher's answers are kept; None for a live teacher.
        compress: Ways to make the first seed's student smaller; None for none.
        heads: The student's and the teacher's, where both stop before them; None elsewhere.
    """

    name: str
    splits: Splits
    teacher: TeacherPlan
    student: Make
    shrink: Shrink | None
    join: Join | None
    several: Callable[[Batches], Source[Batch]]
    shown: str
    parts: Callable[[], list[Part]]
    way: Way
    train: Train
    baseline: Train | None
    seeds: tuple[int, ...]
    export: bool
    calibrate: bool
    gates: Mapping[str, Any]
    report: Sequence[Named]
    control: bool
    outside: Mapping[str, Examples]
    recipe: Mapping[str, Any]
    cache: Cache | None
    compress: Compress | None
    heads: tuple[str, str | None] | None = None

    def learning(self, seed: int, teacher: Observed) -> Observed:
        """The network of one seed that learns from ``teacher``, with its first weights."""
        student = self.alone(seed, teacher)
        student = student if self.join is None else self.join(student, teacher, seed)
        return student if self.heads is None else learning(student, self.heads[0])

    def alone(self, seed: int, teacher: Observed) -> Observed:
        """The student of one seed with its first weights, which it may have of ``teacher``."""
        return self.student(seed) if self.shrink is None else self.shrink(teacher, seed)

    def objective(self) -> AbstractObjective:
        """The objective, made anew."""
        return joined(self.parts())

    def setting(self, student: Learner, teacher: Answers, seed: int) -> AbstractSetting[Any]:
        """The way of teaching for one student; peers have first weights of their own."""

        def peer(number: int) -> Learner:
            return learner(self.student(derive(seed, "peer", number)), self.train)

        heard = teacher if self.heads is None else listening(teacher, self.heads[1])
        return self.way.setting(student, heard, self.objective(), peer)


def plan(recipe: Recipe, given: Given) -> Plan:
    """Resolve every name, file and shape of ``recipe``; nothing is written.

    Args:
        recipe: What to do.
        given: The data, and what comes from Python.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    whole = given.whole
    splits = few_labels(whole, recipe)
    statistics, shape = channel_statistics(splits.train), splits.train.example_shape
    ours, teacher = outputs_of(whole), _teacher(recipe, given, splits, statistics)
    shrink, student = None, given.student
    if student is None and recipe.student.model.name == NAME:
        shrink = shrinking(recipe.student.model, whole.train)
        student = partial(_of_teacher, teacher, shrink)
    elif student is None:
        student = network("student", recipe.student, shape, ours, statistics)
    given_objective, examples = given.objective, int(splits.train.ids.max()) + 1
    other = None if teacher.own is None else cutter_of(teacher.own)
    texts = texts_of(splits, recipe.train.batch_size)
    taught = way(recipe.setting, examples, recipe.train.epochs, other, texts)
    objective = mapped(with_paths(recipe), whole, teacher.own)
    heard = not taught.asks_teacher or not objective
    several = variants(recipe.data.variants)
    return Plan(
        name=recipe.name,
        splits=splits,
        teacher=teacher,
        student=student,
        shrink=shrink,
        join=None if recipe.student.graft is None else grafting(recipe.student.graft, shape),
        several=lambda loader: several(taught.feed(loader)),
        shown=shown(recipe.student.model),
        parts=(
            (lambda: [Part("objective", given_objective(), "an objective of your own")])
            if given_objective is not None
            else (lambda: parts_of(objective, examples, heard=heard))
        ),
        way=taught,
        train=recipe.train,
        baseline=recipe.baseline,
        seeds=tuple(recipe.seeds),
        export=recipe.export,
        calibrate=recipe.calibrate,
        gates=recipe.gates,
        report=recipe.report,
        control=recipe.control,
        outside=outside_sets(recipe.outside, whole),
        recipe=recipe.model_dump(),
        cache=recipe.teacher.cache,
        compress=recipe.compress,
        heads=heads_of(objective) if is_headless(recipe) else None,
    )


def _teacher(
    recipe: Recipe, given: Given, splits: Splits, statistics: Statistics | None
) -> TeacherPlan:
    whole, wanted, own = given.whole, recipe.teacher, own_data(recipe, given.whole)
    order, seen = _class_order(wanted.classes, whole), own or whole
    classes = len(wanted.classes) if wanted.classes else outputs_of(seen)
    make, known = given.teacher, given.teacher is not None
    if wanted.server is not None:
        make, known = partial(absent, wanted.server), True
    shape = seen.train.example_shape
    return TeacherPlan(
        make=make or network("teacher", wanted, shape, classes, statistics, order),
        shown=shown(wanted.model) if wanted.server is None else wanted.server.model,
        given=known or wanted.weights is not None or knows(wanted.model),
        train=wanted.train,
        seed=wanted.seed,
        sees=seen.train if own or wanted.labels == "all" else labelled(splits.train),
        expect=wanted.expect,
        key=[
            wanted.model_dump(exclude={"expect", "weights", "cache", "server"}),
            content_of(wanted.weights),
            statistics,
        ],
        own=own,
        server=wanted.server,
    )


def _of_teacher(teacher: TeacherPlan, shrink: Shrink, seed: int) -> Observed:
    """The student of the teacher as it is before this run trains it: right in shape."""
    return shrink(teacher.make(teacher.seed), seed)


def knows(model: Named) -> bool:
    """Whether a model comes with weights for what it is asked, its last layer included.

    >>> knows(Named(name="hf:folder")), knows(Named(name="vgg"))
    (True, False)
    """
    options = model.options
    fresh = options.get("new_head", False) or not options.get("pretrained", True)
    return model.name.startswith("hf:") and not fresh


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


def _class_order(classes: list[str] | None, whole: Splits) -> list[int] | None:
    if classes is None:
        return None
    try:
        return class_order(classes, list(whole.classes))
    except TutelageError as error:
        raise type(error)(f"teacher.classes: {error}") from error
