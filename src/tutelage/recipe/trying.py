"""Everything that a plan names is built once and meets a few examples, before a run begins.

So a run cannot fail on its recipe's words after an hour, nor leave half a folder behind.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, MissingFeature, RecipeError, TutelageError
from tutelage.core.outputs import Outputs
from tutelage.data import labelled
from tutelage.evaluation.gates.judging import check_gates, gates
from tutelage.evaluation.language import reads_tokens
from tutelage.models import Frozen, Observed
from tutelage.recipe.compressing.planning import check_compress
from tutelage.recipe.crossed import check_crossed
from tutelage.recipe.equipment import check_train, learner, loader
from tutelage.recipe.kept import as_read, check_cache, check_features, fixed_views
from tutelage.recipe.objective import Part, joined
from tutelage.recipe.plan import Given, Plan, plan
from tutelage.recipe.proving import parts
from tutelage.recipe.remote import check_server, unasked
from tutelage.recipe.sections import Cache, Recipe
from tutelage.recipe.texts import check_text, outputs_of
from tutelage.recipe.tuning import check_candidates, tuned
from tutelage.recipe.ways import CLASSIC

_ROWS = 8


def planned(recipe: Recipe, given: Given) -> Plan:
    """A plan, tried out; and so is every candidate that is to be tuned.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    _check_words(recipe)
    _check_classes(given)
    if reads_tokens(given.whole.train):
        check_text(recipe)
    elif recipe.evaluation.tasks or recipe.evaluation.speed is not None:
        raise RecipeError("evaluation: tasks and speed are for text: leave it out.")
    check_server(recipe, given.whole.train)
    made = plan(recipe, given)
    try_out(made)
    check_compress(made, meet)
    for arm, candidates in recipe.tune.arms if recipe.tune else ():
        check_candidates(arm, candidates)
        for key, values in candidates.items():
            for value in values:
                try:
                    try_out(plan(tuned(recipe, arm, {key: value}), given))
                except TutelageError as error:
                    raise type(error)(f"tune.{arm}.{key}: got {value!r}: {error}") from error
    return made


def try_out(made: Plan) -> None:
    """Networks, objective, optimizers and augmentations of a plan, on a few examples.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    if made.teacher.train is None and not made.teacher.given:
        raise RecipeError(
            "teacher: it knows nothing yet: give weights, or train: {epochs: 10} to train it first."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        check_train(made.train, made.splits.train, "train")
        if made.teacher.train is not None:
            check_train(made.teacher.train, made.teacher.sees, "teacher.train")
        if made.baseline is not None:
            check_train(made.baseline, labelled(made.splits.train), "baseline")
        meet(made)


def _check_words(recipe: Recipe) -> None:
    """What can be told from the recipe alone."""
    check_cache(recipe)
    check_crossed(recipe)
    parts(recipe.report, recipe.gates)
    for name, asked in recipe.gates.items():
        _check_gate(name, asked, recipe)
    if recipe.tune is not None:
        if recipe.tune.seed in recipe.seeds:
            raise RecipeError(
                f"tune.seed: got {recipe.tune.seed}, which is one of the run's own seeds: choose "
                "another, so that no result is chosen by itself."
            )
        if recipe.tune.baseline and recipe.baseline is None:
            raise RecipeError(
                f"tune.baseline: got {recipe.tune.baseline}, and there is no baseline to tune: "
                "remove it, or 'baseline: false'."
            )
    others = {"baseline": recipe.baseline, "teacher.train": recipe.teacher.train}
    for key, train in others.items():
        if train is not None and train.parallel != recipe.train.parallel:
            raise RecipeError(
                f"{key}.parallel: got {train.parallel!r}, and train.parallel is "
                f"{recipe.train.parallel!r}: all stages share their processes: set it in train "
                "alone."
            )


def _check_gate(name: str, asked: Any, recipe: Recipe) -> None:
    try:
        demand = check_gates({name: asked})[name]
    except TutelageError as error:
        raise type(error)(f"gates.{name}: got {asked!r}: {error}") from error
    if "baseline" in gates()[name].needs and recipe.baseline is None:
        raise RecipeError(
            f"gates.{name}: got {demand.threshold:g}, and there is no baseline to compare with: "
            "remove the gate, or 'baseline: false'."
        )
    apart = recipe.teacher.tokenizer is not None or recipe.teacher.server is not None
    if "teacher" in gates()[name].needs and apart:
        raise RecipeError(
            f"gates.{name}: got {demand.threshold:g}, and this teacher cannot be compared with "
            "token by token: remove the gate, or take perplexity or gain."
        )


def _check_classes(given: Given) -> None:
    """Whatever is learnt is measured on labels, of two classes at least."""
    name, classes = given.whole.name, given.whole.classes
    if reads_tokens(given.whole.train):
        return
    if given.whole.train.targets is None:
        raise DataError(
            f"data.source: {name} has no labels, and accuracy is measured on labels: give targets "
            "(some may be negative: unlabelled)."
        )
    if len(classes) < 2:
        raise DataError(
            f"data.source: {name} has the class {', '.join(map(repr, classes))} alone, and there "
            "is nothing to tell apart: bring examples of another."
        )


def meet(made: Plan, student: Observed | None = None) -> None:
    """A plan's networks and objective on eight examples; ``student`` in place of the plan's own.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    batch, parts = _first_examples(made), made.parts()
    classes, (mine, others) = outputs_of(made.splits), made.way.sides(batch)
    teacher = made.teacher.make(made.teacher.seed)
    student = made.learning(made.seeds[0], teacher) if student is None else student
    _tap(parts, student.eval(), teacher.eval())
    _keep(parts, teacher, made.cache)
    if made.train.compile and student.taps:
        raise RecipeError(
            "train.compile: got True, and the objective reads features "
            f"({', '.join(student.taps)}), which compiled networks do not show: set "
            "compile: false."
        )
    theirs = _theirs(made, teacher, others)
    ours = _answer("student", student, mine, classes)
    for part in parts:
        _bind(part, student, teacher, ours, theirs)
    # As it will learn, with dropout and the batch's own statistics.
    learning = _answer("student", student.train(), mine, classes)
    for part in parts:
        _value(part, learning, theirs, batch)
    _value(Part("objective", joined(parts), "these terms"), learning, theirs, batch)
    _prepare(made, student, teacher, batch)


