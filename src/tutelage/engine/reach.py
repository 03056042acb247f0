"""Finds parameters that a loss does not reach, before DDP waits for them in vain."""

from typing import Any

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tutelage.core.errors import RecipeError
from tutelage.engine.learner import Learner
from tutelage.engine.machine import total


class Reach:
    """Looks at the first loss of each kind of update of a run."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def check(self, learner: Learner, update: str, loss: Tensor) -> None:
        """Refuse, under DDP, a loss that gives some parameter no gradient; all processes alike."""
        key = (id(learner.forward), update)
        if not isinstance(learner.forward, DistributedDataParallel) or key in self._seen:
            return
        self._seen.add(key)
        reached = _leaves(loss)
        parameters = learner.model.named_parameters()
        missing = [path for path, p in parameters if p.requires_grad and id(p) not in reached]
        if total(bool(reached and missing), loss.device):
            path = repr(missing[0]) if missing else "a parameter"
            raise RecipeError(
                f"{path} gets no gradient from this objective (update {update!r}), and ddp needs "
                "one for each: add a term on the logits, freeze it, or use parallel: fsdp."
            )


def _leaves(loss: Tensor) -> set[int]:
    """Which parameters a backward pass would reach, by id; none where that cannot be seen."""
    found: set[int] = set()
    seen: set[Any] = set()
    ahead: list[Any] = [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name() == "CheckpointFunctionBackward":  # its own graph is made when it runs
            return set()
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        ahead += [each for each, _ in node.next_functions]
    return found
