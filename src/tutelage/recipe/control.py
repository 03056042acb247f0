"""The control of what a teacher taught: the same student under a teacher that knows nothing.

What the two share with the teacher's answers was not taught by what the teacher knew (Stanton,
Izmailov, Kirichenko, Alemi, Wilson: Does Knowledge Distillation Really Work?, 2021,
arXiv:2106.05945, compare with independent students; a random teacher shows what the procedure does
by itself).
"""

import copy

import torch
from torch import nn

from tutelage.core.seeds import derive
from tutelage.models import Frozen, Observed
from tutelage.recipe.arms import Desk, Trained
from tutelage.recipe.plan import Plan
from tutelage.recipe.students import student_of
from tutelage.recipe.teaching import Taught


def unknowing(teacher: Observed, seed: int) -> Frozen:
    """A network like ``teacher`` with new first weights; the teacher stays as it is.

    Layers draw their weights as torch's own do; of other modules each tensor of weights is
    shuffled, which keeps its scale and nothing else.

    Example:
        >>> knows = Observed(nn.Linear(4, 3))
        >>> torch.equal(unknowing(knows, 0).observed.model.weight, knows.model.weight)
        False
    """
    made = copy.deepcopy(teacher)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(derive(seed, "random teacher"))
        for module in made.model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            else:
                _shuffle(module)
    return Frozen(made)


def control_arm(made: Plan, taught: Taught, desk: Desk) -> Trained:
    """The first seed's student, all the same but for its teacher; it may well learn nothing."""
    seed = made.seeds[0]
    nobody = unknowing(taught.model.observed, seed)
    label = f"control-{seed}"
    return student_of(made, nobody.observed, nobody, seed, label, desk, may_collapse=True)


def _shuffle(module: nn.Module) -> None:
    for weights in module.parameters(recurse=False):
        order = torch.randperm(weights.numel())
        weights.copy_(weights.flatten()[order.to(weights.device)].view_as(weights))
