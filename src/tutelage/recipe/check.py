"""Looking before leaping: all that a run needs, tried on one batch, and what it would cost."""

import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.source import Source
from tutelage.data import Splits, labelled
from tutelage.engine import AbstractSetting, Hook, fit
from tutelage.models import Frozen, Observed
from tutelage.objectives import CrossEntropy
from tutelage.recipe.compressing.planning import healing, steps, untrained
from tutelage.recipe.equipment import learner, loader, machine
from tutelage.recipe.kept import fixed_views
from tutelage.recipe.measures import measure
from tutelage.recipe.plan import Given, Plan, load_data
from tutelage.recipe.reading import Data
from tutelage.recipe.remote import cost_told, facts_of_text, remote_of, unasked
from tutelage.recipe.sections import Recipe, Train
from tutelage.recipe.suiting import unsuited
from tutelage.recipe.teaching import kept_teacher, shortfall
from tutelage.recipe.trying import planned
from tutelage.recipe.validated import recipe_from
from tutelage.recipe.ways import CLASSIC
from tutelage.settings import Alone, Classic

_PROBE_STEPS = 8
_FAINT = 0.01
"""A term with less of the gradient than this is hardly heard."""


@dataclass(frozen=True)
class Share:
    """One term of the objective at step 0.

    Attributes:
        term: Its name.
        value: Its weighted value.
        gradient: L2 norm of its gradient over the student's parameters.
        share: Of the sum of all terms' norms, in [0, 1].
    """

    term: str
    value: float
    gradient: float
    share: float


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        plan: All that the recipe names, resolved.
        shares: Each term's share of the gradient at step 0.
        seconds: Estimated time by stage, of this machine as busy as it is now.
        memory: Peak memory so far in bytes, after a few real steps.
        teacher: Accuracy on validation of the teacher; None for one that is not trained yet.
        warnings: What looks like a mistake, one line each.
    """

    plan: Plan
    shares: list[Share]
    seconds: Mapping[str, float]
    memory: int
    teacher: float | None
    warnings: list[str]


def check(data: Data) -> Checked:
    """Resolve a recipe and try every network of it for a few steps; nothing is written.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    recipe = recipe_from(data)
    whole = load_data(recipe)
    made = planned(recipe, Given(whole))
    teacher, found, kept = _teacher(made, whole)
    shares = gradient_shares(made, teacher)
    said = [] if found is None else shortfall(made.teacher, found, "")
    said += unsuited(made, teacher.observed) if made.teacher.server is None else _costs(made)
    said += _faint(shares)
    said += made.way.notes()
    if found is None and made.teacher.server is None:
        said.append(
            "the teacher is not trained yet, so the shares above are those of an untrained one: "
            "check again after the first run, which keeps it."
        )
    if made.train.parallel != "none":
        said.append(
            f"train.parallel is {made.train.parallel}: start the run with 'torchrun "
            "--nproc-per-node 2 -m tutelage run ...'; the times above are those of one process."
        )
    if made.cache is not None and made.teacher.server is None:
        said.append(
            "the students' time is that with a live teacher: with teacher.cache it is asked only "
            "for what is not kept yet; 'tutelage cache' asks it ahead."
        )
    return Checked(made, shares, _seconds(made, recipe, teacher, kept), _peak(), found, said)


def gradient_shares(made: Plan, teacher: Frozen) -> list[Share]:
    """How much each term of the objective would pull at the student, before the first step."""
    if made.way.named.name != CLASSIC:
        return []  # what the terms compare is known in the run alone
    if made.teacher.server is not None:
        return []  # nobody is asked yet
    student = learner(made.learning(made.seeds[0], teacher.observed), made.train)
    setting = Classic(student, teacher, made.objective())
    batches = made.several(loader(made.splits.train, made.train, made.seeds[0]))
    batch = next(iter(batches.epoch(0)))
    with torch.random.fork_rng(devices=[]):
        setting.prepare(batch)
        student.start()
        student.model.train()
        outputs: Outputs = student(batch)
        terms = setting.objective(outputs, teacher(batch), batch)
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    norms = {name: _pull(term, parameters) for name, term in terms.items()}
    student.model.release()
    teacher.release()
    total = math.fsum(norms.values()) or 1.0
    return [
        Share(name, float(term.detach()), norms[name], norms[name] / total)
        for name, term in terms.items()
    ]


