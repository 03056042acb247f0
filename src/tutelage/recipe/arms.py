"""One network trained through the one loop: a teacher, a baseline or a student."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.core.errors import Diverged
from tutelage.data.sets import Examples
from tutelage.engine import AbstractSetting, Hook, Keep, LogFile, ProgressBar, Validation, fit
from tutelage.engine.learner import Learner
from tutelage.engine.machine import rank
from tutelage.evaluation import accuracy, predict
from tutelage.evaluation.collapse import collapsed
from tutelage.models import Observed, load_weights, save_weights
from tutelage.recipe.folder import RunFolder
from tutelage.recipe.plan import learner, loader, machine
from tutelage.recipe.sections import Train


@dataclass(frozen=True)
class Desk:
    """Where a run works: its folder (None keeps nothing) and what it says meanwhile."""

    console: Console
    folder: RunFolder | None = None

    def say(self, text: str) -> None:
        """One line for people."""
        if rank() == 0:
            self.console.print(text, highlight=False)


@dataclass(frozen=True)
class Trained:
    """A trained network and how it came about."""

    label: str
    model: Observed
    validation: float
    steps: int
    seconds: float
    curve: list[dict[str, Any]] = field(default_factory=list)


class Curve(Hook):
    """Keeps terms by epoch and the validations, for the report's plots."""

    def __init__(self, epoch: int):
        from tutelage.engine.hooks import Means

        self.points: list[dict[str, Any]] = []
        self._means, self._epoch = Means(), epoch

    def updated(self, step: int, name: str, terms: Any) -> None:
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
        return {"points": self.points, "means": self._means.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to them."""
        self.points = list(state_dict["points"])
        self._means.load_state_dict(state_dict["means"])


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

    Raises:
        Diverged: A loss was not finite, or the network collapsed: it says which.
    """
    model = make()
    if found := _finished(label, model, desk):
        return found
    batches, began = loader(examples, train, seed), time.monotonic()
    student = learner(model, train)
    every = train.validate_every * len(batches)
    measuring = Validation(
        student,
        lambda observed: measure(observed, validation, train),
        every=every,
        keep=train.keep,
        patience=train.patience,
    )
    curve, keep = Curve(len(batches)), None
    hooks: list[Hook] = [curve]
    if desk.folder is not None:
        hooks.append(LogFile(desk.folder.log, every=len(batches), label={"arm": label}))
        identity = f"{desk.folder.identity}/{label}"
        keep = Keep(desk.folder.stage(label), every=max(len(batches), 200), identity=identity)
    if desk.console.is_terminal:
        hooks.append(ProgressBar(desk.console, label))
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
    model.eval()
    value = next(v for step, v in reversed(fitted.validations) if _kept(step, fitted, train))
    end = Trained(label, model, value, fitted.steps, time.monotonic() - began, curve.points)
    refuse_collapse(end, validation, train)
    _finish(end, desk)
    return end


def measure(observed: Observed, validation: Examples, train: Train) -> float:
    """Accuracy on validation data, in the precision that the network is trained in."""
    answers = predict(observed, validation, precision=train.precision)
    return accuracy(answers.logits, answers.targets)


def refuse_collapse(end: Trained, validation: Examples, train: Train) -> None:
    """A network that learnt nothing is an error, never a result."""
    answers = predict(end.model, validation, precision=train.precision)
    why = collapsed(answers.logits, answers.targets, answers.classes)
    if why:
        raise Diverged(
            f"{end.label} collapsed: {why}. Lower train.learning_rate (now "
            f"{train.learning_rate:g}), the temperature or the weights, or set train.clip: 1."
        )


def _kept(step: int, fitted: Any, train: Train) -> bool:
    return train.keep == "last" or step == fitted.best_step


def _finished(label: str, model: Observed, desk: Desk) -> Trained | None:
    facts = desk.folder.finished(label) if desk.folder else None
    if facts is None:
        return None
    assert desk.folder is not None
    load_weights(model.model, weights_file(desk.folder, label))
    model.eval()
    return Trained(
        label, model, facts["validation"], facts["steps"], facts["seconds"], facts["curve"]
    )


def _finish(end: Trained, desk: Desk) -> None:
    if desk.folder is None or rank() != 0:
        return
    save_weights(end.model.model, weights_file(desk.folder, end.label), metadata={"arm": end.label})
    facts = {
        "validation": end.validation,
        "steps": end.steps,
        "seconds": end.seconds,
        "curve": end.curve,
    }
    desk.folder.finish(end.label, facts)


def weights_file(folder: RunFolder, label: str) -> Path:
    """Where an arm's weights lie."""
    path = folder.stage(label) / "model.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def seconds(trained: Sequence[Trained]) -> float:
    """Wall-clock time of several arms."""
    return sum(each.seconds for each in trained)
