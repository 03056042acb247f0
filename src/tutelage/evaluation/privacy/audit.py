"""Who can be recognised: a model's scores of its training examples beside those of strangers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any

import torch
from torch import Tensor

from tutelage.core.seeds import derive, uniform
from tutelage.data.sets import Examples
from tutelage.evaluation.intervals import Interval, wilson
from tutelage.evaluation.predict import predict
from tutelage.evaluation.privacy.attacks import by_class, loss_scores, ratio_scores, ratios
from tutelage.evaluation.privacy.matching import matched
from tutelage.evaluation.separation import auroc_interval, true_positives
from tutelage.evaluation.subjects import Subjects

NEVER = "never seen"
"""The control: examples that no model has learned from, attacked as if they were members."""
RATES = (0.01, 0.001)
"""False positives an attacker may allow himself."""


@dataclass(frozen=True)
class Ring:
    """A set of suspected members.

    Attributes:
        members: The set.
        seen: Roles that learned its labels.
    """

    members: Examples
    seen: frozenset[str]


@dataclass(frozen=True)
class Scored:
    """One attack on one model: higher is a likelier member; as many members as others."""

    members: Tensor
    others: Tensor

    def rates(self, level: float) -> dict[str, Any]:
        """AUC, and the members found where hardly an error is allowed, with intervals."""
        auc = auroc_interval(self.members, self.others, level=level).as_dict()
        found = {}
        for rate in RATES:
            hits = true_positives(self.members, self.others, rate)
            found[f"{rate:g}"] = wilson(hits, len(self.members), level=level).as_dict()
        return {"auc": auc, "tpr": found}


def rings(subjects: Subjects, seed: int) -> tuple[dict[str, Ring], Examples | None]:
    """The sets to ask about by name, and examples of the population that are in none of them.

    ``train`` is what the student has learned from, ``taught`` what its teacher has beyond that,
    `NEVER` one half of validation; the other half is the population.
    """
    found: dict[str, Ring] = {}
    ids = torch.zeros(0, dtype=torch.long)
    taught = subjects.taught
    if subjects.train is not None:
        ids, seen = subjects.train.ids, {"student", "baseline", "control"}
        if taught is not None and bool(torch.isin(ids, taught.ids).all()):
            seen.add("teacher")
        found["train"] = Ring(subjects.train, frozenset(seen))
    if taught is not None and "teacher" in subjects.roles:
        beyond = (~torch.isin(taught.ids, ids)).nonzero().flatten()
        if len(beyond):
            found["taught"] = Ring(taught.take(beyond), frozenset({"teacher"}))
    held = subjects.validation
    if held is None or len(held) < 4:
        return found, None
    order = uniform(derive(seed, "population"), held.ids)[:, 0].argsort()
    half = len(held) // 2
    found[NEVER] = Ring(held.take(order[:half].sort().values), frozenset())
    return found, held.take(order[half:].sort().values)


def attacks(
    subjects: Subjects, ring: Ring, population: Examples | None, *, seed: int, most: int, a: float
) -> dict[str, dict[str, Scored]]:
    """Every attack on every model: by role, by name (``loss``, ``ratio``).

    The ratio's reference models are those roles that have not learned from the set; where there
    are none, the model's own mean on strangers of the class stands for them. Without a population
    there is no ratio.
    """
    rows = matched(ring.members, subjects.test, seed=seed, most=most)
    members = ring.members.take(rows[0])
    known = {role: _log_p(subjects, role, members) for role in subjects.roles}
    strangers = {role: _log_p_test(subjects, role, rows[1]) for role in subjects.roles}
    found = {role: {"loss": Scored(known[role], strangers[role])} for role in subjects.roles}
    if population is None or population.targets is None:
        return found
    crowd = {role: _crowd(subjects, role, population) for role in subjects.roles}
    assert members.targets is not None
    assert subjects.test.targets is not None
    labels = (members.targets, subjects.test.targets[rows[1]], population.targets)
    for role in subjects.roles:
        out = [other for other in references(subjects, ring) if other != role]
        each = []
        for answers, label in zip((known, strangers, crowd), labels, strict=True):
            stand_in = (
                _references(answers, out) if out else _stand_in(crowd[role], labels[2], label)
            )
            each.append(ratios(answers[role], stand_in, a))
        found[role]["ratio"] = Scored(
            ratio_scores(each[0], each[2]), ratio_scores(each[1], each[2])
        )
    return found


def references(subjects: Subjects, ring: Ring) -> list[str]:
    """Roles that have not learned from the set."""
    return [role for role in subjects.roles if role not in ring.seen]


def excess(
    found: Mapping[str, Any], control: Mapping[str, Any], level: float
) -> dict[str, float | str]:
    """One figure minus another from other examples, from their two intervals (MOVER).

    ``L = d - sqrt((m - l)² + (u' - m')²)`` and likewise above.

    >>> round(excess({"mean": .7, "low": .6, "high": .8}, {"mean": .5, "low": .5, "high": .5},
    ...              0.95)["low"], 2)
    0.1

    Paper: Zou and Donner, Statistics in Medicine 27:1693, 2008.
    """
    mean = found["mean"] - control["mean"]
    low = mean - hypot(found["mean"] - found["low"], control["high"] - control["mean"])
    high = mean + hypot(found["high"] - found["mean"], control["mean"] - control["low"])
    return Interval(mean, low, high, level, "MOVER").as_dict()


def _log_p(subjects: Subjects, role: str, examples: Examples) -> Tensor:
    answers = predict(subjects.models[role], examples)
    return loss_scores(answers.logits, answers.targets)


def _crowd(subjects: Subjects, role: str, population: Examples) -> Tensor:
    """The same for all sets."""
    key = ("membership", "population", role, population.ids.sum().item(), len(population))
    found: Tensor = subjects.once(key, lambda: _log_p(subjects, role, population))
    return found


def _log_p_test(subjects: Subjects, role: str, rows: Tensor) -> Tensor:
    answers = subjects.answers(role)
    return loss_scores(answers.logits[rows], answers.targets[rows])


def _references(answers: Mapping[str, Tensor], roles: Sequence[str]) -> Tensor:
    return torch.stack([answers[role] for role in roles])


def _stand_in(crowd: Tensor, theirs: Tensor, labels: Tensor) -> Tensor:
    classes = int(torch.cat((theirs, labels)).max()) + 1
    return by_class(crowd, theirs, classes)[labels][None]
