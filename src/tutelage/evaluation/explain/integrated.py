"""Integrated gradients, by the optional package captum."""

import torch
from torch import Tensor

from tutelage.core.errors import NotInstalled
from tutelage.evaluation.whitebox import whitebox
from tutelage.models.observed import Observed


def integrated_gradients(
    model: Observed, inputs: Tensor, classes: Tensor, *, steps: int = 16
) -> Tensor:
    """What each pixel adds to the logit of a class on the straight way from a black image.

    ``|x_i ∫ d logit_y(t x) / d x_i dt|``, summed over channels; the signed terms of an example
    sum to ``logit_y(x) - logit_y(0)`` (completeness).

    Args:
        model: A torch model.
        inputs: Images ``(N, C, H, W)`` in [0, 1].
        classes: The class asked about, ``(N,)``.
        steps: Points on the way (Gauss-Legendre).

    Returns:
        ``(N, H, W)`` of float64, none negative.

    Raises:
        NotInstalled: captum is not there.

    Paper: Sundararajan et al., arXiv 1703.01365.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise NotInstalled(
            'Integrated gradients need captum: pip install "tutelage[explain]".'
        ) from error
    with whitebox(model) as logits, torch.enable_grad():
        found = IntegratedGradients(logits).attribute(
            inputs.detach().clone().requires_grad_(),
            baselines=torch.zeros_like(inputs),
            target=classes,
            n_steps=steps,
            internal_batch_size=256,
        )
    total: Tensor = found.detach().double().abs().sum(1)
    return total
