"""Optimizers by name; any function from parameter groups to a torch optimizer will do as well."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from tutelage.core.registry import register
from tutelage.engine.options import number_within

MakeOptimizer = Callable[[Iterable[dict[str, Any]]], Optimizer]


@register("optimizer", "sgd")
def sgd(
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    nesterov: bool = True,
) -> MakeOptimizer:
    """Stochastic gradient descent with momentum.

    Raises:
        RecipeError: A rate or decay is negative, or momentum not in [0, 1).
    """
    number_within(learning_rate, "sgd: learning_rate", least=0)
    number_within(momentum, "sgd: momentum", least=0, below=1)
    number_within(weight_decay, "sgd: weight_decay", least=0)
    return lambda groups: torch.optim.SGD(
        groups,
        lr=learning_rate,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov and momentum > 0,
    )


@register("optimizer", "adamw")
def adamw(
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
) -> MakeOptimizer:
    """Adam with decoupled weight decay (Loshchilov, Hutter, 2017, arXiv:1711.05101).

    Raises:
        RecipeError: A rate or decay is negative, or a beta not in [0, 1).
    """
    number_within(learning_rate, "adamw: learning_rate", least=0)
    number_within(weight_decay, "adamw: weight_decay", least=0)
    number_within(beta1, "adamw: beta1", least=0, below=1)
    number_within(beta2, "adamw: beta2", least=0, below=1)
    return lambda groups: torch.optim.AdamW(
        groups, lr=learning_rate, weight_decay=weight_decay, betas=(beta1, beta2)
    )
