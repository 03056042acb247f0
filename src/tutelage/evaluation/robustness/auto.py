"""AutoAttack (Croce and Hein, arXiv 2003.01690), by the optional package pyautoattack."""

import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError, NotInstalled
from tutelage.core.seeds import derive
from tutelage.evaluation.whitebox import Logits

STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
SHORT = ("apgd-ce", "apgd-t", "square")
SHORT_QUERIES = 300
_NEEDS = {"apgd-dlr": 3, "apgd-t": 4}  # classes that their loss compares
_AT_ONCE = 256


@dataclass(frozen=True)
class Auto:
    """What AutoAttack left.

    Attributes:
        robust: Who is right before and after, ``(N,)`` of bool.
        attacks: Which of its attacks were run.
        version: Of pyautoattack.
    """

    robust: Tensor
    attacks: tuple[str, ...]
    version: str


def autoattack(
    logits: Logits,
    inputs: Tensor,
    targets: Tensor,
    *,
    epsilon: float,
    attacks: Sequence[str] = SHORT,
    queries: int = SHORT_QUERIES,
    seed: int = 0,
) -> Auto:
    """Several attacks without parameters to set, each on who withstood those before.

    Args:
        logits: The model (see `tutelage.evaluation.whitebox`).
        inputs: Images ``(N, C, H, W)`` in [0, 1].
        targets: True class numbers ``(N,)``.
        epsilon: Largest change of a pixel.
        attacks: Which, in order. ``apgd-t`` compares four logits: with three classes ``apgd-dlr``
            takes its place, with two it is left out.
        queries: Of the square attack for each example; published figures have 5,000.
        seed: Of all of them.

    Raises:
        NotInstalled: pyautoattack is not there.

    torch's random state, its gradients, Python's trace function and the log are left as they were,
    which the package itself does not.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise NotInstalled(
            'AutoAttack needs pyautoattack: pip install "tutelage[robust]".'
        ) from error
    if inputs.ndim != 4:
        raise DataError(f"AutoAttack takes images (N, C, H, W), got {tuple(inputs.shape)}.")
    with _left_as_it_was():
        classes = logits(inputs[:1]).shape[1]
        chosen = fitting(attacks, classes)
        siege = AutoAttack(
            logits,
            eps=epsilon,
            seed=derive(seed, "autoattack") % 2**31,
            device=inputs.device,
            version="custom",
            attacks=list(chosen),
        )
        siege.square.n_queries = queries
        siege.apgd.n_restarts = siege.fab.n_restarts = siege.apgd_targeted.n_restarts = 1
        siege.apgd_targeted.n_target_classes = siege.fab.n_target_classes = min(9, classes - 1)
        moved, _ = siege.run_standard_evaluation(inputs, targets, batch_size=_AT_ONCE)
        with torch.no_grad():
            before, after = (logits(images).argmax(1) == targets for images in (inputs, moved))
    return Auto(before & after, chosen, importlib.metadata.version("pyautoattack"))


def fitting(attacks: Sequence[str], classes: int) -> tuple[str, ...]:
    """The attacks that can be run on so many classes, in order.

    >>> fitting(("apgd-ce", "apgd-t", "square"), 3)
    ('apgd-ce', 'apgd-dlr', 'square')
    """
    known = {*STANDARD, "apgd-dlr", "fab"}
    for name in attacks:
        if name not in known:
            raise DataError(f"AutoAttack has no attack {name!r}: {', '.join(sorted(known))}.")
    swapped = ["apgd-dlr" if n == "apgd-t" and classes == 3 else n for n in attacks]
    return tuple(dict.fromkeys(n for n in swapped if classes >= _NEEDS.get(n, 2)))


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    log, trace = logging.getLogger("auto-attack"), sys.gettrace()
    quiet = log.disabled
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    log.disabled = True
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        log.disabled = quiet
        sys.settrace(trace)
