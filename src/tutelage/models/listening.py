"""What hears modules and functions while a model runs, and keeps what was asked for."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tutelage.core.errors import ModelError, suggest
from tutelage.models.attention_calls import CALL, of_call
from tutelage.models.tap_paths import Place


class Catch:
    """What was caught in one forward pass."""

    def __init__(self, steady: set[str]):
        self.caught: dict[str, Tensor] = {}
        self._steady = steady
        self._seen: dict[str, tuple[Tensor, int]] = {}  # the tensor itself, and its version

    def put(self, place: Place, tensor: Tensor) -> None:
        """Keep ``tensor``, as it is now."""
        if tensor.is_inference():  # such tensors do not say when they are changed
            self.caught[place.path] = tensor.clone()
            return
        self._seen[place.path] = tensor, tensor._version
        # A copy, until one whole pass has shown that nobody changes this one in place. Then an
        # alias, which stands in the graph where the copy stood: gradients that meet at the tensor
        # are added up in the same order, and a run that was stopped goes on bit for bit.
        steady = place.path in self._steady
        self.caught[place.path] = tensor.view_as(tensor) if steady else tensor.clone()

    def check(self) -> set[str]:
        """The paths that need no copy, after a pass; a late change in place is refused."""
        changed = {path for path, (seen, version) in self._seen.items() if seen._version != version}
        late = sorted(changed & self._steady)
        if late:
            self._steady.difference_update(late)
            raise ModelError(
                f"the model changed the feature {late[0]!r} in place in this pass and not in the "
                "passes before: run it again, from now on a copy is kept."
            )
        return set(self._seen) - changed


@dataclass
class _Room:
    """A module whose attention is wanted, and what was heard in it since it began to run."""

    place: Place
    groups: int
    running: bool = False
    calls: int = 0


class Listening(TorchFunctionMode):
    """Hears every call of a torch function by name, and calls of attention by where they are."""

    def __init__(self, places: Iterable[Place], catch: Catch):
        super().__init__()
        self._wanted = list(places)
        self._catch = catch
        self._rooms: list[_Room] = []
        self.calls: dict[str, int] = {}

    @contextmanager
    def inside(self, module: nn.Module, place: Place) -> Iterator[None]:
        """Listen for what ``place`` wants of the attention that runs inside ``module``."""
        shared = (getattr(part, "num_key_value_groups", 1) for part in module.modules())
        room = _Room(place, groups=max(shared))
        self._rooms.append(room)

        def begins(module: nn.Module, args: Any) -> None:
            room.running, room.calls = True, 0

        def ends(module: nn.Module, args: Any, returned: Any) -> None:
            room.running = False

        hooks = module.register_forward_pre_hook(begins), module.register_forward_hook(ends)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_function__(  # torch's own protocol
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        here = [p for p in self._wanted if p.name == name and p.number == number]
        for place in here:
            if place.inward:  # before the call: it may work in place
                self._catch.put(place, place.pick(args, kwargs, None))
        if name == CALL:
            self._attends(args, kwargs)
        returned = func(*args, **kwargs)
        for place in here:
            if not place.inward:
                self._catch.put(place, place.pick(args, kwargs, returned))
        return returned

    def _attends(self, args: Any, kwargs: Mapping[str, Any]) -> None:
        for room in self._rooms:
            if room.running:
                if room.calls == (room.place.number or 0):
                    part = of_call(room.place.side, args, kwargs, room.groups)
                    self._catch.put(room.place, part)
                room.calls += 1


def listen(module: nn.Module, place: Place, catch: Catch) -> RemovableHandle:
    """One hook; what a module is given is caught before the call, for it may work in place."""
    calls = 0

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        after(module, args, kwargs, None)

    def after(module: nn.Module, args: Any, kwargs: Any, returned: Any) -> None:
        nonlocal calls
        if place.number is None or place.number == calls:
            catch.put(place, place.pick(args, kwargs, returned))
        calls += 1

    if place.inward:
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after, with_kwargs=True)


def never_caught(place: Place, heard: Mapping[str, int] | None) -> str:
    """What to say of a feature that was not caught; ``heard`` are a function's calls, if it is one.

    >>> never_caught(Place.parse("relu()#2"), {"relu": 1})
    "'relu()#2' was tapped, but the model called 'relu' only 1 times in this forward pass (they..."
    """
    if place.attends:
        return (
            f"{place.path!r} was tapped, and number {place.number or 0} of the calls of {CALL} "
            f"inside {place.name!r} never came: where a transformers model attends in another "
            "way, call its set_attn_implementation('sdpa')."
        )
    if heard is None:
        return f"{place.path!r} was tapped, but the model's forward pass never reached it."
    if place.name in heard:
        times = heard[place.name]
        return (
            f"{place.path!r} was tapped, but the model called {place.name!r} only {times} times "
            "in this forward pass (they are counted from 0)."
        )
    known = (name for name in heard if not name.startswith("_"))
    return f"the model called no function {place.name!r}. {suggest(place.name, known)}"
