"""Everything in its place before it is needed: device, memory format, processes, optimizer."""

from typing import Any
from weakref import WeakSet

from tutelage.core.errors import RecipeError
from tutelage.core.source import Source
from tutelage.engine.items import items_from, moved
from tutelage.engine.learner import Learner
from tutelage.engine.machine import Machine
from tutelage.engine.parallel import Wrapping
from tutelage.engine.randomness import Randomness
from tutelage.engine.setting import AbstractSetting, unfrozen
from tutelage.models.observed import Observed


class Readiness:
    """Makes teachers and learners of one run ready, each once."""

    def __init__(self, setting: AbstractSetting[Any], machine: Machine):
        self._setting, self._machine = setting, machine
        # Weak: a setting may make learners all the time, and let them go.
        self._begun: WeakSet[Learner] = WeakSet()
        self._shaped: WeakSet[Observed] = WeakSet()
        self.wrapping = Wrapping(machine)

    def prepare(self, source: Source[Any], random: Randomness) -> None:
        """Put everything in its place; let the setting look at the first item."""
        if name := unfrozen(self._setting):
            raise RecipeError(
                f"{name} is a model in train mode that no learner owns, so its BatchNorm and "
                "dropout would move while it teaches: wrap it in Frozen."
            )
        place = self._machine.place
        teachers = self._setting.teachers().values()
        for model in [*teachers, *(each.model for each in self._setting.learners().values())]:
            model.to(place)
        item = moved(next(items_from(source, 0, random.all)), place)
        random.all("prepare")
        with self._machine.autocast():
            self._setting.prepare(item)
        for teacher in self._setting.teachers().values():
            teacher.to(place)
            self._shape(teacher.observed)
        for learner in self._setting.learners().values():
            self.begin(learner)

    def begin(self, learner: Learner) -> None:
        """Make a learner ready for its first update; settings may bring new ones at any time."""
        if learner in self._begun:
            return
        self._begun.add(learner)
        learner.model.to(self._machine.place)
        learner.helpers.to(self._machine.place)
        self._shape(learner.model)
        self.wrapping.wrap(learner)
        learner.start()

    def _shape(self, model: Observed) -> None:
        """Memory format and compilation."""
        if model in self._shaped:
            return
        self._shaped.add(model)
        if self._machine.channels_last:
            model.use_channels_last()
        if self._machine.compile:
            model.compile_model(self._machine.backend)


def fingerprints(setting: AbstractSetting[Any]) -> dict[str, int]:
    """A checksum of every frozen teacher that ``setting`` holds."""
    return {name: each.fingerprint() for name, each in setting.teachers().items()}
