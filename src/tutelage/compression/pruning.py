"""Networks with fewer units: tensors that are smaller, not masked.

Li, Kadav, Durdanovic, Samet, Graf: Pruning Filters for Efficient ConvNets, 2016,
arXiv:1608.08710.
"""

import copy
from typing import Literal

from torch import Tensor, nn

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.chain import Link, links_of
from tutelage.compression.change import Change
from tutelage.compression.coupled import coupled_of
from tutelage.compression.units import Coupled, Member, lost_of, narrow, scores_of, silence
from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ModelError, NotInstalled, RecipeError, suggest
from tutelage.core.registry import register
from tutelage.evaluation.costs.macs import macs
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
    """Take the least important units out of every layer but the last.

    A unit is a filter of a convolution or an output of a linear layer. The tensors of its layer,
    of the normalisation after it and of the layers that read it become smaller. A chain of layers
    (the zoo's ``mlp``, ``lenet``, ``vgg``, any `torch.nn.Sequential` of such layers) needs nothing
    more. In a network with residual additions or convolutions channel by channel (``resnet``,
    ``wrn``, ``mobilenetv2``) layers that are added lose the same units: these are found by
    torch-pruning (extra ``compress``). Where a shortcut pads with zeros (``resnet`` with shortcut
    ``a``), only the units inside blocks are taken out. Attention, recurrent layers, grouped
    convolutions and normalisations over channels are refused. The result is checked: it must
    answer as the model does when the same units are silenced where they are read.

    Args:
        model: Left as it is.
        check: Real examples on which the two models are compared.
        share: Of the units of each layer that is taken out, above 0 and below 1.
        importance: Of a unit: the sum of sizes of its weights, the root of the sum of their
            squares, or the size of its weight in the normalisation after it (``gamma``: Liu et
            al., arXiv:1708.06519); over all layers that make the unit.
        multiple: Units are left in a multiple of this where a layer had one, for fast kernels.

    Returns:
        The smaller model, to be healed by distillation, and what was done; its details hold the
        units left of each layer by path.

    Raises:
        RecipeError: An option is wrong.
        ModelError: The model's units cannot be followed, it has none to take out, or no
            normalisation to read ``gamma`` from.
        NotInstalled: The model is no chain, and torch-pruning is missing.
    """
    _checked(share, importance, multiple)
    if not isinstance(model, Observed):
        raise ModelError(f"prune takes an Observed, got a {type(model).__name__}: wrap it.")
    before = answers(model, check)
    silenced, smaller = copy.deepcopy(model), copy.deepcopy(model)
    silenced.release()
    smaller.release()
    groups = _groups(silenced.eval(), check[:4].inputs)
    kept = [_kept(g, scores_of(smaller.model, g, importance), share, multiple) for g in groups]
    pairs = list(zip(groups, kept, strict=True))
    if all(len(units) == group.count for group, units in pairs):
        raise ModelError(f"the model has no units to take out at share {share:g}.")
    lost = lost_of(pairs)
    silence(silenced.model, lost)
    narrow(smaller.model, lost)
    after = _as_silenced(smaller, silenced, check)
    change = Change(
        "prune",
        weight_bytes(model),
        weight_bytes(smaller),
        parameters(model).total,
        parameters(smaller).total,
        agreement_of(before, after, check.targets),
        {g.path: {"units_before": g.count, "units_after": len(units)} for g, units in pairs},
        macs_before=_macs(model, check),
        macs_after=_macs(smaller, check),
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


def _kept(group: Coupled, scores: Tensor, share: float, multiple: int) -> Tensor:
    """The units that stay, in their old order."""
    left = group.count - int(share * group.count)
    rounded = -(-left // multiple) * multiple  # up: never more is lost than was asked for
    left = max(1, min(group.count, rounded))
    return scores.topk(left).indices.sort().values


def _groups(model: Observed, inputs: Inputs) -> list[Coupled]:
    """The units that go together: by chain where the model is one, else as torch-pruning sees."""
    try:
        links = links_of(model.model)
    except ModelError as reason:
        try:
            return coupled_of(copy.deepcopy(model), inputs)
        except NotInstalled as missing:
            raise NotInstalled(f"{reason} Other networks: {missing}") from missing
    paths = {module: path for path, module in model.model.named_modules()}
    return [_of_link(link, paths) for link in links]


def _of_link(link: Link, paths: dict[nn.Module, str]) -> Coupled:
    assert link.reader is not None
    units = list(range(link.units))
    each = link.reader.weight.shape[1] // link.units  # several inputs a unit where maps are flat
    columns = list(range(each * link.units))
    makers = [link.maker, *link.norms]
    members = [Member(paths[module], "out", units, units) for module in makers]
    reader = Member(paths[link.reader], "in", columns, [column // each for column in columns])
    return Coupled(link.path, link.units, [*members, reader])


def _macs(model: Observed, check: Batch) -> int | None:
    try:
        return macs(model, check)
    except ModelError:  # it runs an operation whose cost is not known
        return None


def _as_silenced(smaller: Observed, silenced: Observed, check: Batch) -> Tensor:
    """The smaller model's logits, if they are those of the model with its units silenced."""
    try:
        found, expected = answers(smaller, check), answers(silenced, check)
    except RuntimeError as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the pruned model does not run, so its layers are not what they seem: {said}"
        ) from error
    scale = expected.abs().amax().clamp(min=1e-12)
    off = float((found - expected).abs().amax() / scale)
    if not off <= 1e-4:
        raise ModelError(
            f"the pruned model differs by {off:.2g} of the largest logit from the model with the "
            "same units silenced: its layers are not what they seem to be."
        )
    return found
