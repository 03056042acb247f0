"""A model whose logits are divided by a temperature: as sure as it is right, with the same answers.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
"""

import math
from pathlib import Path

from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError
from tutelage.models.observed import Observed
from tutelage.models.readers import Read
from tutelage.models.weights import read_metadata

KEY = "temperature"
"""Under what word a temperature is kept with the weights (`tutelage.models.read_metadata`)."""


class Tempered:
    """Read a model as another reader does, and divide its logits by a temperature.

    Args:
        read: Where the logits are.
        temperature: Above 0: more than 1 takes confidence away.
    """

    def __init__(self, read: Read, temperature: float):
        if not (math.isfinite(temperature) and temperature > 0):
            raise ModelError(f"temperature is {temperature}: a number above 0 is needed.")
        self.read, self.temperature = read, temperature

    def __call__(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """The logits ``(N, ..., C)``, divided."""
        return self.read(model, inputs) / self.temperature


def tempered(observed: Observed, temperature: float) -> Observed:
    """The same model, with its logits divided by ``temperature``; its weights are shared.

    It is exported so, and everything that asks it for an answer gets the divided logits.

    Args:
        observed: The model; it is not changed.
        temperature: Above 0 (`tutelage.evaluation.fit_temperature` finds one on validation).

    Example:
        >>> import torch
        >>> from tutelage.core.batch import Batch
        >>> net, batch = Observed(nn.Linear(4, 3)), Batch(torch.ones(2, 4))
        >>> torch.allclose(tempered(net, 2.0)(batch).logits, net(batch).logits / 2)
        True
    """
    made = Observed(
        observed.model,
        intake=observed.intake,
        read=Tempered(observed.read, temperature),
        classes=None if observed.classes is None else observed.classes.tolist(),
    )
    made.channels_last, made.training = observed.channels_last, observed.training
    return made


def temperature_of(path: str | Path) -> float:
    """What a file of weights says its model's logits are to be divided by; 1 where it says nothing.

    Raises:
        ModelError: The file is broken, or holds a word that is no temperature.
    """
    word = read_metadata(path).get(KEY, "1")
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ModelError(f"{Path(path).name} says its temperature is {word!r:.40}: not above 0.")
    return value