def _pull(term: Tensor, parameters: Iterable[Tensor]) -> float:
    """L2 norm of a term's gradient; 0 for one that does not depend on the parameters."""
    if not term.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    squares = [float(g.double().square().sum()) for g in gradients if g is not None]
    return math.sqrt(math.fsum(squares))


def _teacher(made: Plan, whole: Splits) -> tuple[Frozen, float | None, bool]:
    """The teacher as far as it is there: its accuracy, and whether an earlier run has kept it."""
    wanted, whole = made.teacher, made.teacher.own or whole
    if wanted.server is not None:
        return Frozen(wanted.make(wanted.seed)), None, False
    if wanted.train is not None and (kept := kept_teacher(made, whole)) is not None:
        return Frozen(kept.model), kept.validation, True
    teacher = Frozen(wanted.make(wanted.seed))
    found = measure(teacher.observed, whole.validation, made.train) if wanted.given else None
    return teacher, found, False


def _seconds(made: Plan, recipe: Recipe, teacher: Frozen, kept: bool) -> dict[str, float]:
    """Time of every stage, from a few real steps of each."""
    splits, runs = made.splits, len(made.seeds)
    trials = {"student": 0, "baseline": 0}
    for arm, candidates in recipe.tune.arms if recipe.tune else ():
        trials[arm] = math.prod(len(values) for values in candidates.values()) if candidates else 0
    found = {}
    if made.teacher.train is not None and not kept:
        model = learner(made.teacher.make(made.teacher.seed), made.teacher.train)
        batches = loader(made.teacher.sees, made.teacher.train, 0)
        found["teacher"] = _one(Alone(model, CrossEntropy()), batches, made.teacher.train)
    if made.baseline is not None:
        model = learner(made.student(made.seeds[0]), made.baseline)
        batches = loader(labelled(splits.train), made.baseline, 0)
        one = _one(Alone(model, CrossEntropy()), batches, made.baseline)
        found["baseline"] = one * (runs + trials["baseline"])
    student = learner(made.learning(made.seeds[0], teacher.observed), made.train)
    several = made.several(loader(splits.train, made.train, 0))
    server = made.teacher.server
    answers = teacher if server is None else unasked(server, splits.train)
    one = _one(made.setting(student, answers, made.seeds[0]), several, made.train)
    found["student"] = one * (runs + trials["student"])
    if made.compress is not None:
        found["healing"] = sum(
            _one(plan.setting(learner(network, plan.train), teacher, made.seeds[0]), batches, train)
            for plan, network, batches, train in _healings(made)
        )
    return found


def _healings(made: Plan) -> Iterator[tuple[Plan, Observed, Source[Batch], Train]]:
    """Every compressed network that is to be taught again, with first weights, and how."""
    nodes = steps(made)
    networks = untrained(made, nodes)
    for node in nodes:
        if node.stage.heal is not None:
            train = node.stage.heal
            batches = made.several(loader(made.splits.train, train, 0))
            yield healing(made, train), networks[node.name], batches, train


def _costs(made: Plan) -> list[str]:
    """What asking the teacher's server for everything will cost."""
    server = made.teacher.server
    assert server is not None
    with remote_of(server, *facts_of_text(made.splits.train)) as teacher:
        batches = loader(made.splits.train, made.train, 0, fixed=fixed_views(made.cache))
        return cost_told(server, teacher.estimate(batches.in_order().epoch(0)))


def _one(setting: AbstractSetting[Any], batches: Source[Batch], train: Train) -> float:
    """Estimated seconds of one training."""
    computer = machine(train.model_copy(update={"parallel": "none", "compile": False}))
    clock = _Clock()
    fit(setting, batches, steps=_PROBE_STEPS, machine=computer, hooks=[clock])
    # The median: first steps allocate and choose kernels, and others use this machine as well.
    step = median(later - earlier for earlier, later in pairwise(clock.times))
    return step * train.epochs * len(batches)


class _Clock(Hook):
    """When each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def stepped(self, step: int) -> None:
        """Look at the clock, when the device is done."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def _peak() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _faint(shares: list[Share]) -> list[str]:
    said = []
    for share in shares:
        if len(shares) > 1 and share.share < _FAINT:
            said.append(
                f"{share.term} has {share.share:.1%} of the gradient at step 0: it will hardly be "
                "heard; raise its weight."
            )
        if len(shares) > 1 and share.share > 1 - _FAINT:
            said.append(
                f"{share.term} has {share.share:.1%} of the gradient at step 0: the other terms "
                "will hardly be heard; lower its weight."
            )
    return said
