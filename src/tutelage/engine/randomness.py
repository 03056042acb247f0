"""The global random generators while a run lasts: always where (seed, step) says.

Models draw from torch's own generator (dropout), and settings and sources may draw from python's
and numpy's. All are set before each item, so an item, the noise of a setting and the noise inside
a model depend on the seed, the step and the update alone: not on what hooks, validation or the
program around the run have drawn. After the run they are as they were before it.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tutelage.core.seeds import derive


class Randomness:
    """Sets the generators of one run.

    Args:
        seed: The run's.
        place: Its device.
    """

    def __init__(self, seed: int, place: torch.device):
        self._seed, self._place = seed, place

    def all(self, *purpose: str | int) -> None:
        """Set torch's, python's and numpy's generators for one purpose."""
        number = derive(self._seed, *purpose)
        self._set(number)
        random.seed(number)
        np.random.seed(number % 2**32)

    def torch(self, *purpose: str | int) -> None:
        """Set torch's generators alone."""
        self._set(derive(self._seed, *purpose))

    def _set(self, number: int) -> None:
        # Not torch.manual_seed: it looks for every kind of device there is, 0.1 ms each time.
        torch.default_generator.manual_seed(number)
        if self._place.type == "cuda":
            torch.cuda.manual_seed(number)
        elif self._place.type == "mps":
            torch.mps.manual_seed(number)


@contextmanager
def left_alone(place: torch.device) -> Iterator[None]:
    """Put all generators back, at the end, to where they were: a library's draws stay its own."""
    before = random_state()
    cuda = torch.cuda.get_rng_state(place) if place.type == "cuda" else None
    try:
        yield
    finally:
        set_random_state(before)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, place)


def random_state() -> dict[str, Any]:
    """Where torch's (CPU), python's and numpy's generators are, in types that load safely."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    assert isinstance(keys, np.ndarray)
    return {
        "torch": torch.get_rng_state(),
        "python": [version, list(numbers), gauss],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put the generators to where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
