"""Models of other libraries: timm and transformers, imported only here and only when asked for."""

import importlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError, NotInstalled, RecipeError, suggest
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
    timm = _library("timm", "vision")
    known = set(timm.list_models(include_tags=False))
    if name.partition(".")[0] not in known:
        raise RecipeError(f"timm has no model {name!r}. {suggest(name, known)}")
    given = {"num_classes": classes, "in_chans": shape[0], "pretrained": False} | dict(options)
    with _one_line(f"timm:{name}", options):
        model: nn.Module = timm.create_model(name, **given)
    return model


def hf_model(
    name: str, options: Mapping[str, Any], *, classes: int, shape: tuple[int, ...]
) -> nn.Module:
    """A model of the transformers library, from a folder or from its hub, never running its code.

    Options: ``task`` (``image-classification`` or ``sequence-classification``), ``pretrained``
    (true: its weights, safetensors only; false: fresh ones by its configuration), ``new_head``
    (true: a fresh last layer where its number of classes differs), ``classes``, ``revision``.

    Args:
        name: A folder with ``config.json``, or a name on the hub.
        options: As above.
        classes: Number of logits.
        shape: Of one example; not needed here.

    Raises:
        NotInstalled: transformers is not here.
        RecipeError: An option is not known.
        ModelError: There is no such model, or it has another number of classes.
    """
    chosen: dict[str, Any] = {
        "classes": classes,
        "task": "image-classification",
        "pretrained": True,
        "new_head": False,
        "revision": "main",
    }
    for key in options:
        if key not in chosen:
            raise RecipeError(f"model 'hf:{name}' has no option {key!r}. {suggest(key, chosen)}")
    chosen |= dict(options)
    heads = {
        "image-classification": "AutoModelForImageClassification",
        "sequence-classification": "AutoModelForSequenceClassification",
    }
    task = str(chosen["task"])
    if task not in heads:
        raise RecipeError(f"model 'hf:{name}' has no task {task!r}. {suggest(task, heads)}")
    if not (Path(name) / "config.json").is_file() and (Path(name).is_dir() or name[:1] in "./~"):
        raise ModelError(f"hf:{name}: there is no folder of that name with a config.json in it.")
    library = _library("transformers", "hf")
    loader = getattr(library, heads[task])
    with _one_line(f"hf:{name}", options):
        config = library.AutoConfig.from_pretrained(
            name, revision=chosen["revision"], trust_remote_code=False
        )
        has, classes = config.num_labels, int(chosen["classes"])
        if has != classes and (chosen["new_head"] or not chosen["pretrained"]):
            config.num_labels = classes
        elif has != classes:
            raise ModelError(
                f"hf:{name} has {has} classes where {classes} were asked for: set new_head: true "
                f"for a fresh last layer, or classes: {has} and map them to the data's."
            )
        if not chosen["pretrained"]:
            model: nn.Module = loader.from_config(config, trust_remote_code=False)
        else:
            model = loader.from_pretrained(
                name,
                config=config,
                revision=chosen["revision"],
                ignore_mismatched_sizes=bool(chosen["new_head"]),
                trust_remote_code=False,
                use_safetensors=True,
            )
    return model


def _library(name: str, extra: str) -> ModuleType:
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
def _one_line(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Whatever goes wrong in somebody else's library is told in one line."""
    hushed = logging.getLogger("transformers")
    level = hushed.level
    hushed.setLevel(logging.ERROR)
    try:
        yield
    except (OSError, TypeError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"model {name!r} cannot be made with {dict(options)}: {said}") from error
    finally:
        hushed.setLevel(level)
