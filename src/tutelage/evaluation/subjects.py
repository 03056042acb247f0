"""Whom a report is about: the models on trial, and the data that may be used to try them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from tutelage.core.outputs import Answers
from tutelage.data.groups import Groups
from tutelage.data.sets import Examples
from tutelage.evaluation.penultimate import penultimate
from tutelage.evaluation.predict import Predictions, predict
from tutelage.models.observed import Frozen, Observed


@dataclass(frozen=True)
class Subjects:
    """Models by role, and the data of the trial; answers are computed once and kept.

    Attributes:
        models: By role: ``student`` always; ``teacher``; ``baseline``, the same student trained
            without a teacher; ``control``, a student of a teacher that knows nothing. Each answers
            batches; gradients and features can be had of an `Observed` alone.
        test: What figures are made on, opened for this report.
        validation: What may be fitted on: temperatures, thresholds. None where there is none.
        train: What the student learned from.
        taught: What the teacher learned from; None where it is not known.
        outside: Sets the models were never meant for, by name, for tests out of distribution.
        groups: Ways to part the examples, by name.
        seeds: By role, the test answers of further trainings with other seeds.
        training: What each arm's training cost: ``{"student": {"seconds": 61.0, "steps": 940}}``.
        files: ONNX files by role, for their time in ONNX Runtime; they hold what ``models`` do.
        seed: Of every random choice made here.
        level: Confidence of intervals.
    """

    models: Mapping[str, Answers]
    test: Examples
    validation: Examples | None = None
    train: Examples | None = None
    taught: Examples | None = None
    outside: Mapping[str, Examples] = field(default_factory=dict)
    groups: Mapping[str, Groups] = field(default_factory=dict)
    seeds: Mapping[str, Sequence[Predictions]] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    seed: int = 0
    level: float = 0.95

    @property
    def roles(self) -> list[str]:
        """The roles that are filled, teacher first."""
        order = ("teacher", "student", "baseline", "control")
        return [role for role in order if role in self.models]

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        return {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` returns; asked again under the same key, the same thing."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def know(self, role: str, split: str, answers: Predictions) -> None:
        """Answers that were had before: they are not asked for again."""
        self._kept["answers", role, split] = answers

    def answers(self, role: str, split: str = "test") -> Predictions:
        """A model's answers to a split or an outside set (see `examples`)."""
        found: Predictions = self.once(
            ("answers", role, split), lambda: predict(self.models[role], self.examples(split))
        )
        return found

    def features(self, role: str, split: str = "test") -> Tensor | None:
        """What the model's last linear layer reads ``(N, D)``; None where that cannot be seen."""
        model = self.observed(role)
        if model is None:
            return None
        found: Tensor | None = self.once(
            ("features", role, split), lambda: penultimate(model, self.examples(split))
        )
        return found

    def examples(self, split: str) -> Examples:
        """A split, or an outside set, by name."""
        found = {**self.outside, **{name: getattr(self, name) for name in _SPLITS}}[split]
        assert found is not None, f"{split} was asked for without a look whether it is there"
        return found  # type: ignore[no-any-return]

    def observed(self, role: str) -> Observed | None:
        """The model as a torch module that can be differentiated; None for any other kind."""
        model = self.models.get(role)
        if isinstance(model, Frozen):
            return model.observed
        return model if isinstance(model, Observed) else None

    @property
    def images(self) -> bool:
        """Whether the examples are images, ``(C, H, W)``."""
        return len(self.test.example_shape) == 3


_SPLITS = ("test", "validation", "train", "taught")
