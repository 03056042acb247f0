"""Models of the transformers library: found inside others, and made anew by another configuration.

A model is never cut in place. Its configuration is changed, a model of the same class is made by
it, and the chosen tensors are put in: so numbers of layers, heads and units, and what caches know
layers by, are right by construction, and what is saved loads again.
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


def pretrained_in(model: nn.Module) -> Any:
    """The outermost model of the transformers library in ``model``; None where there is none."""
    return next((module for module in model.modules() if is_pretrained(module)), None)


def rebuilt(model: Any, config: Any, state: Mapping[str, Tensor]) -> Any:
    """A model of the same class by another configuration, with these weights.

    Args:
        model: A model of the transformers library; it stays as it is.
        config: Of the new one.
        state: All its tensors.

    Returns:
        A model of its own, on the same device, in the same precision and mode; all its
        parameters can be trained.

    Raises:
        ModelError: The library refuses the configuration, or the tensors do not fit it.
    """
    name = type(model).__name__
    attention = model.config._attn_implementation
    try:
        with torch.random.fork_rng(devices=[]), quietly():
            fresh = made(type(model), config, dtype=model.dtype, attn_implementation=attention)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(f"{name} cannot be made in this size: {said}") from error
    try:
        fresh.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the configuration of {name} cannot describe the smaller model ({said}): shrink "
            "another part of it."
        ) from error
    if getattr(model, "generation_config", None) is not None:
        fresh.generation_config = copy.deepcopy(model.generation_config)
    return fresh.to(model.device).train(model.training)


def instead(model: nn.Module, inner: nn.Module, new: nn.Module) -> nn.Module:
    """``model`` with ``new`` where ``inner`` was: a copy of whatever is around it."""
    return new if inner is model else copy.deepcopy(model, {id(inner): new})
