"""Pictures of robustness: accuracy against severity, and against the size of an attack."""

from collections.abc import Mapping, Sequence

from tutelage.evaluation.faces.plots import _ARMS, _FAINT, _MARKS, _STROKES, _figure, _legend, _svg
from tutelage.evaluation.wording import ROLES


def corruption_bars(
    kinds: Sequence[str], models: Mapping[str, Sequence[float]], clean: Mapping[str, float]
) -> str:
    """Mean accuracy under each kind, one mark a model, beside what it is on clean images.

    Args:
        kinds: Names as people say them, in the order drawn from the top.
        models: By role, an accuracy for each kind.
        clean: By role, the accuracy without corruption.
    """
    figure, axes = _figure(5.4, 1.1 + 0.3 * len(kinds))
    roles = [role for role in _ARMS if role in models]
    for place, role in enumerate(roles):
        shift = 0.24 * ((len(roles) - 1) / 2 - place)
        axes.plot(
            [100 * share for share in [clean[role], *models[role]]],
            [len(kinds) - row + shift for row in range(len(kinds) + 1)],
            color=_ARMS[role],
            marker=_MARKS[role],
            markersize=6,
            linestyle="none",
            label=ROLES[role],
        )
    axes.axhline(len(kinds) - 0.5, color=_FAINT, linewidth=1)
    axes.set_yticks(range(len(kinds), -1, -1), ["clean", *kinds])
    axes.set_ylim(-0.6, len(kinds) + 0.6)
    axes.set_xlim(0, 102)
    axes.set_xlabel("accuracy, %")
    _legend(axes)
    return _svg(figure, "corruption", "Accuracy of each model under each kind of corruption.")


def attack_curve(models: Mapping[str, Sequence[tuple[float, float]]], epsilon: float) -> str:
    """Robust accuracy against the size of the attack.

    Args:
        models: By role, pairs of a size (share of the whole range of brightness) and an accuracy.
        epsilon: The size that the table is made for: marked.
    """
    figure, axes = _figure(5.4, 3.0)
    for role in _ARMS:
        if role in models:
            axes.plot(
                [100 * size for size, _ in models[role]],
                [100 * share for _, share in models[role]],
                color=_ARMS[role],
                marker=_MARKS[role],
                linestyle=_STROKES[role],
                markersize=5,
                label=ROLES[role],
            )
    axes.axvline(100 * epsilon, color=_FAINT, linewidth=1, linestyle=(0, (2, 2)))
    axes.set_ylim(-3, 103)
    axes.set_xlabel("largest change of a pixel, % of the range of brightness")
    axes.set_ylabel("still right, %")
    _legend(axes)
    return _svg(figure, "attacks", "Accuracy of each model against the size of an attack.")
