"""Pictures of where models look: images with all but that under a veil; deletion curves."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from tutelage.evaluation.faces.plots import _ARMS, _MARKS, _STROKES, _figure, _legend, _svg
from tutelage.evaluation.wording import ROLES

_LEVELS, _LARGEST = 16, 48
_TILE, _GAP, _HEAD, _FOOT = 84, 10, 22, 18


def as_png(image: Tensor) -> str:
    """One image ``(C, H, W)`` in [0, 1] as base64 of a PNG of at most 48 pixels a side."""
    from PIL import Image

    largest = max(image.shape[1:])
    if largest > _LARGEST:
        size = [max(1, round(side * _LARGEST / largest)) for side in image.shape[1:]]
        image = F.interpolate(image[None], size, mode="area")[0]
    kept = image[:3] if image.shape[0] >= 3 else image[:1]
    pixels = kept.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return _png(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def as_veil(places: Tensor) -> str:
    """A map ``(h, w)`` as base64 of a PNG: clear where it is highest, dense grey where 0."""
    from PIL import Image

    if max(places.shape) > 28:
        places = F.adaptive_avg_pool2d(places[None], 28)[0]
    most = float(places.max())
    share = places / most if most > 0 else places
    veil = Image.fromarray(share.mul(_LEVELS - 1).round().byte().numpy())
    veil.putpalette([128, 128, 128] * _LEVELS)
    dense = bytes(round(235 * (1 - level / (_LEVELS - 1))) for level in range(_LEVELS))
    return _png(veil, transparency=dense)


def where_they_look(shown: Sequence[Mapping[str, Any]], roles: Sequence[str]) -> str:
    """Each image by itself, and as each model sees it.

    Args:
        shown: For each image ``image`` (see `as_png`), ``class``, and ``maps``: by role ``veil``
            (see `as_veil`) and ``answer``, the class that the model answers.
        roles: In the order of the columns.
    """
    names = {**ROLES, "control": "random teacher's"}
    step, row = _TILE + _GAP, _TILE + _FOOT + _GAP
    wide, high = step * (1 + len(roles)) - _GAP, _HEAD + row * len(shown)
    parts = [
        _text(step * place + _TILE / 2, 13, head)
        for place, head in enumerate(["image", *(names[role] for role in roles)])
    ]
    for number, one in enumerate(shown):
        top = _HEAD + row * number
        parts.append(
            _tile(0, top, one["image"], None) + _text(_TILE / 2, top + _TILE + 13, one["class"])
        )
        for place, role in enumerate(roles, start=1):
            seen = one["maps"].get(role)
            if seen is not None:
                mark = "✓ " if seen["answer"] == one["class"] else "✗ "
                parts.append(_tile(step * place, top, one["image"], seen["veil"]))
                parts.append(
                    _text(step * place + _TILE / 2, top + _TILE + 13, mark + seen["answer"])
                )
    told = "Images, and the places that each model looks at: the rest is veiled in grey."
    return f'<svg viewBox="0 0 {wide} {high}" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def deletion_curves(models: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean certainty while pixels are taken away: by each model's own map, and by chance."""
    figure, axes = _figure(5.4, 3.0)
    for role in _ARMS:
        if role not in models:
            continue
        for kind, faint in (("map", False), ("chance", True)):
            curve = models[role]["curve"][kind]
            axes.plot(
                [100 * place / (len(curve) - 1) for place in range(len(curve))],
                [100 * share for share in curve],
                color=_ARMS[role],
                linestyle=(0, (1, 3)) if faint else _STROKES[role],
                linewidth=1 if faint else 1.6,
                marker="" if faint else _MARKS[role],
                markersize=4,
                label=None if faint else ROLES[role],
            )
    axes.set_ylim(0, 102)
    axes.set_xlabel("pixels taken away, %")
    axes.set_ylabel("certainty of the class, %")
    _legend(axes)
    return _svg(figure, "deletion", "Certainty of each model while pixels are taken away.")


def _tile(left: float, top: float, image: str, veil: str | None) -> str:
    where = f'x="{left}" y="{top}" width="{_TILE}" height="{_TILE}" preserveAspectRatio="none"'
    sharp = ' style="image-rendering:pixelated"'
    drawn = f'<image {where}{sharp} href="data:image/png;base64,{image}"/>'
    if veil is not None:
        drawn += f'<image {where} href="data:image/png;base64,{veil}"/>'
    frame = f'x="{left}" y="{top}" width="{_TILE}" height="{_TILE}"'
    return drawn + f'<rect {frame} fill="none" stroke="var(--grid)"/>'


def _text(left: float, top: float, words: str) -> str:
    short = words if len(words) <= 15 else words[:14] + "…"
    style = "font: 11px var(--font)"
    return (
        f'<text x="{left}" y="{top}" text-anchor="middle" style="{style}" fill="var(--ink)">'
        f"{escape(short)}</text>"
    )


def _png(image: Any, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True, **options)
    return base64.b64encode(file.getvalue()).decode("ascii")
