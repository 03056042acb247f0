"""Modules that objectives hold by name: made once from a probe, and kept as long as they fit."""

from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tutelage.core.errors import RecipeError, ShapeMismatch


def key_of(*paths: str) -> str:
    """What the module of a feature, or of a pair of them, is called: torch forbids dots in that.

    >>> key_of("layer1.0", "layer3")
    'layer1/0>layer3'
    """
    return ">".join(paths).replace(".", "/")


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Inside, a module answers without a trace: no graph, no statistics, modes as they were."""
    modes = {each: each.training for each in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes.items():
            each.training = mode


def keep_or_make(
    held: nn.ModuleDict,
    key: str,
    like: Tensor,
    make: Callable[[], nn.Module],
    fits: Callable[[nn.Module], bool],
) -> None:
    """Put a module under ``key``, from torch's random state; one that is there and fits stays.

    Args:
        held: Where it is held.
        key: Its name there (see `key_of`).
        like: A tensor of the device and precision it is to have.
        make: Makes it.
        fits: Whether one that is there was made for features like these; it may ask it.
    """
    if key in held:
        there = held[key].to(device=like.device, dtype=like.dtype)
        try:
            with untouched(there):
                if fits(there):
                    return
        except RuntimeError:  # made for features of another shape
            pass
    held[key] = make().to(device=like.device, dtype=like.dtype)


def adapter_for(
    maker: Callable[[Tensor, Tensor], nn.Module], student: Tensor, teacher: Tensor
) -> nn.Module:
    """An adapter in the student feature's precision, seen to give the teacher's shape.

    Raises:
        ShapeMismatch: It gives another.
    """
    adapter = maker(student, teacher).to(device=student.device, dtype=student.dtype)
    with untouched(adapter):
        shown = adapter(student).shape
    if shown != teacher.shape:
        raise ShapeMismatch(
            f"the adapter gives {tuple(shown)} where {tuple(teacher.shape)} is wanted: choose "
            "another pair, or another adapter (auto)."
        )
    return adapter


def keep_or_adapt(
    held: nn.ModuleDict,
    key: str,
    maker: Callable[[Tensor, Tensor], nn.Module],
    student: Tensor,
    teacher: Tensor,
) -> None:
    """`keep_or_make` of an adapter from one feature to another's shape.

    Raises:
        ShapeMismatch: It cannot give that shape.
    """
    keep_or_make(
        held,
        key,
        student,
        lambda: adapter_for(maker, student, teacher),
        lambda adapter: bool(adapter(student).shape == teacher.shape),
    )


def bound(held: nn.ModuleDict, key: str, asker: str) -> nn.Module:
    """The module under ``key``, refused in one line where nothing was bound."""
    if key not in held:
        raise unbound(asker)
    return held[key]


def refuse_unbound(held: Sized, asker: str) -> None:
    """Refuse to go on where `bind` was not called."""
    if len(held) == 0:
        raise unbound(asker)


def unbound(asker: str) -> RecipeError:
    """The error of an objective that is asked before `bind` was called."""
    return RecipeError(f"{asker} is not bound yet: call bind(student, teacher) on a probe.")
