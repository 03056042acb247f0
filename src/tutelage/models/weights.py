"""Weights from files and to files.

Written are only safetensors. Read are safetensors, and torch's own files as far as they hold
nothing but tensors and plain data: a pickle that asks for more could run code, and is refused.
"""

import hashlib
import os
import pickle
import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import ModelError, suggest

_PICKLES = (".pt", ".pth", ".th", ".bin", ".ckpt")
_NESTS = ("state_dict", "model_state_dict", "model", "net", "ema", "state_dict_ema", "weights")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_PATH_ERRORS = (  # the path is wrong; not, say, that the disk is full
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def load_weights(model: nn.Module, path: str | Path, strict: bool = True) -> list[str]:
    """Put the weights of a file into ``model``; where it does not fit, the model stays as it is.

    Nests (``state_dict``, ``model``, ``ema`` ...) are unwrapped, and the prefixes ``module.``,
    ``model.`` and ``_orig_mod.`` taken off where that makes names match. Counters of batches
    (``num_batches_tracked``), which files from before torch 0.4.1 do not have, may be missing.

    Args:
        model: Filled in place.
        path: ``.safetensors``; or ``.pt``, ``.pth``, ``.th``, ``.bin``, ``.ckpt``, read with
            ``weights_only=True`` and no fallback.
        strict: Every tensor of the model and of the file must find its other half. If False,
            those that do not, or differ in shape, are left out; some must still fit.

    Returns:
        Names of the model's tensors that the file did not fill: none where strict, but for the
        counters.

    Raises:
        ModelError: The file is missing, broken, refused, holds NaN or infinite weights, or does
            not fit.
    """
    source = Path(path)
    state = _fitted(read_weights(source), model)
    own = model.state_dict(keep_vars=True)
    wanted = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    missing = [
        name for name in _unfilled(wanted, state) if not name.endswith("num_batches_tracked")
    ]
    unexpected = sorted(set(state) - set(own))
    shapes = [
        f"{name} (file {tuple(state[name].shape)}, model {tuple(value.shape)})"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    if strict and (missing or unexpected or shapes):
        told = [
            _few("missing", missing),
            _few("not in the model", unexpected),
            _few("of another shape", shapes),
        ]
        raise ModelError(
            f"{source.name} does not fit {type(model).__name__}: {'; '.join(filter(None, told))}. "
            "Build the model as its weights were (depth, width, classes), or load with strict "
            "off."
        )
    fitting = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}
    if not fitting:
        raise ModelError(
            f"{source.name} holds nothing that fits {type(model).__name__}: its first names are "
            f"{_few('', sorted(state)).strip()}; the model's {_few('', list(wanted)).strip()}."
        )
    _refuse_broken(fitting, source)
    model.load_state_dict(fitting, strict=False)
    return _unfilled(wanted, fitting)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name, unwrapped from their nest, on the CPU."""
    source = Path(path)
    if not source.is_file():
        around = source.parent.iterdir() if source.parent.is_dir() else ()
        near = [str(one.name) for one in around if one.suffix in (".safetensors", *_PICKLES)]
        raise ModelError(
            f"there is no file of weights {str(source)!r}. {suggest(source.name, near)}"
        )
    if source.suffix not in (".safetensors", *_PICKLES):
        raise ModelError(
            f"{source.name}: weights are read from .safetensors, {', '.join(_PICKLES)}, and this "
            f"ends in {source.suffix!r}."
        )
    if source.stat().st_size == 0:
        raise ModelError(f"{source.name} is empty (0 bytes): take another copy of these weights.")
    if source.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(source)
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{source.name} is no whole safetensors file: {_line(error)}"
            ) from error
    return _unwrapped(_unpickled(source), source)


def save_weights(
    model: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write ``model.state_dict()`` as safetensors, whole or not at all.

    Tensors that the model holds under several names (tied weights) are written once, under the
    first; `load_weights` fills all of them.

    Args:
        model: What to save.
        path: A file ending in ``.safetensors``; replaced if it is there.
        metadata: Words to keep with the weights (`read_metadata`).

    Raises:
        ModelError: The name has another ending or cannot be written to, or a weight is NaN or
            infinite.
    """
    from safetensors.torch import save

    target = Path(path)
    if target.suffix != ".safetensors":
        raise ModelError(f"weights are written as .safetensors, got the name {target.name!r}.")
    state = _once(_tensors_of(model))
    _refuse_broken(state, target)
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        # Not save_file: it makes files that nobody but their owner may read.
        with part.open("wb") as written:
            written.write(save(plain, {"format": "pt", **(metadata or {})}))
            written.flush()
            os.fsync(written.fileno())
        part.replace(target)
    except _PATH_ERRORS as error:
        raise ModelError(
            f"{target} cannot be written: {error.strerror}. Name a file in a folder that is there "
            "and can be written to."
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before is what matters
            part.unlink(missing_ok=True)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The words that `save_weights` kept with the weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            words = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{Path(path).name} is no safetensors file: {_line(error)}") from error
    words.pop("format", None)
    return words


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and values of a model's state: the key of its answers.

    Equal on every device and machine, whatever the memory format; 64 hexadecimal digits.

    Example:
        >>> layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> weights_hash(layer) == weights_hash(other)
        False
        >>> _ = other.load_state_dict(layer.state_dict())
        >>> weights_hash(layer) == weights_hash(other)
        True
    """
    digest = hashlib.sha256()
    for name, value in sorted(_tensors_of(model).items()):
        flat = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(flat.numpy().data)
    return digest.hexdigest()


def _tensors_of(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def _unpickled(source: Path) -> Any:
    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it asks for {asked[1]!r}" if asked else "it holds more than tensors"
        raise ModelError(
            f"refused to load {source.name}: {what}, and a pickle can run any code. Where you "
            "trust it, convert it once: safetensors.torch.save_file(model.state_dict(), "
            "'weights.safetensors')."
        ) from error
    except Exception as error:  # torn bytes make the unpickler raise whatever it stumbles on
        raise ModelError(f"{source.name} cannot be read as a torch file: {_line(error)}") from error


def _unwrapped(found: Any, source: Path) -> dict[str, Tensor]:
    while isinstance(found, Mapping):
        # Tensors beside a nest are no weights but figures, such as the best accuracy.
        nests = [nest for nest in _NESTS if isinstance(found.get(nest), Mapping)]
        if not nests:
            break
        found = found[nests[0]]
    if not isinstance(found, Mapping):
        raise ModelError(
            f"{source.name} holds a {type(found).__name__}, and weights by name were expected: "
            "save model.state_dict()."
        )
    weights = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not weights:
        raise ModelError(
            f"{source.name} holds no weights where they usually are ({', '.join(_NESTS)}): "
            f"{_few('its keys are', [str(key) for key in found]) or 'it has no keys'}."
        )
    return weights


def _fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """``state`` under the names that fit ``model`` best, less prefixes."""
    own = set(model.state_dict())
    best, score = state, len(own & set(state))
    current = state
    for _ in range(3):  # prefixes may be nested: _orig_mod.module.
        options = [_stripped(current, prefix) for prefix in _PREFIXES]
        options = [one for one in options if len(one) == len(current) and set(one) != set(current)]
        if not options:
            break
        current = max(options, key=lambda one: len(own & set(one)))
        if len(own & set(current)) > score:
            best, score = current, len(own & set(current))
    return best


def _stripped(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if prefix == "_orig_mod.":  # of compiled parts, anywhere
        return {name.replace(prefix, ""): value for name, value in state.items()}
    return {name.removeprefix(prefix): value for name, value in state.items()}


def _unfilled(wanted: Mapping[str, Tensor], state: Iterable[str]) -> list[str]:
    """Names that are not in ``state``, nor share their tensor with one that is."""
    filled = {_identity(wanted[name]) for name in state if name in wanted}
    return [name for name, value in wanted.items() if _identity(value) not in filled]


def _once(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    kept: dict[Any, str] = {}
    for name, value in state.items():
        kept.setdefault(_identity(value), name)
    return {name: state[name] for name in kept.values()}


def _identity(value: Tensor) -> Any:
    if value.numel() == 0 or value.is_meta:
        return id(value)
    return value.data_ptr(), value.dtype, value.device, tuple(value.shape), value.stride()


def _refuse_broken(state: Mapping[str, Tensor], source: Path) -> None:
    for name, value in state.items():
        finite = (value if value.element_size() > 1 else value.float()).isfinite()
        if not bool(finite.all()):
            bad = int((~finite).sum())
            raise ModelError(
                f"{source.name}: the weights {name!r} hold {bad} NaN or infinite numbers of "
                f"{value.numel()}: these weights are broken, take an earlier file."
            )


def _few(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
