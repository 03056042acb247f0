"""A model of the same form that has learned nothing: whether a map depends on what was learned."""

import copy

import torch

from tutelage.core.seeds import generator
from tutelage.models.observed import Observed


def unlearned(model: Observed, seed: int) -> Observed:
    """A copy whose weights are drawn anew, with the deviation that they had.

    Matrices and kernels only: biases and normalisation stay, so that signals keep their size.

    Paper: Adebayo et al., "Sanity Checks for Saliency Maps", arXiv 1810.03292 (there all layers
    are initialised anew).
    """
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, weight in twin.named_parameters():
            if weight.ndim > 1 and weight.is_floating_point():
                drawn = torch.randn(weight.shape, generator=generator(seed, "unlearned", name))
                deviation = weight.float().std().nan_to_num(0.0)
                weight.copy_(drawn.to(weight.device) * deviation)
    return twin
