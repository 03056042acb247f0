"""A network whose large linear layers are each two thinner ones.

Denton, Zaremba, Bruna, LeCun, Fergus: Exploiting Linear Structure Within Convolutional Networks
for Efficient Evaluation, 2014, arXiv:1404.0736.
"""

import copy
from fnmatch import fnmatchcase

from torch import nn

from tutelage.compression.agreement import agreement_of, answers
from tutelage.compression.change import Change
from tutelage.compression.factors import Factors, checked_energy, factorisable, factorise
from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError
from tutelage.core.registry import register
from tutelage.evaluation.costs.parameters import parameters, weight_bytes
from tutelage.models.observed import Observed


@register("compression", "low_rank")
def low_rank(
    model: Observed, check: Batch, *, energy: float = 0.9, layers: str = "*"
) -> tuple[Observed, Change]:
    """Linear layers and 1x1 convolutions, each as two thinner layers, where that saves weights.

    A layer that would not become smaller stays as it is, and so does one that shares its weight
    with another. To choose a rank for one layer, see `tutelage.compression.factorise`.

    Args:
        model: Left as it is.
        check: Real examples on which the two models are compared.
        energy: Share of each weight's sum of squares that is kept, above 0 and at most 1.
        layers: Paths of the layers to look at, as a pattern: ``layer*``.

    Returns:
        The smaller model, to be healed by distillation, and what was done; its details hold the
        rank and the relative error of each layer by path.

    Raises:
        RecipeError: An option is wrong, or no layer is matched.
        ModelError: No layer becomes smaller, or the model reads the weights of one by itself.
    """
    checked_energy(energy)
    before = answers(model, check)
    smaller = copy.deepcopy(model)
    smaller.release()
    found = _chosen(smaller.model, layers)
    made: dict[str, Factors] = {}
    for path, layer in found.items():
        factors = factorise(layer, energy=energy)
        if factors.parameters_after < factors.parameters_before:
            smaller.model.set_submodule(path, factors.layers)
            made[path] = factors
    if not made:
        raise ModelError(
            f"none of {len(found)} layers becomes smaller at energy {energy:g}: ask for less."
        )
    try:
        after = answers(smaller, check)
    except (RuntimeError, AttributeError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"the model does not run with its layers in two: {said}") from error
    change = Change(
        "low_rank",
        weight_bytes(model),
        weight_bytes(smaller),
        parameters(model).total,
        parameters(smaller).total,
        agreement_of(before, after, check.targets),
        {path: {"rank": f.rank, "relative_error": f.relative_error} for path, f in made.items()},
    )
    return smaller, change


def _chosen(model: nn.Module, pattern: str) -> dict[str, nn.Linear | nn.Conv2d]:
    uses: dict[int, int] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for module in modules.values():
        for parameter in module.parameters(recurse=False):
            uses[id(parameter)] = uses.get(id(parameter), 0) + 1
    able = {
        path: module
        for path, module in modules.items()
        if path and factorisable(module) and uses[id(module.weight)] == 1
    }
    chosen = {path: module for path, module in able.items() if fnmatchcase(path, pattern)}
    if not chosen:
        raise RecipeError(
            f"no layer that can be factorised matches {pattern!r}; the model has: "
            f"{', '.join(able) or 'none'}."
        )
    return chosen
