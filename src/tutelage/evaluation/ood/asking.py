"""Models asked about examples of anywhere: their logits, and scores that need their features."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import uniform
from tutelage.data.sets import Examples, TensorSet
from tutelage.evaluation.ood.outside import gaussian_noise, shuffled, uniform_noise
from tutelage.evaluation.ood.scores import (
    energy,
    max_logit,
    max_probability,
    nearest_neighbour,
    neighbours_for,
)
from tutelage.evaluation.penultimate import penultimate
from tutelage.evaluation.predict import predict
from tutelage.evaluation.subjects import Subjects

OF_LOGITS = {"confidence": max_probability, "energy": energy, "max logit": max_logit}
"""Scores that every model has."""
NEIGHBOUR = "nearest neighbour"
"""The score of models whose features can be seen, where training examples are there."""


def some(examples: Examples, most: int, seed: int) -> Examples:
    """At most ``most`` examples, the same ones for the same seed, in their order."""
    if len(examples) <= most:
        return examples
    return examples.take(uniform(seed, examples.ids)[:, 0].argsort()[:most].sort().values)


def inputs_of(examples: Examples) -> Tensor:
    """All inputs as numbers ``(N, ...)``.

    Raises:
        DataError: They are no one tensor of floats.
    """
    inputs = examples.batch(torch.arange(len(examples))).inputs
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        raise DataError(f"the examples of {examples.name} are no images or tables of numbers.")
    return inputs


def own_sets(like: Examples, seed: int) -> dict[str, TensorSet]:
    """Noise, and examples with their pieces in the wrong places, as many as ``like`` has."""
    real = inputs_of(like)
    pieces = "shuffled patches" if real.ndim == 4 else "shuffled columns"
    made = {
        "uniform noise": uniform_noise(real, seed),
        "gaussian noise": gaussian_noise(real, seed),
        pieces: shuffled(real, seed),
    }
    return {name: TensorSet(inputs, name=name) for name, inputs in made.items()}


@dataclass(frozen=True)
class Watch:
    """One model's scores of an example being familiar.

    Attributes:
        subjects: Where the model is.
        role: Which.
        bank: Training examples for the score of the nearest neighbour; None for none.
    """

    subjects: Subjects
    role: str
    bank: Examples | None

    def scores(self, examples: Examples) -> Mapping[str, Tensor]:
        """Every score of every example ``(N,)``, by name; labels are not looked at."""
        subjects = self.subjects
        asked = TensorSet(
            inputs_of(examples),
            torch.zeros(len(examples), dtype=torch.long),
            classes=subjects.test.classes,
        )
        logits = predict(subjects.models[self.role], asked).logits
        found = {name: score(logits) for name, score in OF_LOGITS.items()}
        model = subjects.observed(self.role)
        bank = self.bank
        if model is not None and bank is not None:
            known = subjects.once(
                ("ood bank", self.role, len(bank)), lambda: penultimate(model, bank)
            )
            features = None if known is None else penultimate(model, asked)
            if features is not None:
                found[NEIGHBOUR] = nearest_neighbour(features, known, neighbours_for(len(known)))
        return found
