"""The one training loop."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import Interrupted, RecipeError, TeacherChanged
from tutelage.core.outputs import Terms
from tutelage.core.seeds import derive
from tutelage.core.source import Listed, Source
from tutelage.engine import checkpoint
from tutelage.engine.checkpoint import Keep
from tutelage.engine.guard import Guard
from tutelage.engine.hooks import Hook
from tutelage.engine.learner import Learner
from tutelage.engine.machine import Machine, process_group, rank, share, total, world
from tutelage.engine.parallel import average_helpers, gradient_norm, gradients_stay, wrap
from tutelage.engine.setting import AbstractSetting, Stateful, Update
from tutelage.engine.stopping import Stop
from tutelage.engine.validation import Validation

Item = TypeVar("Item")


@dataclass(frozen=True)
class Fitted:
    """How a run ended.

    Attributes:
        steps: Items that were learnt from.
        stopped_early: Whether patience ended it.
        validations: Measurements as (step, value).
        best_step: The one with the largest value; 0 where nothing was measured.
    """

    steps: int
    stopped_early: bool = False
    validations: Sequence[tuple[int, float]] = ()
    best_step: int = 0


def fit(
    setting: AbstractSetting[Item],
    source: Source[Item] | Iterable[Item],
    *,
    steps: int,
    seed: int = 0,
    machine: Machine | None = None,
    hooks: Sequence[Hook] = (),
    validation: Validation | None = None,
    keep: Keep | None = None,
) -> Fitted:
    """Take ``steps`` items from ``source``, and every update that ``setting`` makes of each.

    Args:
        setting: Who learns what from whom.
        source: Its epochs follow each other until ``steps`` items are taken.
        steps: Number of items, at least 1.
        seed: Every random choice inside models and settings follows from it and the step.
        machine: Device, precision, accumulation, parallelism; a plain CPU or GPU by default.
        hooks: Told of every update.
        validation: Measures now and then, keeps the best weights, stops early.
        keep: Where to put the run away; if it is there already, the run goes on from it.

    Raises:
        Diverged: A term became NaN or infinite.
        TeacherChanged: A frozen teacher was not the same at the end.
        Interrupted: Ctrl-C or SIGTERM; the run was put away first where ``keep`` is given.
    """
    if steps < 1:
        raise RecipeError(f"steps must be at least 1, got {steps}.")
    machine = machine or Machine()
    with process_group(machine):
        run = _Run(setting, machine, steps, seed, [] if rank() else hooks)
        return run.all(_source(source), validation, keep)


class _Run:
    """One call of `fit`."""

    def __init__(
        self,
        setting: AbstractSetting[Any],
        machine: Machine,
        steps: int,
        seed: int,
        hooks: Sequence[Hook],
    ):
        self.setting, self.machine, self.steps, self.seed = setting, machine, steps, seed
        self.hooks = hooks
        self.place = machine.place
        self.scaler = machine.scaler()
        self.guard = Guard(every=1 if self.place.type == "cpu" else 20)
        self.ready: set[int] = set()

    def all(self, source: Source[Any], validation: Validation | None, keep: Keep | None) -> Fitted:
        """From the first item, or from a checkpoint, to the end."""
        self.prepare(source)
        before = {name: each.fingerprint() for name, each in self.setting.teachers().items()}
        extras = self.extras(validation)
        start = checkpoint.load(keep, self.setting, extras) if keep and keep.file.exists() else 0
        for hook in self.hooks:
            hook.started(start, self.steps)
        step = start
        try:
            with Stop() as stop:
                for step in self.loop(source, start, validation, stop):
                    if keep and (step % keep.every == 0 or stop.requested):
                        self.guard.look()
                        checkpoint.save(keep, self.setting, step, extras)
                    if stop.requested:
                        raise Interrupted(f"stopped after step {step} of {self.steps}.")
            self.guard.look()
        finally:
            for hook in self.hooks:
                hook.finished(step)
        return self.end(step, before, validation)

    def prepare(self, source: Source[Any]) -> None:
        """Put everything in its place; let the setting look at the first item."""
        teachers = self.setting.teachers().values()
        for model in [*teachers, *(each.model for each in self.setting.learners().values())]:
            model.to(self.place)
        torch.manual_seed(derive(self.seed, "prepare"))
        with self.machine.autocast():
            self.setting.prepare(_moved(next(iter(source.epoch(0))), self.place))
        for teacher in teachers:
            self.shape(teacher.observed)
        for learner in self.setting.learners().values():
            self.begin(learner)

    def shape(self, model: Any) -> None:
        if self.machine.channels_last:
            model.use_channels_last()
        if self.machine.compile:
            model.compile_model()

    def begin(self, learner: Learner) -> None:
        """Make a learner ready for its first update; settings may bring new ones at any time."""
        if id(learner) in self.ready:
            return
        self.ready.add(id(learner))
        learner.model.to(self.place)
        learner.helpers.to(self.place)
        self.shape(learner.model)
        wrap(learner, self.machine)
        learner.start()

    def loop(
        self, source: Source[Any], start: int, validation: Validation | None, stop: Stop
    ) -> Iterator[int]:
        """Yields the number of items done, after each."""
        for step, item in enumerate(_from(source, start), start):
            if step == self.steps:
                return
            torch.manual_seed(derive(self.seed, "step", step))
            item = _moved(item, self.place)
            for number, update in enumerate(self.setting.updates(item)):
                self.begin(update.learner)
                terms = self.take(update, step, number)
                for hook in self.hooks:
                    hook.updated(step, update.name, terms)
            for hook in self.hooks:
                hook.stepped(step + 1)
            if validation and validation.due(step + 1, self.steps):
                value, best = validation.look(step + 1)
                for hook in self.hooks:
                    hook.validated(step + 1, value, best)
            stop.requested = bool(total(stop.requested, self.place))
            yield step + 1
            if validation and validation.over:
                return

    def take(self, update: Update, step: int, number: int) -> Terms:
        """Make one update: the only place that scales a loss and calls backward.

        Every term is a mean over its batch's units, so each part weighs as much as the units it
        has; DDP and FSDP take the mean over processes, hence the factor `world`.
        """
        learner, whole = update.learner, share(update.batch)
        parts = whole.split(self.machine.accumulate)
        counts = [part.count for part in parts]
        units = max(total(sum(counts), self.place), 1)
        if world() > 1:  # the same noise for the setting, different noise for each share
            torch.manual_seed(derive(self.seed, "share", step, number, rank()))
        learner.begin(step / self.steps)
        totals: dict[str, Tensor] = {}
        for index, (part, count) in enumerate(zip(parts, counts, strict=True)):
            last = index == len(parts) - 1
            with nullcontext() if last else gradients_stay(learner, self.machine):
                with self.machine.autocast():
                    terms = update.loss(part)
                scaled = {name: term * (count / units) for name, term in terms.items()}
                for name, term in scaled.items():
                    totals[name] = totals.get(name, 0) + term.detach()
                loss = torch.stack(list(scaled.values())).sum() * world()
                self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.guard.watch(step, update.name, totals)
        self.step(learner)
        return totals

    def step(self, learner: Learner) -> None:
        """Clip and apply the gradients."""
        assert learner.optimizer is not None
        if world() > 1:
            average_helpers(learner.helpers)
        if learner.clip is not None:
            self.scaler.unscale_(learner.optimizer)
            parameters = learner.parameters()
            factor = (learner.clip / (gradient_norm(parameters) + 1e-6)).clamp(max=1.0)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)
        self.scaler.step(learner.optimizer)
        self.scaler.update()
        learner.after_step()

    def extras(self, validation: Validation | None) -> dict[str, Stateful]:
        """What a checkpoint keeps besides the setting."""
        found: dict[str, Stateful] = {f"hook.{i}": hook for i, hook in enumerate(self.hooks)}
        if validation:
            found["validation"] = validation
        if self.scaler.is_enabled():
            found["scaler"] = self.scaler
        return found

    def end(self, step: int, before: dict[str, int], validation: Validation | None) -> Fitted:
        """Check the teachers, settle the weights, take hooks off."""
        for name, teacher in self.setting.teachers().items():
            if teacher.fingerprint() != before[name]:
                raise TeacherChanged(
                    f"{name} changed while it taught: its parameters or BatchNorm statistics are "
                    "not what they were; something trains it or switches it to train mode."
                )
            teacher.release()
        for learner in self.setting.learners().values():
            learner.model.release()
        if validation is None:
            for learner in self.setting.learners().values():
                learner.settle()
            return Fitted(step)
        validation.settle()
        return Fitted(step, step < self.steps, validation.history, validation.best_step)


def _source(source: Source[Item] | Iterable[Item]) -> Source[Item]:
    return source if isinstance(source, Source) else Listed(source)


def _from(source: Source[Item], step: int) -> Iterator[Item]:
    epoch, start = divmod(step, len(source))
    while True:
        yield from source.epoch(epoch, start)
        epoch, start = epoch + 1, 0


def _moved(item: Any, place: torch.device) -> Any:
    if isinstance(item, Batch):
        return item.to(place)
    if isinstance(item, (list, tuple)):
        return type(item)(_moved(inner, place) for inner in item)
    return item
