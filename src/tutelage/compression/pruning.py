"""Networks with fewer units: tensors that are smaller, not masked.

Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, 2016,
arXiv:1608.08710.
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.chain import Link, links_of
from tutelage.compression.change import Change
from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError, suggest
from tutelage.core.registry import register
from tutelage.evaluation.costs.parameters import parameters, weight_bytes
from tutelage.models.observed import Observed

_IMPORTANCE = ("l1", "l2", "gamma")


@register("compression", "prune")
def prune(
    model: Observed,
    check: Batch,
    *,
    share: float = 0.5,
    importance: Literal["l1", "l2", "gamma"] = "l1",
    multiple: int = 1,
) -> tuple[Observed, Change]:
    """Take the least important units out of every layer but the last of a chain of layers.

    A unit is a filter of a convolution or an output of a linear layer. The tensors of its layer,
    of the normalisation after it and of the next layer become smaller. For the zoo's ``mlp``,
    ``lenet`` and ``vgg`` and any `torch.nn.Sequential` of such layers; a network that is no
    chain (residual additions) is refused. The result is checked: it must answer as the model does
    when the same units are silenced where they are read.

    Args:
        model: Left as it is.
        check: Real examples on which the two models are compared.
        share: Of the units of each layer that is taken out, above 0 and below 1.
        importance: Of a unit: the sum of sizes of its weights, the root of the sum of their
            squares, or the size of its weight in the normalisation after it (``gamma``: Liu et
            al., arXiv:1708.06519).
        multiple: Units are left in a multiple of this where a layer had one, for fast kernels.

    Returns:
        The smaller model, to be healed by distillation, and what was done; its details hold the
        units left of each layer by path.

    Raises:
        RecipeError: An option is wrong.
        ModelError: The model is no chain, has no units to take out, or has no normalisation to
            read ``gamma`` from.
    """
    _checked(share, importance, multiple)
    if not isinstance(model, Observed):
        raise ModelError(f"prune takes an Observed, got a {type(model).__name__}: wrap it.")
    before = answers(model, check)
    silenced, smaller = copy.deepcopy(model), copy.deepcopy(model)
    smaller.release()
    links = links_of(smaller.model)
    kept = [_kept(link, share, importance, multiple) for link in links]
    if all(len(rows) == link.units for link, rows in zip(links, kept, strict=True)):
        raise ModelError(f"the model has no units to take out at share {share:g}.")
    details: dict[str, Any] = {}
    for link, other, rows in zip(links, links_of(silenced.model), kept, strict=True):
        details[link.path] = {"units_before": link.units, "units_after": len(rows)}
        _silence(other, rows)
        _narrow(link, rows)
    after = _as_silenced(smaller, silenced, check)
    change = Change(
        "prune",
        weight_bytes(model),
        weight_bytes(smaller),
        parameters(model).total,
        parameters(smaller).total,
        agreement_of(before, after, check.targets),
        details,
    )
    return smaller, change


def _checked(share: object, importance: object, multiple: object) -> None:
    number = not isinstance(share, bool) and isinstance(share, int | float)
    if not number or not 0 < share < 1:  # type: ignore[operator]
        raise RecipeError(f"share must be a number above 0 and below 1, got {share!r}.")
    if importance not in _IMPORTANCE:
        raise RecipeError(
            f"prune has no importance {importance!r}. {suggest(str(importance), _IMPORTANCE)}"
        )
    if isinstance(multiple, bool) or not isinstance(multiple, int) or multiple < 1:
        raise RecipeError(f"multiple must be a whole number of at least 1, got {multiple!r}.")


def _kept(link: Link, share: float, importance: str, multiple: int) -> Tensor:
    """The units that stay, in their old order."""
    left = link.units - int(share * link.units)
    rounded = -(-left // multiple) * multiple  # up: never more is lost than was asked for
    left = max(1, min(link.units, rounded))
    return _scores(link, importance).topk(left).indices.sort().values


def _scores(link: Link, importance: str) -> Tensor:
    if importance == "gamma":
        weights = [norm.weight for norm in link.norms if norm.affine]
        if not weights:
            raise ModelError(
                f"{link.path!r} has no normalisation with weights after it, so gamma says nothing "
                "of its units: take importance l1 or l2."
            )
        return weights[-1].detach().abs()
    power = 1 if importance == "l1" else 2
    sizes: Tensor = link.maker.weight.detach().flatten(1).norm(p=power, dim=1)
    return sizes


def _columns(link: Link, rows: Tensor) -> Tensor:
    """The inputs of the reader that belong to these units; several each where maps are flat."""
    assert link.reader is not None
    each = link.reader.weight.shape[1] // link.units
    places = torch.arange(each, device=rows.device)
    return (rows[:, None] * each + places).flatten()


def _silence(link: Link, rows: Tensor) -> None:
    """Have the reader take nothing of the other units."""
    assert link.reader is not None
    with torch.no_grad():
        weight = link.reader.weight
        heard = torch.zeros(weight.shape[1], dtype=torch.bool, device=weight.device)
        heard[_columns(link, rows)] = True
        weight[:, ~heard] = 0


def _narrow(link: Link, rows: Tensor) -> None:
    """Cut the other units out of all tensors that know of them."""
    assert link.reader is not None
    columns = _columns(link, rows)
    maker, reader = link.maker, link.reader
    _cut(maker, ("weight", "bias"), rows)
    for norm in link.norms:
        _cut(norm, ("weight", "bias", "running_mean", "running_var"), rows)
        norm.num_features = len(rows)
    weight = reader.weight
    kept = weight.detach()[:, columns].clone()
    reader.weight = nn.Parameter(kept, requires_grad=weight.requires_grad)
    if isinstance(maker, nn.Linear):
        maker.out_features = len(rows)
    else:
        maker.out_channels = len(rows)
    if isinstance(reader, nn.Linear):
        reader.in_features = len(columns)
    else:
        reader.in_channels = len(columns)


def _cut(module: nn.Module, names: tuple[str, ...], rows: Tensor) -> None:
    for name in names:
        tensor = getattr(module, name)
        if tensor is None:
            continue
        kept = tensor.detach()[rows].clone()
        if isinstance(tensor, nn.Parameter):
            kept = nn.Parameter(kept, requires_grad=tensor.requires_grad)
        setattr(module, name, kept)


def _as_silenced(smaller: Observed, silenced: Observed, check: Batch) -> Tensor:
    """The smaller model's logits, if they are those of the model with its units silenced."""
    try:
        found, expected = answers(smaller, check), answers(silenced, check)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the pruned model does not run, so its layers are not the chain they seem: {said}"
        ) from error
    scale = expected.abs().amax().clamp(min=1e-12)
    off = float((found - expected).abs().amax() / scale)
    if not off <= 1e-4:
        raise ModelError(
            f"the pruned model differs by {off:.2g} of the largest logit from the model with the "
            "same units silenced: its layers are not the chain they seem to be."
        )
    return found
