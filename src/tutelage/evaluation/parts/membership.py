"""Membership inference: can one tell from the answers who was in the training data?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.privacy.audit import (
    NEVER,
    Ring,
    Scored,
    attacks,
    excess,
    references,
    rings,
)
from tutelage.evaluation.security_plots import dots
from tutelage.evaluation.separation import auroc_difference
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import NAMES, percent

Attacked = Mapping[str, Mapping[str, Scored]]
_WHAT = {
    "train": "the examples that the student learned from",
    "taught": "the examples that the teacher alone was trained on",
    NEVER: "examples nobody was trained on",
}


@register("part", "membership")
class Membership(AbstractPart):
    """Loss threshold and ratio (RMIA) attacks on every model, against its training examples.

    Members and others, which are test examples, are drawn with the same number of each class.
    The control is the same attack on validation examples, which no model has learned from.

    Args:
        most: Members that are asked about, of each set.
        a: Of the ratio attack: how far a stranger's probability is from a member's, in [0, 1].
        tolerated: AUC that a leak may have before it is a warning; a leak below is a notice.
    """

    title = "Who was in the training data"
    gates: ClassVar[Mapping[str, Gate]] = {
        "membership_auc": Gate(
            "AUC of guessing the student's or its teacher's training examples, at most",
            True,
            in_part("membership", "worst", "auc"),
        )
    }

    def __init__(self, most: int = 2000, a: float = 0.3, tolerated: float = 0.55):
        if most < 2:
            raise RecipeError(f"most: got {most}: at least 2 members are needed.")
        for key, value, least in (("a", a, 0.0), ("tolerated", tolerated, 0.5)):
            if not least <= value <= 1:
                raise RecipeError(f"{key}: got {value}: give a number from {least:g} to 1.")
        self.most, self.a, self.tolerated = most, a, tolerated

    def absent(self, subjects: Subjects) -> str | None:
        """Members must be known."""
        if all(each is None or each.targets is None for each in (subjects.train, subjects.taught)):
            return "it is not known what the models were trained on"
        return None

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """AUC, and the share found at 1 % and 0.1 % false alarms, of every attack and model."""
        seed = derive(subjects.seed, "membership")
        asked, population = rings(subjects, seed)
        found: dict[str, dict[str, Scored]] | None
        sets: dict[str, Any] = {}
        refused: dict[str, str] = {}
        for name in sorted(asked, key=lambda name: name != NEVER):
            ring = asked[name]
            try:
                found = attacks(subjects, ring, population, seed=seed, most=self.most, a=self.a)
                sets[name] = self._of(found, ring, subjects, len(asked))
            except DataError as error:
                refused[name] = str(error)
        control = sets.pop(NEVER, None)
        if not sets:
            raise DataError(next(iter(refused.values()), "there are no members to ask about"))
        for one in sets.values():
            _hold_against(one, control)
        return {
            "sets": sets,
            "control": control,
            "refused": refused,
            "questions": _questions(len(asked)),
            "tolerated": self.tolerated,
            "worst": _worst(sets),
        }

    def _of(self, found: Attacked, ring: Ring, subjects: Subjects, many: int) -> dict[str, Any]:
        strict = 1 - (1 - subjects.level) / _questions(many)
        scored = next(iter(found["student"].values()))
        versus = {}
        if "baseline" in found:
            pair = [found[role]["loss"] for role in ("student", "baseline")]
            ours, theirs = ((one.members, one.others) for one in pair)
            versus = auroc_difference(ours, theirs, level=strict).as_dict()
        return {
            "examples": len(scored.members),
            "seen": [role for role in subjects.roles if role in ring.seen],
            "references": references(subjects, ring),
            "student_minus_baseline": versus or None,
            "models": {
                role: {
                    name: {**one.rates(subjects.level), "strict": one.rates(strict)["auc"]}
                    for name, one in each.items()
                }
                for role, each in found.items()
            },
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Whom one can recognise, and how far."""
        found = {
            role: [
                leak
                for name, one in figures["sets"].items()
                if role in one["models"] and (leak := _leak(name, one, role, figures["tolerated"]))
            ]
            for role in ("student", "teacher")
        }
        more = [f for name, one in figures["sets"].items() if (f := _against(name, one))]
        told = found["student"] or [_none(figures)]
        told.sort(key=lambda finding: finding.status != "warning")
        return [*told, *found["teacher"], *more]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """The AUCs as a picture, the rest as a table."""
        control = {"control": figures["control"]} if figures["control"] else {}
        shown = {**figures["sets"], **control}
        drawn = {
            f"{name}, {attack}"[:40]: {
                role: each[attack]["auc"] for role, each in one["models"].items() if attack in each
            }
            for name, one in shown.items()
            for attack in ("loss", "ratio")
        }
        drawn = {name: row for name, row in drawn.items() if row}
        return [
            Words(_ABOUT),
            Picture(
                dots(drawn, "membership", "AUC of the attack, %", chance=0.5),
                "How often an attacker tells a training example from a stranger, by set and "
                "attack: the dashed line is chance, and right of it somebody can be recognised.",
            ),
            _table(shown),
            *(Words(f"{_WHAT[k].capitalize()}: {why}") for k, why in figures["refused"].items()),
        ]


