"""Features by path, of any torch model unedited.

The grammar of a path:

- ``layer3`` or ``layer3:out``: what the module ``layer3`` returned;
- ``layer3:in``: the first tensor it was given;
- ``layer3:in.1`` / ``layer3:out.1``: the second of several (tensors inside tuples, lists and
  mappings are counted in order, positional arguments first; what is no tensor is not counted);
- ``layer3:in.mask`` / ``layer3:out.hidden``: by name, of a keyword argument or a mapping;
- ``relu#1``: the second call of a module that runs several times in one pass; without a number
  it is the last call;
- ``relu()``, ``relu()#2``: what the first (third) call of a bare function of that name returned,
  wherever in the model it happens: ``torch.relu``, ``F.relu``, ``tensor.relu()``. Calls that
  another function of torch makes inside itself are not heard;
- ``scaled_dot_product_attention()#0:in.1``: the second tensor given to such a call;
- ``layer3:queries``, ``:keys``, ``:values``: what fused attention was given inside the module
  ``layer3``, ``(N, heads, T, d)``, keys and values once for all query heads that share them;
  ``layer3:attention``: the matrix ``(N, heads, T, T)`` that it made of them, computed once more.
  They are of the first such call inside; ``layer3#1:queries`` of the second, as in a decoder that
  also attends to an encoder.

A module is named by its path; where there is none of that name, by a name that language models
of all makes share, such as ``layers.0`` or ``head`` (`tutelage.models.points`).

A feature is what passed at that moment: where the model later changes the tensor in place (an
in-place ReLU behind a normalisation), the feature is kept as it was.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from tutelage.core.errors import MissingFeature, ModelError
from tutelage.models.listening import Catch, Listening, listen, never_caught
from tutelage.models.points import path_at
from tutelage.models.tap_paths import Place


class Taps:
    """What to show of one model; hooks sit on it only while a forward pass is under way."""

    def __init__(self, model: nn.Module):
        self._model = model
        self._places: dict[str, Place] = {}
        self._modules: dict[str, str] = {}  # by the names in the paths
        # Seen, and not changed in place afterwards: when in training, and when not.
        self._steady: dict[bool, set[str]] = {True: set(), False: set()}

    @property
    def paths(self) -> list[str]:
        """All tapped paths."""
        return sorted(self._places)

    def add(self, paths: Iterable[str]) -> None:
        """Tap more paths; all or, where one is wrong, none of them."""
        places = [Place.parse(path) for path in paths]
        if places and _compiled(self._model):
            raise ModelError(
                f"this model is compiled, and features ({places[0].path}) cannot be tapped "
                "inside compiled code: leave compile out, or use objectives that read logits only."
            )
        named = {place.name for place in places if not place.function}
        self._modules |= {name: path_at(self._model, name) for name in named}
        self._places |= {place.path: place for place in places}

    def clear(self) -> None:
        """Tap nothing from now on."""
        self._places.clear()
        for steady in self._steady.values():
            steady.clear()

    @contextmanager
    def catching(self) -> Iterator[Mapping[str, Tensor]]:
        """Fill the yielded mapping during the forward pass inside."""
        steady = self._steady[self._model.training]
        catch = Catch(steady)
        places = list(self._places.values())
        functions = [place for place in places if place.function]
        listening = Listening(functions, catch)
        with ExitStack() as hooks:
            for place in places:
                if place.attends:
                    hooks.enter_context(listening.inside(self._module(place), place))
                elif not place.function:
                    hooks.callback(listen(self._module(place), place, catch).remove)
            if functions or any(place.attends for place in places):
                hooks.enter_context(listening)
            yield catch.caught
        for place in self._places.values():
            if place.path not in catch.caught:
                heard = listening.calls if place.function else None
                raise MissingFeature(never_caught(place, heard))
        steady |= catch.check()

    def _module(self, place: Place) -> nn.Module:
        return self._model.get_submodule(self._modules[place.name])


def _compiled(model: nn.Module) -> bool:
    return any(
        type(module).__name__ == "OptimizedModule" or module._compiled_call_impl is not None
        for module in model.modules()
    )
