"""One network trained through the one loop: a teacher, a baseline or a student."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import Diverged
from tutelage.core.source import Source
from tutelage.data.sets import Examples
from tutelage.engine import AbstractSetting, Hook, Keep, LogFile, ProgressBar, Validation, fit
from tutelage.engine.hooks import Means
from tutelage.engine.learner import Learner
from tutelage.engine.machine import rank
from tutelage.evaluation.calibration.temperature import Temperature
from tutelage.models import Observed, load_weights, save_weights
from tutelage.recipe.equipment import learner, loader, machine
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.measures import measure, refuse_collapse
from tutelage.recipe.sections import Train
from tutelage.recipe.together import by_first, everywhere
from tutelage.recipe.ways import Batches


@dataclass(frozen=True)
class Desk:
    """Where a run works: its folder (None keeps nothing) and what it says meanwhile."""

    console: Console
    folder: RunFolder | None = None

    def say(self, text: str, style: str | None = None) -> None:
        """One line for people; the text is shown as it is, whatever brackets it holds."""
        if rank() == 0:
            self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came about.

    Attributes:
        label: Names the arm: ``student-0``.
        model: The network, in eval mode.
        validation: Its accuracy on validation data.
        steps: Batches it learnt from.
        seconds: How long that took, pauses not counted.
        curve: Terms by epoch, and the validations.
        temperature: Fitted on validation; None where none was asked for.
    """

    label: str
    model: Observed
    validation: float
    steps: int
    seconds: float
    curve: list[dict[str, Any]] = field(default_factory=list)
    temperature: Temperature | None = None

    @property
    def divisor(self) -> float | None:
        """What its logits are divided by; None where they are not."""
        found = self.temperature
        return None if found is None or found.limit else found.value


class Curve(Hook):
    """Keeps terms by epoch, the validations and the seconds, for the report."""

    def __init__(self, epoch: int):
        self.points: list[dict[str, Any]] = []
        self._means, self._epoch = Means(), epoch
        self._before, self._since = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Time of the whole run, stops left out."""
        return self._before + time.monotonic() - self._since

    def updated(self, step: int, name: str, terms: Mapping[str, Tensor]) -> None:
        """Add to the epoch's means."""
        self._means.add(name, terms)

    def stepped(self, step: int) -> None:
        """Close an epoch."""
        if step % self._epoch == 0:
            for terms in self._means.take().values():
                self.points.append({"step": step, "epoch": step / self._epoch, **terms})

    def validated(self, step: int, value: float, best: bool) -> None:
        """Put the measure beside the epoch's terms."""
        epoch = step / self._epoch
        self.points.append({"step": step, "epoch": epoch, "validation_accuracy": value})

    def state_dict(self) -> dict[str, Any]:
        """All points."""
        return {
            "points": list(self.points),
            "means": self._means.state_dict(),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to them."""
        self.points = list(state_dict["points"])
        self._means.load_state_dict(state_dict["means"])
        self._before, self._since = state_dict["seconds"], time.monotonic()


def train_arm(
    label: str,
    make: Callable[[], Observed],
    setting: Callable[[Learner], AbstractSetting[Any]],
    examples: Examples,
    *,
    train: Train,
    seed: int,
    validation: Examples,
    desk: Desk,
    fixed: Mapping[str, int] | None = None,
    several: Callable[[Batches], Source[Batch]] = lambda batches: batches,
    may_collapse: bool = False,
) -> Trained:
    """Train one network, or take it from the folder where it is finished already.

    Args:
        label: Names the arm: ``student-0``.
        make: The network with its first weights.
        setting: Who teaches it.
        examples: What it learns from.
        train: How.
        seed: Of data order, augmentation and dropout.
        validation: Measured after epochs; the test set is not seen here.
        desk: Folder and console.
        fixed: Views of a number and seed of their own, for cached answers.
        several: Makes of the loader what the setting reads.
        may_collapse: Whether a network that learnt nothing is a result, as of a control.

    Raises:
        Diverged: A loss was not finite, or the network collapsed: it says which.
    """
    model = make()
    if found := _finished(label, model, desk):
        return found
    batches = several(loader(examples, train, seed, fixed=fixed))
    student = learner(model, train)
    measuring = Validation(
        student,
        lambda observed: measure(observed, validation, train),
        every=train.validate_every * len(batches),
        keep=train.keep,
        patience=train.patience,
    )
    curve, keep = Curve(len(batches)), None
    hooks: list[Hook] = [curve]
    if desk.folder is not None:
        log = LogFile(
            desk.folder.log,
            every=len(batches),
            label={"arm": label},
            gradients=train.gradients_every,
        )
        hooks.append(log)
        identity = f"{desk.folder.identity}/{label}"
        keep = Keep(desk.folder.stage(label), every=max(len(batches), 200), identity=identity)
    if desk.console.is_terminal:
        hooks.append(ProgressBar(desk.console, label))
    try:
        fitted = fit(
            setting(student),
            batches,
            steps=train.epochs * len(batches),
            seed=seed,
            machine=machine(train),
            hooks=hooks,
            validation=measuring,
            keep=keep,
        )
    except Diverged as error:
        raise Diverged(f"{label}: {error}") from error
    model.eval()
    kept = dict(fitted.validations)
    value = kept[fitted.best_step if train.keep == "best" else max(kept)]
    end = Trained(label, model, value, fitted.steps, curve.seconds, curve.points)
    if not may_collapse:
        refuse_collapse(label, model, end.steps, validation, train)
    _finish(end, desk)
    return end


def _finished(label: str, model: Observed, desk: Desk) -> Trained | None:
    if desk.folder is None:
        return None
    facts = desk.folder.finished(label)
    if not everywhere(facts is not None) or facts is None:
        return None
    load_weights(model.model, desk.folder.weights(label))
    model.eval()
    return Trained(
        label, model, facts["validation"], facts["steps"], facts["seconds"], facts["curve"]
    )


def _finish(end: Trained, desk: Desk) -> None:
    folder = desk.folder
    if folder is None:
        return

    def write() -> None:
        save_weights(end.model.model, folder.weights(end.label), metadata={"arm": end.label})
        folder.finish(
            end.label,
            {
                "validation": end.validation,
                "steps": end.steps,
                "seconds": end.seconds,
                "curve": end.curve,
            },
        )

    by_first(write)