_ABOUT = (
    "An attacker who may ask a model wants to know whether somebody's example was in its training "
    "data. “loss”: members have low losses. “ratio”: members are likelier to this model than to "
    "models that never saw them, more so than other people are; where no such model is there, "
    "what this model thinks of strangers of the class stands for it. Strangers are test examples "
    "of the same class mix; the control plays the same game with validation examples that nobody "
    "was trained on. These are weak attacks: what they do not find, stronger ones may."
)


def _questions(sets: int) -> int:
    """Of student and teacher, by two attacks, on each set."""
    return 4 * sets


def _hold_against(one: dict[str, Any], control: Mapping[str, Any] | None) -> None:
    """Say of each attack whether it works beyond doubt, and better than on strangers."""
    for role, each in one["models"].items():
        for attack, rates in each.items():
            rates["clear"] = rates["strict"]["low"] > 0.5
            if control is not None and attack in control["models"][role]:
                base = control["models"][role][attack]["strict"]
                rates["beyond_control"] = excess(rates["strict"], base, base["level"])
                rates["clear"] = rates["clear"] and rates["beyond_control"]["low"] > 0


def _worst(sets: Mapping[str, Any]) -> dict[str, Any]:
    found = [
        {"set": name, "attack": attack, "auc": rates["auc"]}
        for name, one in sets.items()
        for attack, rates in one["models"]["student"].items()
    ]
    return max(found, key=lambda each: each["auc"]["mean"])


def _against(name: str, one: Mapping[str, Any]) -> Finding | None:
    """The student beside the same student without a teacher."""
    versus = one["student_minus_baseline"]
    if versus is None or versus["low"] <= 0 <= versus["high"]:
        return None
    more = versus["mean"] > 0
    reached = {role: one["models"][role]["loss"]["auc"]["mean"] for role in ("student", "baseline")}
    return Finding(
        "notice" if more else "fine",
        f"Distillation made {_WHAT[name]} {'easier' if more else 'harder'} to recognise: AUC of "
        f"the loss attack {percent(reached['student'])} on the student, "
        f"{percent(reached['baseline'])} on the same student trained alone.",
    )


def _leak(name: str, one: Mapping[str, Any], role: str, tolerated: float) -> Finding | None:
    clear = {attack: each for attack, each in one["models"][role].items() if each["clear"]}
    if not clear:
        return None
    attack = max(clear, key=lambda attack: clear[attack]["auc"]["mean"])
    auc, tpr = clear[attack]["auc"], clear[attack]["tpr"]["0.01"]
    strong = auc["low"] > tolerated and role == "student"
    text = (
        f"{_WHAT[name].capitalize()} can be recognised in the {role}'s answers: of one of them "
        f"and one stranger an attacker picks the right one in {percent(auc['mean'])} of cases "
        f"({percent(auc['low'])} to {percent(auc['high'])}; chance is 50 %), and finds "
        f"{percent(tpr['mean'])} of them when 1 % of strangers may be accused."
    )
    return Finding("warning" if strong else "notice", text)


def _none(figures: Mapping[str, Any]) -> Finding:
    worst = figures["worst"]
    auc = worst["auc"]
    return Finding(
        "fine",
        "Nobody can be shown to be recognised in the student's answers: the best attack on "
        f"{_WHAT[worst['set']]} has an AUC of {percent(auc['mean'])} ({percent(auc['low'])} to "
        f"{percent(auc['high'])}; chance is 50 %). Stronger attacks exist.",
    )


def _table(shown: Mapping[str, Any]) -> Table:
    rows = []
    for name, one in shown.items():
        for role, each in one["models"].items():
            for attack, rates in each.items():
                knows = "yes" if role in one["seen"] else "no"
                tpr = [rates["tpr"][rate] for rate in ("0.01", "0.001")]
                cells = [f"{percent(t['mean'])} (to {percent(t['high'])})" for t in tpr]
                auc = rates["auc"]
                area = f"{percent(auc['mean'])} ({percent(auc['low'])} to {percent(auc['high'])})"
                rows.append((name, NAMES[role], knows, attack, area, *cells))
    head = ("set", "model", "trained on it", "attack", "AUC", "found at 1 %", "found at 0.1 %")
    return Table(head, tuple(rows), "Every attack on every model", folded=True)
