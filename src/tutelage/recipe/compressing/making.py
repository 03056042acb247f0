"""The steps of a sweep, made of the trained student: networks, healed or not, and their files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import tutelage.compression
from tutelage.compression import Change
from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, Diverged, ExportError, ModelError
from tutelage.core.outputs import Answers
from tutelage.deployment import export_onnx
from tutelage.models import Observed, Tempered
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.caching import answers
from tutelage.recipe.calibrating import calibrated
from tutelage.recipe.compressing.planning import healing
from tutelage.recipe.compressing.tree import STUDENT, Node
from tutelage.recipe.measures import measure
from tutelage.recipe.plan import Plan
from tutelage.recipe.sections import Train
from tutelage.recipe.students import taught_arm
from tutelage.recipe.teaching import Taught

FOLDER = "compressed"
_CHECK = 256  # validation examples on which each step is compared with the one before
_FINISHES: Mapping[str, str] = {"int8_learned": "qat_finished"}
"""What makes the file of a network that was taught for it, in `tutelage.compression`."""
_LEFT_OUT = (ModelError, ExportError, DataError, Diverged)


@dataclass
class Workshop:
    """Where the steps are made, one after the other.

    Attributes:
        made: The plan.
        taught: Its teacher.
        student: What all of it is made of: the first seed's student.
        desk: Folder and console; there must be a folder.
        facts: What is known of each step that was made, by name.
        failed: Why a step could not be made, by name.
    """

    made: Plan
    taught: Taught
    student: Trained
    desk: Desk
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _networks: dict[str, Observed] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the files go."""
        assert self.desk.folder is not None
        return self.desk.folder.path

    def path(self, name: str | None) -> Path:
        """The file of a step, or of the student itself."""
        if name in (None, STUDENT):
            return self.folder / "student.onnx"
        return self.folder / FOLDER / f"{name}.onnx"

    def make_all(self, nodes: Sequence[Node]) -> None:
        """Make every step that can be made; the others say why not."""
        self._networks[STUDENT] = plain(self.student.model).cpu().float().eval()
        facts = self._export(self.student.model, self.path(None), self.made.name)
        self.facts[STUDENT] = {"stages": [], "temperature": self.student.divisor, **facts}
        for node in nodes:
            if node.before in self.failed:
                self.failed[node.name] = f"the step before it: {self.failed[node.before]}"
                continue
            try:
                self.facts[node.name] = self._make(node)
            except _LEFT_OUT as error:
                self.failed[node.name] = " ".join(str(error).split())
                self.desk.say(f"compressing, {node.name}: left out: {self.failed[node.name]}")

    def _make(self, node: Node) -> dict[str, Any]:
        before = self.facts[node.before or STUDENT]
        ways = {"network": self._network, "file": self._file, "taught": self._learned}
        made = ways[node.stage.kind](node)
        step = {"stage": node.stage.name, "options": dict(node.stage.options), **made.pop("step")}
        kept = {"temperature": before["temperature"], **made}
        return {**kept, "stages": [*before["stages"], step], "ends": node.ends}

    def _network(self, node: Node) -> dict[str, Any]:
        stage, validation = node.stage, self.made.splits.validation
        smaller, change = stage.act(
            self._networks[node.before or STUDENT], self._check(), **stage.options
        )
        unhealed = measure(smaller, validation, self.made.train)
        ready = Trained(f"compress/{node.name}", smaller, unhealed, 0, 0.0)
        if stage.heal is not None:
            ready = self._heal(ready, stage.heal)
        smaller = ready.model.cpu().float().eval()
        self._networks[node.name] = smaller
        told = f" ({unhealed:.2%} before it was healed)" if stage.heal else ""
        self.desk.say(f"compressing, {node.name}: {ready.validation:.2%} on validation{told}")
        step = {**_plain(change), "healed": _healed(unhealed, ready) if stage.heal else None}
        shipped = calibrated(ready, self.made, self.desk) if self.made.calibrate else ready
        words = f"{self.made.name}: {node.name}"
        facts = self._export(shipped.model, self.path(node.name), words)
        return {"step": step, "temperature": shipped.divisor, **facts}

    def _learned(self, node: Node) -> dict[str, Any]:
        """A network that learns with the rounding of its file, and that file."""
        stage = node.stage
        assert stage.heal is not None
        batches = [calibration(self.made, _CHECK)]
        student = stage.act(self._networks[node.before or STUDENT], batches, **stage.options)
        unhealed = measure(student, self.made.splits.validation, self.made.train)
        ready = self._heal(Trained(f"compress/{node.name}", student, unhealed, 0, 0.0), stage.heal)
        ready = replace(ready, model=ready.model.cpu().float().eval())
        shipped = calibrated(ready, self.made, self.desk) if self.made.calibrate else ready
        finish = getattr(tutelage.compression, _FINISHES[stage.name])
        change = finish(
            shipped.model, self.path(node.name), self._check(), self._write, replace=True
        )
        self._say(node.name, change)
        step = {**_plain(change), "healed": _healed(unhealed, ready)}
        return {"step": step, "temperature": shipped.divisor, "parity": None}

    def _write(self, model: Observed, path: Path) -> None:
        self._export(model, path, self.made.name)

    def _heal(self, smaller: Trained, heal: Train) -> Trained:
        made, seed = healing(self.made, heal), self.made.seeds[0]
        with answers(made, self.taught.model, self.desk) as teacher:
            return _taught(made, smaller, teacher, seed, self.desk)

    def _file(self, node: Node) -> dict[str, Any]:
        stage = node.stage
        hands = {
            "source": self.path(node.before),
            "target": self.path(node.name),
            "check": self._check(),
            "calibration": [calibration(self.made, stage.option("examples") or 0)],
            "replace": True,  # what a stopped run has left
        }
        known = registry.options_of(stage.act)
        given = {name: value for name, value in hands.items() if name in known}
        change = stage.act(**given, **stage.options)
        self._say(node.name, change)
        return {"step": {**_plain(change), "healed": None}, "parity": None}

    def _say(self, name: str, change: Change) -> None:
        same = f"{change.agreement.equal_top1:.1%} of the answers as before"
        self.desk.say(f"compressing, {name}: {change.bytes_after:,} bytes, {same}")

    def _export(self, model: Observed, path: Path, words: str) -> dict[str, Any]:
        found = export_onnx(
            model, self._check(), path, names=self.made.splits.classes, source=words
        )
        return {"parity": {"max_difference": found.max_difference, "examples": found.examples}}

    def _check(self) -> Batch:
        validation = self.made.splits.validation
        return validation.batch(torch.arange(min(_CHECK, len(validation))))


