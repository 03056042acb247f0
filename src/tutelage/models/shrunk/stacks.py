"""Blocks that follow each other: where a model has them, and which of them a wish is about."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError, suggest
from tutelage.models.zoo.gpt import GPT

Keep = int | Sequence[int] | Mapping[str, Any]
"""How many blocks stay, or which; or either, by stack."""


Stack = Mapping[str, nn.Module]
"""Blocks in their order, by path."""


def stacks_of(model: nn.Module, least: int = 2) -> dict[str, Stack]:
    """Rows of at least ``least`` equal blocks, by path; rows inside of blocks are none of them.

    Blocks are equal where they are of one class and what they all have is of one shape: T5's first
    block has a bias that the others have not. They stand in a `torch.nn.ModuleList`; those of the
    zoo's gpt, ``layer1`` and so on, are found under the name ``layers``.

    Raises:
        ModelError: There is none.

    Example:
        >>> body = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        >>> list(stacks_of(nn.ModuleDict({"body": body, "head": nn.Linear(4, 2)})))
        ['body']
    """
    found: dict[str, Stack] = {}
    for path, module in model.named_modules():
        if any(path.startswith(f"{block}.") for stack in found.values() for block in stack):
            continue
        base = f"{path}." if path else ""
        if isinstance(module, GPT):
            at, names = f"{base}layers", module.blocks
        elif isinstance(module, nn.ModuleList):
            at, names = path, tuple(map(str, range(len(module))))
        else:
            continue
        stack = {f"{base}{name}": module.get_submodule(name) for name in names}
        if len(stack) >= least and _equal(list(stack.values())):
            found[at] = stack
    if not found:
        raise ModelError(
            f"{type(model).__name__} has no ModuleList of {least} or more equal blocks: give a "
            f"model that has, or say what else of it is meant (width, targets)."
        )
    return found


def is_decoder(path: str) -> bool:
    """Whether a stack is the decoder of an encoder-decoder, by its name."""
    return "decoder" in path.split(".")


def by_stack(stacks: Mapping[str, Stack], keep: Keep) -> dict[str, int | list[int]]:
    """For each stack that is to change: how many blocks stay, or which.

    Args:
        stacks: Of a model.
        keep: One number or one list for all stacks, or a mapping from stacks to either; a stack
            is named by its path or by one word of it, as ``encoder``.

    Raises:
        ModelError: A name is none of a stack or of several, or a number is out of range.

    Example:
        >>> body = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])
        >>> stacks = stacks_of(nn.ModuleDict({"encoder": nn.ModuleDict({"block": body})}))
        >>> by_stack(stacks, {"encoder": 2}), by_stack(stacks, [0, 3])
        ({'encoder.block': 2}, {'encoder.block': [0, 3]})
    """
    if isinstance(keep, Mapping):
        wanted = {_path_of(stacks, name): value for name, value in keep.items()}
        if not wanted or len(wanted) < len(keep):
            raise ModelError(f"layers must name each stack once, got {dict(keep)}.")
    else:
        wanted = dict.fromkeys(stacks, keep)
    return {path: _checked(path, len(stacks[path]), value) for path, value in wanted.items()}


def _path_of(stacks: Mapping[str, Stack], name: object) -> str:
    if name in stacks:
        return str(name)
    near = [path for path in stacks if name in path.split(".")]
    if len(near) != 1:
        what = f"of {len(near)} stacks" if near else "of no stack of blocks"
        raise ModelError(f"layers: {name!r} is the name {what}. {suggest(str(name), stacks)}")
    return near[0]


def _checked(path: str, total: int, keep: Any) -> int | list[int]:
    if isinstance(keep, int) and not isinstance(keep, bool):
        if not 1 <= keep <= total:
            raise ModelError(
                f"layers: {path!r} has {total} blocks, and {keep} were to stay: give a number from "
                f"1 to {total}, or one for each stack by name."
            )
        return keep
    if isinstance(keep, Sequence) and not isinstance(keep, str) and len(keep):
        numbers = list(keep)
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        if whole and numbers == sorted(set(numbers)) and 0 <= numbers[0] <= numbers[-1] < total:
            return numbers
    raise ModelError(
        f"layers: which blocks of {path!r} stay is said by how many, or by their numbers from 0 to "
        f"{total - 1} in rising order, got {keep!r}."
    )


def _equal(blocks: Sequence[nn.Module]) -> bool:
    if len({type(block) for block in blocks}) > 1:
        return False
    shapes = [{name: p.shape for name, p in block.named_parameters()} for block in blocks]
    common = set.intersection(*(set(each) for each in shapes))
    return all(each[name] == shapes[0][name] for each in shapes for name in common)
