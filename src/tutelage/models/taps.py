"""Features by path, of any torch model unedited.

The grammar of a path:

- ``layer3`` or ``layer3:out``: what the module ``layer3`` returned;
- ``layer3:in``: the first tensor it was given;
- ``layer3:in.1`` / ``layer3:out.1``: the second of several;
- ``relu()``, ``relu()#2``: what the first (third) call of a bare function of that name returned,
  wherever in the model it happens: ``torch.relu``, ``F.relu``, ``tensor.relu()``;
- ``scaled_dot_product_attention()#0:in.1``: the second tensor given to such a call.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tutelage.core.errors import MissingFeature, suggest

_FORM = re.compile(
    r"(?P<module>[^():#]*?)(?P<call>\(\)(#(?P<nth>\d+))?)?(:(?P<side>in|out)(\.(?P<index>\d+))?)?"
)


@dataclass(frozen=True)
class _Place:
    """One parsed path."""

    path: str
    name: str
    call: int | None
    inward: bool
    index: int

    @staticmethod
    def parse(path: str) -> "_Place":
        found = _FORM.fullmatch(path)
        if not found or not found["module"]:
            raise MissingFeature(
                f"{path!r} is no feature path: write 'layer3', 'layer3:in', or 'relu()#2'."
            )
        call = int(found["nth"] or 0) if found["call"] else None
        return _Place(
            path, found["module"], call, found["side"] == "in", int(found["index"] or 0)
        )

    def pick(self, given: Any, returned: Any) -> Tensor:
        """The tensor meant, out of what a module or function was given and returned."""
        tensors = list(_tensors(given if self.inward else returned))
        if self.index >= len(tensors):
            side = "given" if self.inward else "returned"
            raise MissingFeature(
                f"feature {self.path!r}: {self.name!r} was {side} {len(tensors)} tensors, "
                f"so there is no number {self.index}."
            )
        return tensors[self.index]


class Taps:
    """The hooks on one model, and what they caught in the forward pass under way."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._modules: dict[str, RemovableHandle] = {}
        self._calls: dict[str, _Place] = {}
        self._caught: dict[str, Tensor] | None = None

    @property
    def paths(self) -> list[str]:
        """All tapped paths."""
        return sorted({*self._modules, *self._calls})

    def add(self, paths: Iterable[str]) -> None:
        """Tap more paths; all or, where one is wrong, none of them."""
        places = [_Place.parse(path) for path in paths if path not in self.paths]
        known = dict(self._model.named_modules())
        for place in places:
            if place.call is None and place.name not in known:
                raise MissingFeature(
                    f"the model has no module {place.name!r}. {suggest(place.name, filter(None, known))}"
                )
        for place in places:
            if place.call is not None:
                self._calls[place.path] = place
            else:
                hook = self._hook(place)
                module = known[place.name]
                self._modules[place.path] = module.register_forward_hook(hook, with_kwargs=True)

    def clear(self) -> None:
        """Take every hook off."""
        for handle in self._modules.values():
            handle.remove()
        self._modules.clear()
        self._calls.clear()

    @contextmanager
    def catching(self) -> Iterator[Mapping[str, Tensor]]:
        """Fill the yielded mapping during the forward pass inside."""
        caught: dict[str, Tensor] = {}
        self._caught = caught
        try:
            if self._calls:
                with _Listening(self._calls.values(), caught):
                    yield caught
            else:
                yield caught
        finally:
            self._caught = None
        missed = [path for path in self.paths if path not in caught]
        if missed:
            raise MissingFeature(
                f"{missed[0]!r} was tapped, but the model's forward pass never reached it."
            )

    def _hook(self, place: _Place) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, returned: Any) -> None:
            if self._caught is not None:  # the model may also be called by somebody else
                self._caught[place.path] = place.pick((args, kwargs), returned)

        return hook


class _Listening(TorchFunctionMode):
    """Hears every call of a torch function by name."""

    def __init__(self, places: Iterable[_Place], caught: dict[str, Tensor]):
        super().__init__()
        self._wanted = list(places)
        self._caught = caught
        self._seen: dict[str, int] = {}

    def __torch_function__(  # noqa: D102  # torch's own protocol
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        returned = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        number = self._seen.get(name, 0)
        self._seen[name] = number + 1
        for place in self._wanted:
            if place.name == name and place.call == number:
                self._caught[place.path] = place.pick((args, kwargs), returned)
        return returned


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _tensors(inner)
