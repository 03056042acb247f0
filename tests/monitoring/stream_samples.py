"""A stream of small images with a model that answers them, to be changed on purpose."""

from functools import cache

import numpy as np

from tutelage.deployment.traffic import summary, summary_names
from tutelage.monitoring.columns import columns_of
from tutelage.monitoring.family import Family
from tutelage.monitoring.judge import Judge

CLASSES = 5


@cache
def _prototypes():
    return np.random.default_rng(0).random((CLASSES, 1, 12, 12)).astype(np.float32)


def images(count, dice, shares=None):
    """Images of five kinds with noise and a brightness of their own, and their labels."""
    labels = dice.choice(CLASSES, count, p=shares)
    light = dice.normal(0, 0.05, (count, 1, 1, 1))
    noise = dice.normal(0, 0.3, (count, 1, 12, 12))
    return np.clip(_prototypes()[labels] * 0.8 + light + noise, 0, 1).astype(np.float32), labels


def answer(inputs):
    """Logits of a nearest-prototype classifier."""
    flat, kinds = inputs.reshape(len(inputs), -1), _prototypes().reshape(CLASSES, -1) * 0.8
    return (-0.5 * ((flat[:, None] - kinds[None]) ** 2).sum(2)).astype(np.float32)


def seen(inputs):
    names = summary_names({"inputs": inputs[:1]})
    return columns_of(summary({"inputs": inputs}), answer(inputs), names)


@cache
def judge(size=200, have=1500, rate=0.01, seed=1):
    inputs, _ = images(have, np.random.default_rng(seed))
    return Judge(Family(seen(inputs)), size, rate)
