"""From a name in a recipe to a model."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

import tutelage.models.zoo  # registers the models written here
from tutelage.core import registry
from tutelage.core.errors import ModelError, RecipeError, suggest
from tutelage.models.foreign import timm_model
from tutelage.models.hugging_face import hf_model
from tutelage.models.points import named_points

Spec = str | Mapping[str, Any]
"""``"resnet20"``, or ``{"resnet": {"depth": 20}}``, or with a name ``timm:...`` or ``hf:...``."""

_OUTSIDE: Mapping[str, Callable[..., nn.Module]] = {"timm": timm_model, "hf": hf_model}


def build_model(spec: Spec, *, classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Make the model that a recipe names, for data of this kind, with fresh weights.

    What the data says need not be written: ``channels`` and ``size`` of images, ``inputs``
    (numbers in an example), ``row`` (numbers in a step or in an image's row).

    Args:
        spec: A registered name, ``timm:NAME`` (the timm library) or ``hf:NAME_OR_FOLDER`` (the
            transformers library); or a mapping of the one name to its options.
        classes: Number of logits.
        shape: Of one example: ``(C, H, W)``, ``(T, D)`` or ``(D,)``.

    Returns:
        A model; `Observed` finds the reader it needs.

    Raises:
        RecipeError: Name or option is not known, or an option is missing.
        ModelError: An option is out of its range, or the model does not fit the data.
        NotInstalled: The name needs a library that is not here.

    Example:
        >>> net = build_model({"vgg": {"widths": [8, 16]}}, classes=10, shape=(1, 28, 28))
        >>> net.feature_points
        ('layer1', 'layer2', 'pool')
    """
    name, options = parse_spec(spec)
    source, colon, inner = name.partition(":")
    if colon:
        if source not in _OUTSIDE:
            raise RecipeError(
                f"model {name!r}: {source!r} is no source of models. {suggest(source, _OUTSIDE)}"
            )
        return _OUTSIDE[source](inner, options, classes=classes, shape=tuple(shape))
    maker = registry.get("model", name)
    known = registry.options_of(maker)
    data = {k: v for k, v in _from_data(classes, shape).items() if k in known and k not in options}
    # Where channels are counted in other sizes (inputs, row), an example need be no image.
    if "channels" in known and not {"channels", "inputs", "row"} & {*data, *options}:
        raise ModelError(
            f"{name} reads images (C, H, W), and examples have shape {tuple(shape)}: take mlp "
            "(rows) or gru (sequences), or give images."
        )
    try:
        model = registry.build("model", name, options, **data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"model {name!r} cannot be made with {options}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r} made a {type(model).__name__} and no torch module.")
    return model


def parse_spec(spec: Spec) -> tuple[str, dict[str, Any]]:
    """Name and options of what a recipe says.

    >>> parse_spec("lenet"), parse_spec({"wrn": {"depth": 16}}), parse_spec({"lenet": None})
    (('lenet', {}), ('wrn', {'depth': 16}), ('lenet', {}))
    """
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, Mapping) and len(spec) == 1:
        name, options = next(iter(spec.items()))
        if isinstance(name, str) and (options is None or isinstance(options, Mapping)):
            return name, dict(options or {})
    raise RecipeError(
        "a model is a name, or one name with its options ({resnet: {depth: 20}}), "
        f"got {spec!r}."
    )


def feature_points(model: nn.Module) -> tuple[str, ...]:
    """The names that a model promises to keep, from the input to the output.

    Of models of the zoo their own, of language models of the transformers library the common ones
    (`tutelage.models.points`), none of other models.
    """
    if isinstance(model, tutelage.models.zoo.Network):
        return model.feature_points
    return tuple(name for name in named_points(model) if name != "head")


def _from_data(classes: int, shape: tuple[int, ...]) -> dict[str, Any]:
    if not shape or any(side < 1 for side in shape):
        raise ModelError(f"an example must have a shape such as (3, 32, 32), got {tuple(shape)}.")
    said: dict[str, Any] = {"classes": classes, "inputs": math.prod(shape), "shape": tuple(shape)}
    said["row"] = shape[-1] * (shape[0] if len(shape) == 3 else 1)
    if len(shape) == 3:
        channels, high, wide = shape
        said |= {"channels": channels, "size": high if high == wide else (high, wide)}
    return said
