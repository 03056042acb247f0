"""Poison in a training set: one small patch, repeated exactly, in images of one label."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation.distributions import normal_quantile
from tutelage.evaluation.intervals import Interval

Suspicion = tuple[int, Tensor, int, int, bool]
"""Label, rows, place, window, anywhere."""

_GOLDEN = -7046029254386353131
_LOOKED_AT = 6  # suspicious patches of a label whose images are held against their neighbours
_WINDOWS = 300  # windows of a label among which those are chosen
_MOST_ROWS = 150
_NEIGHBOURS = 10
_ALIEN = 0.5  # of the likeness: images of the label are at 1, others at 0
_TELLING = 0.05  # what neighbours must tell about labels, as a difference of shares
_SAME = 1 / 62  # pixels of one value, as far as 32 levels tell


@dataclass(frozen=True)
class Suspect:
    """A patch that many images share, nearly all of one label, and that look like another.

    Attributes:
        label: The label.
        rows: The images that hold it.
        place: Its upper left corner, row and column; of the first image, where it is anywhere.
        anywhere: Whether it was looked for in all places at once.
        likeness: How far they look like images of their label, by their nearest neighbours: 1 as
            other images of it do, 0 no more than images of other labels do (see `likeness`).
        window: Side of the patch.
    """

    label: int
    rows: Tensor
    place: tuple[int, int]
    anywhere: bool
    likeness: Interval
    window: int


def window_codes(images: Tensor, window: int) -> Tensor:
    """A number for the content of every window, equal for equal content at 32 grey levels.

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        window: Side of a window.

    Returns:
        ``(N, H - window + 1, W - window + 1)`` of int64.

    Example:
        >>> window_codes(torch.zeros(1, 1, 3, 4), 3).unique().numel()
        1
    """
    count, channels, height, width = images.shape
    if window > min(height, width):
        raise DataError(f"windows of {window} pixels do not fit into images of {height}x{width}.")
    grey = (images * 31).round().long() + 1
    dice = generator(0, "window codes")
    factors = torch.randint(-(2**62), 2**62, (channels, window, window), generator=dice)
    down, right = height - window + 1, width - window + 1
    codes = torch.zeros(count, down, right, dtype=torch.long)
    for channel in range(channels):
        for row in range(window):
            for column in range(window):
                values = grey[:, channel, row : row + down, column : column + right]
                codes += values * factors[channel, row, column]
    return codes


def repeated_patches(
    images: Tensor,
    targets: Tensor,
    classes: int,
    *,
    windows: Sequence[int] = (2, 3),
    share: float = 0.005,
    purity: float = 0.9,
    level: float = 0.95,
) -> list[Suspect]:
    """Patches that give themselves away as triggers of a dirty-label backdoor.

    A patch is suspicious that at least ``share`` of the images hold (at one place, or anywhere),
    ``purity`` of them of one label. Such patches also arise by nature (an empty corner of all
    sandals), so their images must look like something else, too: their `likeness` to the label
    must be below 0.5, whole interval, allowing for all suspicious patches (Bonferroni).

    Args:
        images: ``(N, C, H, W)`` in [0, 1].
        targets: Labels ``(N,)``, none negative.
        classes: How many there are.
        windows: Sides of the patches that are compared; a trigger may be larger.
        share: Of the images that must hold it, and at least 10 images.
        purity: Share of them that must have one label.
        level: Confidence.

    Returns:
        The most frequent such patch of each label; empty where nothing is found.
        Nothing is proved by that: blended, warped or noisy triggers, clean-label poison and
        triggers that sleep in the teacher alone are not seen.

    Source: ours; measured beside spectral signatures (Tran et al., arXiv 1811.00636), which could
        not tell poison from clean images here (AUROC .43 to .50).
    """
    if targets.shape != images.shape[:1] or bool((targets < 0).any()):
        raise DataError("every image needs a label here: leave unlabelled ones out.")
    least = max(10, int(share * len(images)))
    found: list[Suspicion] = []
    for window in windows:
        codes = window_codes(images, window).flatten(1)
        for anywhere in (False, True):
            pure = _pure(codes, targets, classes, least=least, purity=purity, anywhere=anywhere)
            found += [(*each, window, anywhere) for each in pure]
    # What is at one place is looked at before the same patch anywhere, which may gain by chance.
    found.sort(key=lambda each: -len(each[1]) * (0.9 if each[4] else 1.0))
    found = [each for label in range(classes) for each in _first(found, label)]
    strict = 1 - (1 - level) / max(len(found), 1)
    kept: dict[int, Suspect] = {}
    for label, rows, place, window, anywhere in found:
        if label in kept:
            continue
        alike = likeness(images, targets, rows, label, level=strict)
        if alike is not None and alike.high < _ALIEN:
            corner = divmod(place, images.shape[-1] - window + 1)
            kept[label] = Suspect(label, rows, corner, anywhere, alike, window)
    return list(kept.values())


def likeness(
    images: Tensor, targets: Tensor, rows: Tensor, label: int, *, level: float = 0.95
) -> Interval | None:
    """How far images look like their label, on a scale from other images to those of the label.

    ``(s - s₀) / (s₁ - s₀)``, where s is the mean share of the label among the 10 nearest
    neighbours (by pixels, none of them of the images asked about), s₁ the same for other images
    of the label and s₀ for images of other labels.

    Args:
        images: ``(N, C, H, W)``.
        targets: ``(N,)``.
        rows: The images asked about (at most 150 of them are).
        label: Theirs.
        level: Of the interval, over the images asked about.

    Returns:
        1 for images like the label's, 0 for images like others'; None where neighbours tell
        nothing about labels, or too few images are left to compare with.
    """
    apart = torch.ones(len(images), dtype=torch.bool)
    apart[rows] = False
    others = apart.nonzero().flatten()
    theirs = targets[others] == label
    groups = rows, others[theirs], others[~theirs]
    if min(len(group) for group in groups) < _NEIGHBOURS:
        return None
    flat = images.flatten(1)
    asked, same, different = (
        _shares(flat, targets, _spread(group), others, label) for group in groups
    )
    width = float(same.mean() - different.mean())
    if width < _TELLING:
        return None
    # Three means, each with its own spread.
    error = sum(float(each.var()) / len(each) for each in (asked, same, different)) ** 0.5
    mean = float(asked.mean() - different.mean()) / width
    reach = normal_quantile(level) * error / width
    return Interval(mean, mean - reach, mean + reach, level, "normal, over images")


def trigger_of(images: Tensor, suspect: Suspect) -> tuple[Tensor, Tensor]:
    """The pixels that a suspect's images share and others do not, as mask and pattern.

    Args:
        images: ``(N, C, H, W)`` that it was found in.
        suspect: What was found.

    Returns:
        Mask ``(H, W)`` of 0 and 1, and pattern ``(C, H, W)``: the whole trigger where it is
        always at one place, the window alone where it is anywhere.
    """
    holds = images[suspect.rows]
    mask = torch.zeros(images.shape[2:])
    row, column = suspect.place
    mask[row : row + suspect.window, column : column + suspect.window] = 1
    if suspect.anywhere:
        return mask, holds[0]
    pattern = holds.median(0).values
    shared = ((holds - pattern).abs() <= _SAME).all(1).double().mean(0) > 0.95
    usual = ((images - pattern).abs() <= _SAME).all(1).double().mean(0) > 0.5
    whole = (shared & ~usual).float()
    return (whole if bool(whole.any()) else mask), pattern


def _first(found: Sequence[Suspicion], label: int) -> list[Suspicion]:
    """The most frequent ones of a label that are not of much the same images as one before."""
    kept: list[Suspicion] = []
    for each in [each for each in found if each[0] == label][:_WINDOWS]:
        rows = each[1]
        known = (float(torch.isin(rows, other[1]).double().mean()) for other in kept)
        if len(kept) < _LOOKED_AT and all(share < 0.5 for share in known):
            kept.append(each)
    return kept


def _spread(rows: Tensor) -> Tensor:
    """At most 150 of them, evenly."""
    return rows[torch.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).long()]


def _shares(flat: Tensor, targets: Tensor, asked: Tensor, others: Tensor, label: int) -> Tensor:
    distances = torch.cdist(flat[asked], flat[others])
    distances[asked[:, None] == others] = float("inf")  # nobody is his own neighbour
    near = others[distances.topk(_NEIGHBOURS, largest=False).indices]
    return (targets[near] == label).double().mean(1)


def _pure(
    codes: Tensor, targets: Tensor, classes: int, *, least: int, purity: float, anywhere: bool
) -> list[tuple[int, Tensor, int]]:
    """Label, rows and place of all windows that recur, nearly always under one label."""
    count, places = codes.shape
    if not anywhere:
        codes = codes * _GOLDEN + torch.arange(places) * 7919
    ordered, order = codes.flatten().sort(stable=True)
    rows = order // places
    new = torch.ones(len(ordered), dtype=torch.bool)  # an image counts once for each content
    new[1:] = (ordered[1:] != ordered[:-1]) | (rows[1:] != rows[:-1])
    ordered, order, rows = ordered[new], order[new], rows[new]
    lengths = torch.unique_consecutive(ordered, return_counts=True)[1]
    runs = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    starts = lengths.cumsum(0) - lengths
    recurs = (lengths >= least) & (lengths <= count // 2)
    inside = recurs[runs]
    number = recurs.long().cumsum(0) - 1  # of each run among those that recur
    table = torch.bincount(
        number[runs[inside]] * classes + targets[rows[inside]],
        minlength=int(recurs.sum()) * classes,
    ).view(-1, classes)
    base = torch.bincount(targets, minlength=classes) / count
    top, label = table.max(1)
    shares = top / table.sum(1)
    chosen = (shares >= purity) & (shares > (1 + base[label]) / 2)
    found = []
    which = recurs.nonzero().flatten()[chosen]
    for run, name in zip(which.tolist(), label[chosen].tolist(), strict=True):
        span = slice(int(starts[run]), int(starts[run] + lengths[run]))
        found.append((name, rows[span], int(order[span.start]) % places))
    return found
