"""One run in phases, each with an objective, a length and a part of the student of its own."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from tutelage.core.batch import Batch
from tutelage.core.errors import MissingFeature, RecipeError, suggest
from tutelage.core.outputs import Answers, Tapped, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.machine import world
from tutelage.engine.options import whole_number
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.observed import Observed
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.inner import Inner, inner_of
from tutelage.settings.counting import Counts
from tutelage.settings.probing import asked, check_student, frozen, lend, probed


@dataclass(frozen=True)
class Phase:
    """What is learnt for a while.

    Attributes:
        objective: What the student should become meanwhile.
        steps: Items; None, for the last phase, until the end of the run.
        learns: Patterns of module or parameter paths, such as ``layer2`` or ``*.bn*``: what
            matches learns with all inside it, the rest is locked; None: everything learns.
    """

    objective: AbstractObjective
    steps: int | None = None
    learns: Sequence[str] | None = None


@register("setting", "phases")
class Phases(AbstractSetting[Batch]):
    """Phases one after another: hints first, blocks one by one, the head before the body.

    FitNets are two: the hint reaches the student up to its guided layer, then the whole student
    learns from labels and soft targets ::

        hint = Phase(Match({"layer2": "layer2"}, adapter="regressor"), steps=1000)
        Phases(student, teacher, [hint, Phase(CrossEntropy() + SoftTarget(3.0))])

    Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets, 2014,
    arXiv:1412.6550.

    What is locked gets no gradient, so no optimizer moves it, neither by momentum nor by weight
    decay, and modules of which every parameter is locked run in eval mode: their BatchNorm
    statistics stay. Between two items nothing is locked, and each parameter's optimizer state is
    what it was when it last learnt. The learning rate's schedule is that of the whole run.

    Args:
        student: Who learns.
        teacher: Whatever answers a batch with outputs; None where no objective asks one.
        phases: In order; each a `Phase`, or its fields by name, with the objective as in
            recipes: ``{objective: {match: {pairs: {layer2: layer2}}}, steps: 1000}``.
        objective: Of phases that name none.

    Raises:
        RecipeError: A phase is not a phase, learns nothing or has no objective, or one that is not
            the last has no length.
        MissingFeature: A pattern, or a path to tap, fits nothing in the student.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers | None,
        phases: Sequence[Phase | Mapping[str, Any]],
        objective: AbstractObjective | None = None,
    ):
        check_student(student)
        self.student = student
        self.teacher = frozen(teacher)
        self.phases = tuple(_phase(each, objective) for each in phases)
        if not self.phases:
            raise RecipeError("phases: the list is empty: give at least one phase.")
        for number, phase in enumerate(self.phases):
            if phase.steps is None and phase is not self.phases[-1]:
                raise RecipeError(
                    f"phases: phase {number} needs steps: only the last may do without."
                )
            if phase.steps is not None:
                whole_number(phase.steps, f"phases: steps of phase {number}")
            if phase.objective.needs_teacher and teacher is None:
                raise RecipeError(
                    f"phases: the objective of phase {number} needs a teacher: give one."
                )
        self.learning = [set(_learning(student.model, each.learns)) for each in self.phases]
        # Each once: several phases may share one, and the engine looks for them in lists.
        self.objectives = list({id(p.objective): p.objective for p in self.phases}.values())
        self.done = Counts()
        self._tap()

    @property
    def now(self) -> int:
        """The number of the present phase, from 0; the last one goes on."""
        left = int(self.done.values)
        for number, phase in enumerate(self.phases[:-1]):
            left -= phase.steps or 0
            if left < 0:
                return number
        return len(self.phases) - 1

    def prepare(self, item: Batch) -> None:
        """Bind all objectives, of later phases too, so that the optimizer is whole.

        Raises:
            DataError: The item is no batch.
            RecipeError: The teacher does not answer batches; locks in several processes.
            ShapeMismatch: One of the two cannot read this one, or their answers do not fit.
        """
        if world() > 1 and any(phase.learns is not None for phase in self.phases):
            raise RecipeError(
                "phases that lock parts of the student run in one process: set parallel: none, or "
                "leave learns out."
            )
        self._tap()
        self.done.values.zero_()  # a checkpoint, if there is one, is loaded after this
        answer = probed(self.student, item)
        told = asked(self.teacher, item) if self.teacher else answer
        for objective in self.objectives:
            lend(objective, self.student, self.teacher)
            objective.bind(answer, told)
            self.student.adopt(objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item, by the present phase."""
        number = self.now
        phase = self.phases[number]
        with _locked(self.student.model, self.learning[number]):
            yield Update(self.student, partial(self.compare, phase), item, name=f"phase{number}")
        phase.objective.advance()
        self.done.values += 1

    def compare(self, phase: Phase, batch: Batch) -> Terms:
        """What the phase's objective says of one batch."""
        student = self.student(batch)
        answer = self.teacher(batch).detach() if self.teacher else student.detach()
        terms: Terms = phase.objective(student, answer, batch)
        return terms

    def _tap(self) -> None:
        for objective in self.objectives:
            self.student.model.tap(objective.taps[0])
            if isinstance(self.teacher, Tapped):
                self.teacher.tap(objective.taps[1])


def _phase(given: Phase | Mapping[str, Any], objective: AbstractObjective | None) -> Phase:
    known = ("objective", "steps", "learns")
    if isinstance(given, Mapping):
        for key in given:
            if key not in known:
                raise RecipeError(f"phases: a phase has no {key!r}. {suggest(str(key), known)}")
        written: Inner | None = given.get("objective", objective)
        if written is None:
            raise RecipeError("phases: a phase without objective: give it one, or one for all.")
        given = Phase(inner_of(written, "phases"), given.get("steps"), given.get("learns"))
    if not isinstance(given, Phase):
        raise RecipeError(f"phases: each must be a Phase, got a {type(given).__name__}.")
    if isinstance(given.learns, str):
        raise RecipeError(f"phases: learns must be a list of patterns, got {given.learns!r}.")
    return given


def _learning(model: Observed, learns: Sequence[str] | None) -> Iterator[str]:
    """Names of the parameters that match."""
    named = [name for name, parameter in model.model.named_parameters() if parameter.requires_grad]
    if learns is None:
        yield from named
        return
    found = set()
    for pattern in learns:
        matched = {name for name in named if any(fnmatchcase(p, pattern) for p in _prefixes(name))}
        if not matched:
            known = {prefix for name in named for prefix in _prefixes(name)}
            raise MissingFeature(
                f"phases: {pattern!r} fits no module or parameter. {suggest(pattern, known)}"
            )
        found |= matched
    if not found:
        raise RecipeError("phases: a phase learns nothing: name some part, or leave learns out.")
    yield from found


def _prefixes(name: str) -> Iterable[str]:
    """A parameter's path, and those of all modules it is in."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts) + 1))


@contextmanager
def _locked(model: Observed, learning: set[str]) -> Iterator[None]:
    """All parameters but these without gradient, modules of locked ones in eval mode, inside."""
    shut = [p for name, p in model.model.named_parameters() if name not in learning]
    shut = [parameter for parameter in shut if parameter.requires_grad]
    ids = {id(parameter) for parameter in shut}
    still = [
        module
        for module in model.model.modules()
        if module.training and (own := list(module.parameters(recurse=False)))
        if all(id(parameter) in ids for parameter in own)
    ]
    for parameter in shut:
        parameter.requires_grad_(False)
    for module in still:
        module.training = False
    try:
        yield
    finally:
        for parameter in shut:
            parameter.requires_grad_(True)
        for module in still:
            module.training = True
