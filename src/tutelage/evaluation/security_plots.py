"""Pictures of the parts on outsiders, membership and backdoors."""

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

from torch import Tensor

from tutelage.evaluation.faces import plots
from tutelage.evaluation.wording import NAMES

"""What people call the models by role."""
_COLOURS = {**plots._ARMS, "control": plots._FAINT}
_MARKS = {**plots._MARKS, "control": "x"}


def dots(
    rows: Mapping[str, Mapping[str, Mapping[str, Any]]], name: str, label: str, *, chance: float
) -> str:
    """Shares with their intervals, a row a question and a mark a model.

    Args:
        rows: By question, by role: ``{"mean", "low", "high"}`` as shares.
        name: Of the picture, for its ids.
        label: Of the axis.
        chance: Where the dashed line is.

    Returns:
        An ``<svg>`` element.
    """
    roles = [role for role in NAMES if any(role in row for row in rows.values())]
    figure, axes = plots._figure(5.4, 1.0 + (0.24 * len(roles) + 0.16) * len(rows))
    step = 0.8 / max(len(roles), 1)
    for place, row in enumerate(reversed(list(rows.values()))):
        for number, role in enumerate(roles):
            if role in row:
                height = place + 0.4 - step * (number + 0.5)
                _dot(axes, row[role], height, role, label=place == 0)
    axes.axvline(100 * chance, color=plots._INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [each[:26] for each in reversed(list(rows))])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    handles = {text: mark for mark, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    axes.legend(
        handles.values(),
        handles,
        frameon=False,
        fontsize=10.5,
        labelcolor=plots._INK,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2,
        borderaxespad=0.2,
    )
    return plots._svg(figure, name, f"{label} of each model, question by question.")


def pixels(image: Tensor, description: str, *, side: int = 160) -> str:
    """Pixels inside an ``<svg>``, enlarged without smoothing, on white with a thin frame.

    Args:
        image: ``(C, H, W)`` in [0, 1], of 1 or 3 channels.
        description: For one who cannot see it.
        side: Width, in points.
    """
    from matplotlib.image import imsave

    rgb = image.clamp(0, 1).expand(3, -1, -1) if len(image) == 1 else image.clamp(0, 1)[:3]
    file = io.BytesIO()
    imsave(file, rgb.permute(1, 2, 0).contiguous().numpy(), format="png")
    data = base64.b64encode(file.getvalue()).decode()
    tall = round(side * image.shape[1] / image.shape[2])
    return (
        f'<svg viewBox="0 0 {side} {tall}" role="img" aria-label="{escape(description)}" '
        f'style="max-width:{side}px"><image width="{side}" height="{tall}" '
        f'style="image-rendering:pixelated" href="data:image/png;base64,{data}"/>'
        f'<rect width="{side}" height="{tall}" fill="none" stroke="var(--faint)"/></svg>'
    )


def _dot(axes: Any, found: Mapping[str, Any], height: float, role: str, *, label: bool) -> None:
    reach = [[100 * (found["mean"] - found["low"])], [100 * (found["high"] - found["mean"])]]
    axes.errorbar(
        [100 * found["mean"]],
        [height],
        xerr=reach,
        color=_COLOURS[role],
        marker=_MARKS[role],
        markersize=6,
        capsize=2.5,
        linestyle="none",
        label=NAMES[role],
    )
