"""What the first of several processes does for all of them."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from tutelage.core.errors import TutelageError
from tutelage.engine.machine import rank, world

T = TypeVar("T")


def by_first(act: Callable[[], T]) -> T:
    """What ``act`` returns in the first process, in all of them; only the first one acts.

    Where it fails, all of them fail: the first with its error, the others with its line.
    """
    if world() == 1:
        return act()
    shared: list[Any] = [None, None]
    failed: BaseException | None = None
    if rank() == 0:
        try:
            shared[0] = act()
        except BaseException as error:  # the others are waiting: they must hear of it
            failed, shared[1] = error, f"{error}" or type(error).__name__
    dist.broadcast_object_list(shared)
    if failed is not None:
        raise failed
    if shared[1] is not None:
        raise TutelageError(f"the first process stopped: {shared[1]}")
    result: T = shared[0]
    return result


def everywhere(true: bool) -> bool:
    """Whether it is true in every process, so that all of them go the same way."""
    if world() == 1:
        return true
    answers: list[Any] = [None] * world()
    dist.all_gather_object(answers, true)
    return all(answers)
