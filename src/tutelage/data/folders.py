"""A folder, or zip archive, of images in which each class has a folder of its own."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.data.archives import Tree, open_tree
from tutelage.data.images import SUFFIXES, ImageDecoder
from tutelage.data.lazy import LazySet
from tutelage.data.sets import Examples, TensorSet
from tutelage.data.splits import Splits, split_up

IN_MEMORY = 2 * 2**30
"""Bytes up to which decoded images are kept in memory unless told otherwise."""

_NAMES = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@register("data", "image_folder")
def image_folder(
    path: str,
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    validation: float | None = None,
    test: float | None = None,
    seed: int = 0,
    in_memory: bool | None = None,
) -> Splits:
    """Images by class: the name of the folder they lie in.

    Either ``train/<class>/*``, with ``test/`` and ``validation/`` or ``val/`` beside it or not,
    or ``<class>/*`` alone. These folders lie at the top, or together in one folder there. Files
    anywhere below a class's folder belong to it; hidden files, and those that are no images by
    their suffix, are passed over. Splits that have no folder are taken out of train,
    stratified. Ids number all files, split by split, by sorted path.

    Args:
        path: A folder or zip archive; an archive is read in place, never extracted.
        size: Side, or height and width, that images are scaled and centre-cropped to; may be
            left out where all have one size.
        channels: 3 for RGB or 1 for grey; images are converted.
        validation: A fraction of train, or a count; None for the folder's own validation, else 0.1.
        test: Likewise for test, taken out before validation.
        seed: Which ones are taken out.
        in_memory: Whether to decode all now; None for yes where that is at most 2 GiB. Else they
            are decoded on demand, by the workers of a `Loader`.

    Returns:
        Splits of uint8 images ``(channels, H, W)``.

    Raises:
        DataError: Missing, empty, broken images, or classes that differ between splits.
    """
    tree = open_tree(path, "image_folder path")
    layout = _layout(tree)
    for split, asked in (("validation", validation), ("test", test)):
        if asked is not None and split in layout.splits:
            raise DataError(
                f"{split} is {asked}, and {str(tree.path)!r} has a {split} folder of its own: "
                "leave the option out, or the folder."
            )
    classes = layout.classes
    files = [name for members in layout.splits.values() for _, name in members]
    decoder = ImageDecoder(tree, files, channels, _pair(size))
    if in_memory is None:
        in_memory = len(files) * math.prod(decoder.read(0).shape) <= IN_MEMORY
    whole = decoder.all() if in_memory else None
    sets: dict[str, Examples] = {}
    numbers = {kind: number for number, kind in enumerate(classes)}
    start = 0
    for split, members in layout.splits.items():
        ids = torch.arange(start, start + len(members))
        targets = torch.tensor([numbers[kind] for kind, _ in members])
        name = f"image_folder {split}"
        start += len(members)
        if whole is None:
            sets[split] = LazySet(
                decoder, targets, classes=classes, positions=ids, ids=ids, name=name
            )
        else:
            inputs = whole[ids[0] : ids[-1] + 1]
            sets[split] = TensorSet(inputs, targets, classes=classes, ids=ids, name=name)
    origin: dict[str, object] = {
        "source": "image_folder",
        "path": str(tree.path),
        "size": size,
        "channels": channels,
        "validation": validation,
        "test": test,
        "seed": seed,
    }
    return split_up(sets, validation, test, seed, name="image_folder", origin=origin)


@dataclass(frozen=True)
class _Layout:
    classes: tuple[str, ...]
    splits: dict[str, list[tuple[str, str]]]  # (class, file), sorted


def _layout(tree: Tree) -> _Layout:
    base = _base(tree)
    top = {folder[len(base) :]: folder for folder in tree.folders if _child(folder, base)}
    if "train" not in top:
        return _Layout(*_members(tree, base))
    found: dict[str, list[tuple[str, str]]] = {}
    kinds: dict[str, tuple[str, ...]] = {}
    for folder, split in _NAMES.items():
        if folder not in top:
            continue
        if split in found:
            raise DataError(
                f"{str(tree.path)!r} has both 'validation' and 'val': remove or rename one."
            )
        kinds[split], members = _members(tree, f"{top[folder]}/")
        found[split] = members["train"]
    for split, classes in kinds.items():
        _same(kinds["train"], classes, split, tree)
    return _Layout(kinds["train"], found)


def _base(tree: Tree) -> str:
    """The one folder that everything lies in, as a prefix; "" where there is more than one."""
    top = [folder for folder in tree.folders if "/" not in folder]
    inner = [folder for folder in tree.folders if folder.count("/") == 1]
    images = [file for file in tree.files if file.lower().endswith(SUFFIXES)]
    if len(top) == 1 and top[0] not in _NAMES and inner:
        # One class alone, with folders inside, would be read as this too: it teaches nothing.
        deep = all(file.count("/") >= 2 for file in images)
        return f"{top[0]}/" if deep else ""
    return ""


def _members(tree: Tree, base: str) -> tuple[tuple[str, ...], dict[str, list[tuple[str, str]]]]:
    where = f"{str(tree.path)!r}" + (f" under {base!r}" if base else "")
    classes = sorted(folder[len(base) :] for folder in tree.folders if _child(folder, base))
    if not classes:
        raise DataError(
            f"{where} has no folders: expected one for each class, <class>/<image>, or "
            "train/<class>/<image>."
        )
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in classes}
    for file in tree.files:
        kind, slash, _ = file[len(base) :].partition("/")
        if file.startswith(base) and slash and file.lower().endswith(SUFFIXES):
            found[kind].append((kind, file))
    empty = [kind for kind, files in found.items() if not files]
    if len(empty) == len(classes):
        raise DataError(f"{where} has no images ({', '.join(SUFFIXES)}) in its folders.")
    if len(classes) == 1:
        raise DataError(f"{where} has one class only, {classes[0]!r}: nothing can be learnt.")
    if empty:
        raise DataError(
            f"{where} has no image for class {_few(empty)}: remove the folder, or fill it."
        )
    return tuple(classes), {"train": [pair for kind in classes for pair in found[kind]]}


def _same(train: tuple[str, ...], other: tuple[str, ...], split: str, tree: Tree) -> None:
    extra, missing = sorted({*other} - {*train}), sorted({*train} - {*other})
    if extra or missing:
        parts = ([f"{split} has {_few(extra)}, which train lacks"] if extra else []) + (
            [f"{split} lacks {_few(missing)}, which train has"] if missing else []
        )
        raise DataError(
            f"classes of {str(tree.path)!r} differ: {'; '.join(parts)}: make the folders agree."
        )


def _pair(size: int | Iterable[int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise DataError(f"size is {size!r}, expected a side, or height and width, in pixels.")
    return sides[0], sides[1]


def _child(folder: str, base: str) -> bool:
    return folder.startswith(base) and "/" not in folder[len(base) :]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(map(repr, names[:8])) + more
