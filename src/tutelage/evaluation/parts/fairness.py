"""Fairness: whether the student serves some groups worse, and more so than its teacher does."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.fairness.figures import Care, of_grouping
from tutelage.evaluation.fairness.plots import MOST_GROUPS, group_accuracies
from tutelage.evaluation.fairness.rates import MEASURES
from tutelage.evaluation.fairness.wording import GAPS, told
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import ROLES, listing, percent, points, span

_CLASSES = 12  # up to which the rates of all are shown


@register("part", "fairness")
class Fairness(AbstractPart):
    """Accuracy, selection and error rates by group, for every way in which the data groups.

    Amplification is the student's gap between groups less the teacher's; the same student without
    a teacher is its control. It is flagged where a range that allows for all groups, classes and
    measures looked at lies above 0.

    Args:
        least: Examples that a rate must rest on to be compared between groups.
        resamples: Draws of the bootstrap.
    """

    title = "Fairness between groups"
    gates: ClassVar[Mapping[str, Gate]] = {
        "worst_group_drop": Gate(
            "accuracy lost against the teacher in any one group",
            True,
            in_part("fairness", "worst_group_drop"),
            "points",
            needs=("teacher",),
        ),
        "amplification": Gate(
            "equalised odds difference beyond the teacher's",
            True,
            in_part("fairness", "amplification"),
            "points",
            needs=("teacher",),
        ),
        "eod": Gate("equalised odds difference", True, in_part("fairness", "eod"), "points"),
    }

    def __init__(self, least: int = 10, resamples: int = 1000):
        if isinstance(least, bool) or not isinstance(least, int) or least < 1:
            raise DataError(f"fairness: least is {least!r}, expected a whole number from 1 on.")
        if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 200:
            raise DataError(
                f"fairness: resamples is {resamples!r}, expected a whole number from 200 on."
            )
        self.least, self.resamples = least, resamples

    def absent(self, subjects: Subjects) -> str | None:
        """There must be groups."""
        return None if subjects.groups else "the data names no groups (csv: groups: [...])"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """By way of grouping, and the worst of all ways for the gates."""
        roles = [role for role in subjects.roles if role in ROLES]
        answered = {role: subjects.answers(role) for role in roles}
        more = {role: subjects.seeds[role] for role in roles if role in subjects.seeds}
        outside = 1 - subjects.level
        care = Care(
            level=subjects.level,
            strict=1 - outside / (len(MEASURES) * len(subjects.groups)),
            drop=1 - outside / sum(len(groups.names) for groups in subjects.groups.values()),
            least=self.least,
            resamples=self.resamples,
            seed=subjects.seed,
        )
        found = {
            name: of_grouping(groups, answered, more, care)
            for name, groups in subjects.groups.items()
        }
        ways = {name: one for name, one in found.items() if one is not None}
        if not ways:
            raise DataError("no way of grouping has test examples in two groups or more.")
        return {
            "level": subjects.level,
            "least": self.least,
            "roles": roles,
            "classes": list(subjects.test.classes),
            "ways": ways,
            "alone": [name for name, one in found.items() if one is None],
            "worst_group_drop": _worst(
                (row["drop"], {"way": name, "group": row["name"]})
                for name, one in ways.items()
                for row in one["groups"]
            ),
            "amplification": _worst(
                (one["amplification"]["odds"].get("teacher"), {"way": name})
                for name, one in ways.items()
            ),
            "eod": _worst(
                (one["gaps"]["odds"].get("student"), {"way": name}) for name, one in ways.items()
            ),
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """What is wider than before, what stayed, who lost most, and what cannot be said."""
        found = [told(name, one) for name, one in figures["ways"].items()]
        found.sort(key=lambda one: ("warning", "notice", "fine").index(one.status))
        drop = _surest_drop(figures["ways"])
        if drop and drop["low"] > 0:
            found.append(
                Finding(
                    "notice",
                    f"The student surely lost in the group “{drop['group']}” ({drop['way']}): "
                    f"{points(drop['mean'], sign=False)} points of the teacher's accuracy "
                    f"(range {span(drop)}, all groups allowed for).",
                )
            )
        few = sum(len(one["few"]) for one in figures["ways"].values())
        if few:
            found.append(
                Finding(
                    "notice",
                    f"{few} rates of a class in a group rest on fewer than {figures['least']} "
                    "examples: nothing is said of them.",
                )
            )
        if figures["alone"]:
            found.append(
                Finding(
                    "notice",
                    f"By {listing(figures['alone'])}, all test examples are in one group: there is "
                    "nothing to compare.",
                )
            )
        return found

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """For each way of grouping: accuracies as a picture and a table, then gaps, then rates."""
        shown: list[Block] = [
            Words(
                "A gap is the widest difference between two groups: of accuracy; of how often an "
                "answer is given (demographic parity); of how often a class is recognised, or "
                "something else taken for it (equalised odds; of several classes the worst). "
                "Ranges allow for all groups and measures. They cover which examples were tested, "
                "not the luck of training."
            )
        ]
        for name, one in figures["ways"].items():
            shown += [
                Picture(group_accuracies(one["groups"], name), _caption(name, one)),
                _accuracies(name, one, figures["roles"]),
                _gaps(name, one, figures["roles"]),
            ]
            if "rates" in one["groups"][0] and len(figures["classes"]) <= _CLASSES:
                shown.append(_rates(name, one, figures))
        return shown


def _worst(found: Any) -> dict[str, Any] | None:
    known = [{**figure, **where} for figure, where in found if figure is not None]
    return max(known, key=lambda one: one["mean"]) if known else None


def _surest_drop(ways: Mapping[str, Any]) -> dict[str, Any] | None:
    """The group whose loss is the most beyond chance."""
    known = [
        {**row["drop"], "way": name, "group": row["name"]}
        for name, one in ways.items()
        for row in one["groups"]
        if row["drop"] is not None
    ]
    return max(known, key=lambda one: one["low"]) if known else None


def _caption(name: str, one: Mapping[str, Any]) -> str:
    rows = one["groups"]
    worst = min(rows, key=lambda row: row["accuracy"]["student"]["mean"])
    few = f" The {MOST_GROUPS} largest of {len(rows)}." if len(rows) > MOST_GROUPS else ""
    return (
        f"Accuracy by {name}; the student is lowest in “{worst['name']}” "
        f"({percent(worst['accuracy']['student']['mean'])}).{few}"
    )


def _accuracies(name: str, one: Mapping[str, Any], roles: Sequence[str]) -> Table:
    def cell(interval: Mapping[str, float] | None) -> str:
        return "–" if interval is None else f"{points(interval['mean'])} ({span(dict(interval))})"

    head = ("Group", "Examples", *(ROLES[role].capitalize() for role in roles))
    rows = [
        (
            row["name"],
            f"{row['examples']:,}",
            *(percent(row["accuracy"][role]["mean"]) for role in roles),
            cell(row["rest"]),
            cell(row["drop"] and _turned(row["drop"])),
        )
        for row in one["groups"]
    ]
    if one["unknown"]:
        rows.append(("not known", f"{one['unknown']:,}", *("–" for _ in roles), "–", "–"))
    head += ("Student, against all others", "Student − teacher")
    return Table(head, tuple(rows), f"Accuracy by {name}")


def _turned(drop: Mapping[str, Any]) -> dict[str, float]:
    return {"mean": -drop["mean"], "low": -drop["high"], "high": -drop["low"]}


def _gaps(name: str, one: Mapping[str, Any], roles: Sequence[str]) -> Table:
    def cell(found: Mapping[str, Any], role: str, *, sign: bool) -> str:
        if role not in found:
            return "–"
        mean, low, high = (points(found[role][end], sign=sign) for end in ("mean", "low", "high"))
        return f"{mean} ({low} to {high})"

    others = [role for role in roles if role != "student"]
    rows = tuple(
        (
            GAPS[measure].capitalize(),
            *(cell(one["gaps"][measure], role, sign=False) for role in roles),
            *(cell(one["amplification"][measure], role, sign=True) for role in others),
        )
        for measure in MEASURES
    )
    head = ("Gap, in points", *(ROLES[role].capitalize() for role in roles))
    head += tuple(f"Student − {ROLES[role]}" for role in others)
    return Table(head, rows, f"Gaps by {name}")


def _rates(name: str, one: Mapping[str, Any], figures: Mapping[str, Any]) -> Table:
    kinds = {"selection": "answered", "tpr": "recognised", "fpr": "mistaken for it"}
    shown = [role for role in figures["roles"] if role != "baseline"]
    rows = tuple(
        (
            f"{row['name']}: {label}",
            *(
                "–" if (rate := row["rates"][role][kind][place]) is None else percent(rate)
                for kind in kinds
                for role in shown
            ),
        )
        for row in one["groups"]
        for place, label in enumerate(figures["classes"])
    )
    heads = (f"{word}, {ROLES[role]}" for word in kinds.values() for role in shown)
    return Table(("Group: class", *heads), rows, f"Rates of each class by {name}", folded=True)
