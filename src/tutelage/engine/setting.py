"""Who learns what from whom, and in which order: the only thing that settings differ in."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.outputs import Measure
from tutelage.engine.learner import Learner
from tutelage.models.observed import Frozen, Observed

Item = TypeVar("Item")


@dataclass(frozen=True)
class Update:
    """One update: ``learner`` gets better at ``loss`` on ``batch``."""

    learner: Learner
    loss: Measure
    batch: Batch
    name: str = "student"


@runtime_checkable
class Stateful(Protocol):
    """Anything with a state: modules, learners, samplers."""

    def state_dict(self) -> dict[str, Any]:
        """All of it."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Go back to it."""
        ...


class AbstractSetting(ABC, Generic[Item]):
    """One training situation: classic, mutual, adversarial, data-free, federated...

    `updates` is a generator that reads like the paper's algorithm box. It never calls backward:
    the engine takes each update it yields (accumulation, precision, clipping, step) and then
    resumes it, so the code after a ``yield`` sees the updated learner.
    """

    def prepare(self, item: Item) -> None:
        """Look at the first item before learning: bind shapes, adopt helpers."""

    @abstractmethod
    def updates(self, item: Item) -> Iterator[Update]:
        """The updates that one item of the source leads to, in order."""

    def learners(self) -> dict[str, Learner]:
        """All learners this setting holds, by attribute."""
        return {name: part for name, part in _parts(self) if isinstance(part, Learner)}

    def teachers(self) -> dict[str, Frozen]:
        """All frozen teachers this setting holds, by attribute (inside others as well)."""
        found: dict[str, Frozen] = {}
        for name, part in _parts(self):
            if isinstance(part, nn.Module):
                for inner, module in part.named_modules():
                    if isinstance(module, Frozen):
                        found[f"{name}.{inner}".rstrip(".")] = module
        return found

    def stateful(self) -> dict[str, Stateful]:
        """All that a checkpoint must hold: learners, and what is stateful and none of theirs.

        Frozen teachers are left out: they cannot change, and are compared by their fingerprints.
        A number or list that changes while learning is not seen here: hold it in a buffer of a
        module, or in anything with ``state_dict`` and ``load_state_dict``.
        """
        learners = self.learners()
        owned = {id(m) for each in learners.values() for m in each.modules()}
        owned |= {id(m) for each in self.teachers().values() for m in each.modules()}
        fixed = {id(t) for each in self.teachers().values() for t in _tensors(each)}
        rest = {
            name: part
            for name, part in _parts(self)
            if isinstance(part, Stateful)
            and name not in learners
            and id(part) not in owned
            and not (isinstance(part, nn.Module) and _all_in(part, fixed))
        }
        return {**learners, **rest}


def held_modules(setting: object) -> Iterator[nn.Module]:
    """All modules that ``setting`` holds, by itself or in lists and dicts."""
    return (part for _, part in _parts(setting) if isinstance(part, nn.Module))


def held_parts(setting: object) -> Iterator[Any]:
    """Whatever ``setting`` holds, by itself or in lists and dicts."""
    return (part for _, part in _parts(setting))


def unfrozen(setting: AbstractSetting[Any]) -> str | None:
    """The name of a model in training that teaches without being `Frozen`, if there is one.

    A learner's own model may teach (mutual learning), and so may one in eval mode that only the
    setting changes (a moving average).
    """
    allowed = {id(module) for each in setting.learners().values() for module in each.modules()}
    allowed |= {id(module) for each in setting.teachers().values() for module in each.modules()}
    for name, part in _parts(setting):
        if not isinstance(part, nn.Module):
            continue
        for inner, module in part.named_modules():
            drifts = isinstance(module, Observed) and any(m.training for m in module.modules())
            if drifts and id(module) not in allowed:
                return f"{name}.{inner}".rstrip(".")
    return None


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _all_in(module: nn.Module, fixed: set[int]) -> bool:
    """Whether a module (an ensemble of teachers, say) has no tensor but those of ``fixed``."""
    tensors = [id(tensor) for tensor in _tensors(module)]
    return bool(tensors) and fixed.issuperset(tensors)


def _parts(setting: object) -> Iterator[tuple[str, Any]]:
    for name, value in vars(setting).items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}.{i}", inner) for i, inner in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value
