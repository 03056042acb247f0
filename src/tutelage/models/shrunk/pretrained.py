"""Models that say what they are made by: found inside others, and made anew in another size.

These are models of the transformers library, by their configuration, and the zoo's gpt, by its
sizes. Such a model is never cut in place. Its description is changed, a model of the same class is
made by it, and the chosen tensors are put in: so numbers of layers, heads and units, and what
caches know layers by, are right by construction, and what is saved loads again.
"""

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError, NotInstalled
from tutelage.core.quiet import quietly
from tutelage.models import torchvision_hook
from tutelage.models.shrunk.odd_heads import made
from tutelage.models.zoo.gpt import GPT


def library(name: str) -> Any:
    """A library of the extra ``hf``.

    Raises:
        NotInstalled: It is not here.
    """
    torchvision_hook.install()
    try:
        with quietly():
            return importlib.import_module(name)
    except ImportError as error:
        raise NotInstalled(
            f'{name} cannot be imported ({error}): pip install "tutelage[hf]".'
        ) from error


def is_pretrained(model: nn.Module) -> bool:
    """Whether it is a model of the transformers library, told without importing it."""
    return any(
        kind.__module__.startswith("transformers.") and kind.__name__ == "PreTrainedModel"
        for kind in type(model).__mro__
    )


def described_in(model: nn.Module) -> Any:
    """The outermost model in ``model`` that says what it is made by; None where there is none.

    >>> described_in(nn.Linear(2, 2)) is None
    True
    """
    found = (each for each in model.modules() if isinstance(each, GPT) or is_pretrained(each))
    return next(found, None)


def description_of(model: Any) -> Any:
    """A copy of what a model is made by: its configuration, or of a gpt its sizes."""
    return copy.deepcopy(model.sizes if isinstance(model, GPT) else model.config)


def said_in(description: Any) -> dict[str, Any]:
    """All that a description says, by name."""
    whole: dict[str, Any] = (
        description.to_dict() if hasattr(description, "to_dict") else dict(vars(description))
    )
    return whole


def rebuilt(model: Any, config: Any, state: Mapping[str, Tensor]) -> Any:
    """A model of the same class by another description, with these weights.

    Args:
        model: One that says what it is made by; it stays as it is.
        config: The description of the new one.
        state: All its tensors.

    Returns:
        A model of its own, on the same device, in the same precision and mode; all its
        parameters can be trained.

    Raises:
        ModelError: The library refuses the configuration, or the tensors do not fit it.
    """
    name, weight = type(model).__name__, next(model.parameters())
    try:
        with torch.random.fork_rng(devices=[]), quietly():
            fresh = _fresh(model, config)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f"{name} cannot be made in this size: {said}") from error
    _untie(fresh, state)
    try:
        fresh.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the description of {name} cannot describe the smaller model ({said}): shrink "
            "another part of it."
        ) from error
    if getattr(model, "generation_config", None) is not None:
        fresh.generation_config = copy.deepcopy(model.generation_config)
    return fresh.to(weight.device).train(model.training)


def _fresh(model: Any, description: Any) -> Any:
    if isinstance(model, GPT):
        return GPT(description).to(next(model.parameters()).dtype)
    attention = model.config._attn_implementation
    return made(type(model), description, dtype=model.dtype, attn_implementation=attention)


def _untie(fresh: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Part what shares a tensor by the description, and in these weights does not."""
    first: dict[int, str] = {}
    for name, weight in list(fresh.named_parameters(remove_duplicate=False)):
        other = first.setdefault(id(weight), name)
        both = [state[each] for each in (other, name) if each in state]
        if len(both) == 2 and not torch.equal(*both):
            parent, _, leaf = name.rpartition(".")
            setattr(fresh.get_submodule(parent), leaf, nn.Parameter(torch.empty_like(weight)))


def instead(model: nn.Module, inner: nn.Module, new: nn.Module) -> nn.Module:
    """``model`` with ``new`` where ``inner`` was: a copy of whatever is around it."""
    return new if inner is model else copy.deepcopy(model, {id(inner): new})
