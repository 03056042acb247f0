"""Students that begin as their teacher with fewer layers."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk.choosing import chosen_layers
from tutelage.models.shrunk.pretrained import (
    described_in,
    description_of,
    instead,
    rebuilt,
    said_in,
)
from tutelage.models.shrunk.stacks import Keep, stacks_of

_COUNTS = {
    "encoder": ("num_encoder_layers", "encoder_layers", "num_hidden_layers"),
    "decoder": ("num_decoder_layers", "decoder_layers", "num_hidden_layers"),
    "": ("num_hidden_layers", "layers"),
}
_OF_PLACE = ("layer_idx", "layer_id", "layer_index", "training", "has_relative_attention_bias")


def fewer_layers(
    model: nn.Module,
    keep: Keep,
    *,
    choose: str = "even",
    batches: Iterable[Batch] | None = None,
) -> nn.Module:
    """A copy of a model with some of its blocks, each with its weights.

    Of a transformers model the configuration follows (number and kinds of layers), of the zoo's gpt
    its sizes, so it can be saved and loaded; blocks are numbered anew for the cache of keys and
    values. What only the first block has (T5's relative positions) goes to the block that comes
    first.

    Args:
        model: Any model with a `torch.nn.ModuleList` of equal blocks, or a gpt; it stays as it is.
        keep: How many stay; or which, by number from 0; or either for each stack by name,
            ``{"decoder": 2}``: stacks that are not named stay whole.
        choose: Which stay, where a number is given: see `chosen_layers`.
        batches: What the model is looked at on, for ``importance`` and ``left_out``.

    Returns:
        A model of the same class that shares no tensor with the first; all its parameters can be
        trained.

    Raises:
        ModelError: There are no such blocks, or the smaller model cannot be described.
        DataError: Batches are needed and not there.

    Example:
        >>> body = nn.ModuleList([nn.Linear(4, 4) for _ in range(4)])
        >>> student = fewer_layers(nn.ModuleDict({"body": body}), 2)
        >>> len(student["body"]), bool((student["body"][1].weight == body[3].weight).all())
        (2, True)
    """
    kept = chosen_layers(model, keep, choose=choose, batches=batches)
    inner = described_in(model)
    if inner is None:
        return _cut(model, kept)
    config, state = description_of(inner), inner.state_dict()
    stacks = stacks_of(inner)
    for path, numbers in kept.items():
        _describe(config, path, len(stacks[path]), numbers, len(stacks) == 1)
        state = _selected(state, list(stacks[path]), numbers)
    fresh = rebuilt(inner, config, state)
    _check_kinds(inner, fresh, kept)
    return instead(model, inner, fresh)


def _cut(model: nn.Module, kept: Mapping[str, list[int]]) -> nn.Module:
    student = copy.deepcopy(model).requires_grad_(True)
    for path, numbers in kept.items():
        blocks: Any = student.get_submodule(path)
        if _only_first(blocks.state_dict(), ["0", "1"]) and numbers[0] != 0:
            raise ModelError(
                f"the first block of {path!r} has weights that the others have not: keep block 0."
            )
        stay = [blocks[number] for number in numbers]
        del blocks[:]
        blocks.extend(stay)
        for number, block in enumerate(stay):
            for module in block.modules():
                if isinstance(getattr(module, "layer_idx", None), int):
                    module.layer_idx = number
    return student


def _describe(config: Any, path: str, total: int, numbers: list[int], alone: bool) -> None:
    if getattr(config, "scale_attn_by_inverse_layer_idx", False):
        raise ModelError(
            "the attention of this model is scaled by the number of its layer, so its layers do "
            "not mean the same in other places: it cannot lose layers."
        )
    side = next((word for word in ("decoder", "encoder") if word in path.split(".")), "")
    counts = _COUNTS[side]
    key = next((key for key in counts if getattr(config, key, None) == total), None)
    if key is None:
        raise ModelError(
            f"the description of this model does not say that {path!r} has {total} blocks "
            f"(looked for {', '.join(counts)}): it cannot lose layers."
        )
    setattr(config, key, len(numbers))
    if not alone:
        return
    for name, value in said_in(config).items():
        if isinstance(value, (list, tuple)) and len(value) == total and "layer" in name:
            setattr(config, name, [value[number] for number in numbers])


def _selected(
    state: Mapping[str, Tensor], blocks: Sequence[str], numbers: Sequence[int]
) -> dict[str, Tensor]:
    """Tensors by name; those of block ``numbers[i]`` under the path of block i."""
    places = {blocks[number]: blocks[place] for place, number in enumerate(numbers)}
    chosen: dict[str, Tensor] = {}
    for name, tensor in state.items():
        block = next((each for each in blocks if name.startswith(f"{each}.")), None)
        if block is None:
            chosen[name] = tensor
        elif block in places:
            chosen[places[block] + name.removeprefix(block)] = tensor
    for rest in _only_first(state, blocks):
        chosen[f"{blocks[0]}.{rest}"] = state[f"{blocks[0]}.{rest}"]
    return chosen


def _only_first(state: Mapping[str, Any], blocks: Sequence[str]) -> list[str]:
    """Names of what the first block has and the second has not."""
    start = f"{blocks[0]}."
    first = [name.removeprefix(start) for name in state if name.startswith(start)]
    return [rest for rest in first if f"{blocks[1]}.{rest}" not in state]


def _check_kinds(model: nn.Module, student: nn.Module, kept: Mapping[str, list[int]]) -> None:
    """Whether each block is told to do what it did: windows, rotations and kinds of attention."""
    theirs, ours = stacks_of(model), dict(student.named_modules())
    for path, numbers in kept.items():
        paths = list(theirs[path])
        for place, number in enumerate(numbers):
            for name, module in theirs[path][paths[number]].named_modules():
                twin = ours[".".join(filter(None, (paths[place], name)))]
                for key, value in _plain(module).items():
                    if _plain(twin).get(key, value) != value:
                        raise ModelError(
                            f"block {number} of {path!r} has {key} {value!r}, and at place {place} "
                            f"this model gives it {_plain(twin)[key]!r}: choose blocks whose kinds "
                            "come in the order of the configuration."
                        )


def _plain(module: nn.Module) -> dict[str, Any]:
    kinds = (bool, int, float, str)
    return {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, kinds) and not key.startswith("_") and key not in _OF_PLACE
    }
