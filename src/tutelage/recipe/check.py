"""Looking before leaping: all that a run needs, tried on one batch, and what it would cost."""

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.data import labelled
from tutelage.engine.fit import fit
from tutelage.engine.learner import Learner
from tutelage.evaluation.gates import check_gates
from tutelage.models import Frozen
from tutelage.objectives import CrossEntropy
from tutelage.recipe.arms import measure
from tutelage.recipe.plan import Given, Plan, learner, load_data, loader, machine, plan
from tutelage.recipe.reading import Data
from tutelage.recipe.run import check_tuning
from tutelage.recipe.sections import Recipe, recipe_from
from tutelage.settings import Alone, Classic

_PROBE_STEPS = 4


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
        teacher: Accuracy on validation of a teacher that is given; None for one to be trained.
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
    check_gates(recipe.gates)
    whole = load_data(recipe)
    made = plan(recipe, Given(whole))
    check_tuning(recipe, Given(whole))
    teacher = Frozen(made.teacher.make(made.teacher.seed))
    found = measure(teacher.observed, whole.validation, made.train) if made.teacher.given else None
    shares = gradient_shares(made, teacher)
    return Checked(
        made,
        shares,
        _seconds(made, recipe, teacher),
        _peak(),
        found,
        _warnings(made, found, shares),
    )


def gradient_shares(made: Plan, teacher: Frozen) -> list[Share]:
    """How much each term of the objective would pull at the student, before the first step."""
    student = learner(made.student(made.seeds[0]), made.train)
    setting = Classic(student, teacher, made.objective())
    batches = loader(made.splits.train, made.train, made.seeds[0])
    batch: Batch = next(iter(batches.epoch(0)))
    setting.prepare(batch)
    student.start()
    student.model.train()
    outputs: Outputs = student(batch)
    terms = setting.objective(outputs, teacher(batch), batch)
    norms = {}
    parameters = [p for p in student.model.parameters() if p.requires_grad]
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        norms[name] = float(torch.nn.utils.get_total_norm(g for g in gradients if g is not None))
    student.model.release()
    teacher.release()
    total = sum(norms.values()) or 1.0
    return [
        Share(name, float(term.detach()), norms[name], norms[name] / total)
        for name, term in terms.items()
    ]


def _seconds(made: Plan, recipe: Recipe, teacher: Frozen) -> dict[str, float]:
    """Time of every stage, from a few real steps of each."""
    splits, runs = made.splits, len(made.seeds)
    trials = {"student": 0, "baseline": 0}
    if recipe.tune is not None:
        for arm, candidates in (
            ("student", recipe.tune.student),
            ("baseline", recipe.tune.baseline),
        ):
            trials[arm] = 1 if candidates else 0
            for values in candidates.values():
                trials[arm] *= len(values)
    found = {}
    if made.teacher.train is not None:
        model = learner(made.teacher.make(0), made.teacher.train)
        batches = loader(made.teacher.sees, made.teacher.train, 0)
        setting: Any = Alone(model, CrossEntropy())
        found["teacher"] = _one(setting, batches, made.teacher.train)
    if made.baseline is not None:
        model = learner(made.student(0), made.baseline)
        batches = loader(labelled(splits.train), made.baseline, 0)
        one = _one(Alone(model, CrossEntropy()), batches, made.baseline)
        found["baseline"] = one * (runs + trials["baseline"])
    student: Learner = learner(made.student(0), made.train)
    batches = loader(splits.train, made.train, 0)
    one = _one(Classic(student, teacher, made.objective()), batches, made.train)
    found["student"] = one * (runs + trials["student"])
    return found


def _one(setting: Any, batches: Any, train: Any) -> float:
    computer = machine(train.model_copy(update={"parallel": "none", "compile": False}))
    fit(setting, batches, steps=1, machine=computer)  # first steps allocate and choose kernels
    steps = min(_PROBE_STEPS, len(batches))
    began = time.perf_counter()
    fit(setting, batches, steps=steps, machine=computer)
    return (time.perf_counter() - began) / steps * train.epochs * len(batches)


def _peak() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def _warnings(made: Plan, found: float | None, shares: list[Share]) -> list[str]:
    said = []
    expect = made.teacher.expect
    if found is not None and expect is not None and found < expect - 0.02:
        said.append(
            f"the teacher is known for {expect:.1%} and reaches {found:.1%} on validation: check "
            "its intake (mean, std, size), its classes, and that the data is what it was made "
            "for; or let it train a little first (teacher.train)."
        )
    for share in shares:
        if len(shares) > 1 and share.share < 0.01:
            said.append(
                f"{share.term} has {share.share:.1%} of the gradient at step 0: it will hardly be "
                "heard; raise its weight."
            )
        if len(shares) > 1 and share.share > 0.99:
            said.append(
                f"{share.term} has {share.share:.1%} of the gradient at step 0: the other terms "
                "will hardly be heard; lower its weight."
            )
    return said
