"""The tables of the part ``fidelity``, from its figures alone."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table
from tutelage.evaluation.roles import NAMES
from tutelage.evaluation.wording import percent, span


def closeness_table(figures: Mapping[str, Any]) -> Block:
    """Every learner beside the teacher."""
    models, features = figures["models"], figures["features"]
    inside = {} if features is None else features["models"]
    rows = [
        ("Same answer as the teacher", [_share(m["agreement"]) for m in models.values()]),
        ("Predictive KL, nats", [_nats(m["kl"]) for m in models.values()]),
        ("Jensen-Shannon, nats", [_nats(m["js"]) for m in models.values()]),
        (
            "Same where the teacher is right",
            [_of(m, "where_teacher_right") for m in models.values()],
        ),
        ("Teacher's errors repeated", [_of(m, "copied_errors") for m in models.values()]),
        ("Common errors of one class", [_of(m, "same_wrong_class") for m in models.values()]),
        (
            "Features alike (unbiased CKA)",
            [_cka(inside.get(role), "unbiased_cka") for role in models],
        ),
        ("Features alike (plain CKA)", [_cka(inside.get(role), "cka") for role in models]),
    ]
    heads = ("", *(NAMES[role].capitalize() for role in models))
    return Table(heads, tuple((name, *cells) for name, cells in rows), "Beside the teacher")


def difference_tables(figures: Mapping[str, Any]) -> list[Block]:
    """What the student has beyond those who never saw the teacher."""
    columns = {
        "the student alone": figures["taught"],
        "the student of a random teacher": figures["taught_beyond_control"],
    }
    known = {name: one for name, one in columns.items() if one is not None}
    if not known:
        return []
    rows = [
        ("Agreement, points", [span(one["agreement"]) for one in known.values()]),
        ("… where the teacher is right", [_points(one["rights"]) for one in known.values()]),
        ("… where it is wrong", [_points(one["errors"]) for one in known.values()]),
        ("Predictive KL, nats", [_ends(one["kl"]) for one in known.values()]),
        (
            "More answers that are its errors",
            [f"{one['caught_errors']:+,}" for one in known.values()],
        ),
        (
            "More right answers, as its own",
            [f"{one['learnt_rights']:+,}" for one in known.values()],
        ),
    ]
    features = figures["features"]
    if features is not None and features["taught"] is not None:
        more = ["–"] * (len(known) - 1)
        rows.append(("Features (unbiased CKA)", [_ends(features["taught"]), *more]))
    heads = ("Student minus …", *known)
    cells = tuple((name, *row) for name, row in rows)
    return [Table(heads, cells, "What was taught: the student's closeness, less that of others")]


def _share(interval: Mapping[str, Any]) -> str:
    return (
        f"{percent(interval['mean'])} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"
    )


def _nats(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "without bound"
    return f"{interval['mean']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _of(model: Mapping[str, Any], key: str) -> str:
    return "–" if model[key] is None else percent(model[key])


def _cka(found: Mapping[str, Any] | None, key: str) -> str:
    return "–" if found is None or found[key] is None else f"{found[key]:.3f}".replace("-", "−")


def _points(interval: Mapping[str, Any] | None) -> str:
    return "–" if interval is None else span(dict(interval))


def _ends(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "–"
    return f"{interval['low']:+.4f} to {interval['high']:+.4f}".replace("-", "−")