def plain(student: Observed) -> Observed:
    """The network that learns: without the temperature that its logits are divided by."""
    read = student.read
    if not isinstance(read, Tempered):
        return student
    classes = None if student.classes is None else student.classes.tolist()
    return Observed(student.model, intake=student.intake, read=read.read, classes=classes)


def calibration(made: Plan, examples: int) -> Batch:
    """Training examples from all over the set, unchanged: validation is kept for the choice."""
    train = made.splits.train
    count = min(len(train), max(examples, 1))
    return train.batch(torch.linspace(0, len(train) - 1, count).long())


def _taught(made: Plan, smaller: Trained, teacher: Answers, seed: int, desk: Desk) -> Trained:
    """A compressed student, taught as the student was."""
    start = smaller.model.train  # it was answering until now
    return taught_arm(made, start, teacher, seed, smaller.label, desk, purpose="heal")


def _healed(unhealed: float, ready: Trained) -> dict[str, Any]:
    return {
        "validation_before": unhealed,
        "validation_after": ready.validation,
        "steps": ready.steps,
        "seconds": ready.seconds,
        "curve": ready.curve,
    }


def _plain(change: Change) -> dict[str, Any]:
    """What a stage did, as plain data."""
    details: Mapping[str, Any] = change.details
    return {
        "bytes_before": change.bytes_before,
        "bytes_after": change.bytes_after,
        "parameters_before": change.parameters_before,
        "parameters_after": change.parameters_after,
        "equal_top1": change.agreement.equal_top1,
        "max_difference": change.agreement.max_difference,
        "details": dict(details),
    }
