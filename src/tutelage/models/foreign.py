"""Models of other libraries, which are imported only when asked for; here those of timm."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError, NotInstalled, RecipeError, suggest
from tutelage.core.quiet import quietly
from tutelage.models import torchvision_hook


def timm_model(
    name: str, options: Mapping[str, Any], *, classes: int, shape: tuple[int, ...]
) -> nn.Module:
    """A model of the timm library; ``pretrained: true`` fetches its weights.

    Args:
        name: Its name there, as ``resnet10t``.
        options: Passed to ``timm.create_model``.
        classes: Number of logits.
        shape: Of one image, ``(C, H, W)``: its channels are the model's.

    Raises:
        NotInstalled: timm is not here.
        RecipeError: It knows no such name.
        ModelError: The data are no images, or timm refuses the options.
    """
    if len(shape) != 3:
        raise ModelError(f"timm:{name} reads images (C, H, W), and the data gives shape {shape}.")
    timm = library("timm", "vision")
    known = set(timm.list_models(include_tags=False))
    if name.partition(".")[0] not in known:
        raise RecipeError(f"timm has no model {name!r}. {suggest(name, known)}")
    given = {"num_classes": classes, "in_chans": shape[0], "pretrained": False} | dict(options)
    with one_line(f"timm:{name}", options):
        model: nn.Module = timm.create_model(name, **given)
    return model


def library(name: str, extra: str) -> ModuleType:
    """A library that is not always here; `NotInstalled` names the extra that brings it."""
    torchvision_hook.install()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").partition(".")[0] == name:
            raise NotInstalled(
                f'{name} is not installed: pip install "tutelage[{extra}]".'
            ) from error
        raise NotInstalled(
            f'{name} cannot be imported ({error}): pip install "tutelage[{extra}]".'
        ) from error


@contextmanager
def one_line(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Whatever goes wrong in somebody else's library is told in one line."""
    try:
        with quietly():
            yield
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"model {name!r} cannot be made with {dict(options)}: {said}") from error