def _theirs(made: Plan, teacher: Observed, batch: Batch) -> Outputs:
    """The teacher's answer as the student will get it; a server is not asked for it."""
    wanted = made.teacher
    if wanted.server is not None:
        return unasked(wanted.server, made.splits.train)(batch)
    classes = outputs_of(wanted.own or made.splits)
    return as_read(_answer("teacher", teacher, batch, classes), made.cache)


def _prepare(made: Plan, student: Observed, teacher: Observed, batch: Batch) -> None:
    """A way of teaching that is not the usual one looks at a batch of its own, too."""
    if made.way.named.name == CLASSIC and made.heads is None:
        return
    student.release()
    made.setting(learner(student, made.train), Frozen(teacher), made.seeds[0]).prepare(batch)


def _first_examples(made: Plan) -> Batch:
    """The first training examples, augmented, mixed and turned as they will be."""
    fixed = fixed_views(made.cache)
    batches = made.several(loader(made.splits.train, made.train, made.seeds[0], fixed=fixed))
    try:
        first: Batch = next(iter(batches.epoch(0)))
    except DataError as error:
        if made.recipe["data"]["variants"] is None:
            raise
        raise DataError(f"data.variants: {error}") from error
    return first[:_ROWS]


def _tap(parts: Sequence[Part], student: Observed, teacher: Observed) -> None:
    for part in parts:
        for role, network, paths in zip(
            ("student", "teacher"), (student, teacher), part.objective.taps, strict=True
        ):
            try:
                network.tap(paths)
            except TutelageError as error:
                raise type(error)(f"{part.key}: {role}: {error}") from error


def _keep(parts: Sequence[Part], teacher: Observed, cache: Cache | None) -> None:
    for part in parts:
        try:
            check_features(part.objective.taps[1], cache)
        except TutelageError as error:
            raise type(error)(f"{part.key}: teacher: {error}") from error
    try:
        teacher.tap(() if cache is None else cache.features)
    except TutelageError as error:
        raise type(error)(f"teacher.cache.features: {error}") from error


def _answer(role: str, network: Observed, batch: Batch, classes: int) -> Outputs:
    try:
        outputs: Outputs = network(batch)
    except MissingFeature as error:
        raise MissingFeature(f"objective: {role}: {error}") from error
    except TutelageError as error:
        raise type(error)(f"{role}.model: {error}") from error
    except (RuntimeError, ValueError, TypeError, LookupError, MemoryError) as error:
        # torch's own words for shapes that do not fit
        reason = " ".join(str(error).split())[:160]
        raise RecipeError(
            f"{role}.model: it cannot read {len(batch)} examples of shape {_shape(batch)} "
            f"({reason}): choose another model, or set intake.size or intake.channels."
        ) from error
    targets = batch.targets
    of_tokens = targets is not None and targets.ndim == 2 and not targets.is_floating_point()
    dimensions = 3 if of_tokens else 2
    if outputs.logits.ndim != dimensions or not _fits(outputs.logits, classes):
        raise RecipeError(
            f"{role}.model: it gives logits of shape {tuple(outputs.logits.shape)} for "
            f"{len(batch)} examples, and the data has {classes} classes: choose the classes it "
            "was made for."
        )
    return outputs


def _fits(logits: torch.Tensor, classes: int) -> bool:
    """A head over tokens may be padded; one over classes has one row for each."""
    has = logits.shape[-1]
    return has >= classes if logits.ndim == 3 else has == classes


def _bind(part: Part, student: Observed, teacher: Observed, ours: Outputs, theirs: Outputs) -> None:
    try:
        borrowed = part.objective.borrows
        part.objective.borrow(student.lend(borrowed[0]), teacher.lend(borrowed[1]))
        part.objective.bind(ours, theirs)
    except TutelageError as error:
        raise type(error)(f"{part.key}: {error}") from error


def _value(part: Part, student: Outputs, teacher: Outputs, batch: Batch) -> None:
    try:
        terms: Mapping[str, torch.Tensor] = part.objective(student, teacher, batch)
    except TutelageError as error:
        raise type(error)(f"{part.key}: {error}") from error
    for name, term in terms.items():
        if not bool(torch.isfinite(term)):
            raise RecipeError(
                f"{part.key}: got {part.written}, and on the first examples the term {name!r} is "
                f"{float(term)}: set a smaller weight, a temperature nearer to 1, or look at the "
                "weights that are loaded."
            )


def _shape(batch: Batch) -> tuple[int, ...]:
    inputs = batch.inputs
    first = inputs if isinstance(inputs, torch.Tensor) else next(iter(inputs.values()))
    return tuple(first.shape[1:])
