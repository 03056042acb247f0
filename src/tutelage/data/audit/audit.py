"""A look at the data before the run: every check, and what it found, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.finding import Finding
from tutelage.data.audit import balance, broken, copies, duplicates, labels, saying
from tutelage.data.audit.descriptors import described, directions_of
from tutelage.data.audit.pool import SPLITS, Pool, Told
from tutelage.data.splits import Splits
from tutelage.data.text import PairSet, TokenSet

CHECKS = {
    "files": "Files",
    "content": "Content",
    "duplicates": "Copies",
    "labels": "Labels",
    "balance": "Classes and groups",
}
"""The checks, in the order they are told, and what people call them."""
_KEPT = 200  # pairs and suspects that are kept in the figures


@dataclass(frozen=True)
class Audit:
    """What the look at a data set found.

    Attributes:
        name: Of the data set.
        facts: Sizes, shape, classes, fingerprints, origin: plain data.
        figures: By check, plain data; a check that was left out has ``left_out``.
        findings: By check.
    """

    name: str
    facts: Mapping[str, Any]
    figures: Mapping[str, Mapping[str, Any]]
    findings: Mapping[str, tuple[Finding, ...]]

    @property
    def worst(self) -> str:
        """``warning``, ``notice`` or ``fine``: the worst that was found."""
        found = {one.status for told in self.findings.values() for one in told}
        return next((word for word in ("warning", "notice") if word in found), "fine")

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data: what ``audit.json`` holds."""
        return {
            "schema": 1,
            "name": self.name,
            "worst": self.worst,
            "facts": dict(self.facts),
            "checks": {
                check: {
                    "title": CHECKS[check],
                    "findings": [
                        {"status": f.status, "text": f.text, "examples": list(f.examples)}
                        for f in told
                    ],
                    "figures": dict(self.figures[check]),
                }
                for check, told in self.findings.items()
            },
        }


def audit(
    splits: Splits,
    *,
    files: Mapping[int, str] | None = None,
    scanned: broken.Files | None = None,
    features: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    told: Told = lambda _: None,
) -> Audit:
    """Look at data before anything learns from it.

    The test split is opened here, for the audit: only for hashes, similarities and counts of its
    labels. Nothing is chosen by it, and the labels of test are not doubted. The splits are used
    up by this: load them anew for a run.

    Args:
        splits: What to look at; the test seal must be whole.
        files: The file of each example number, where examples are files.
        scanned: What a look at these files found (see `broken.scan`).
        features: Features of a model by split ``(n, ...)``, in the order of each split, to find
            near-copies and doubtful labels by, instead of pixels and simple features.
        seed: Of all random choices.
        told: Told of each check as it begins.

    Raises:
        DataError: The data are texts without classes.
    """
    _refuse_texts(splits)
    fingerprints = splits.fingerprints()
    pool = Pool.of(splits, files)
    figures: dict[str, Mapping[str, Any]] = {}
    findings: dict[str, tuple[Finding, ...]] = {}
    if scanned is not None:
        figures["files"] = vars(scanned)
        findings["files"] = saying.of_files(scanned)
    told("looking at every example")
    content = broken.contents(pool.sets)
    figures["content"] = _named(pool, vars(content))
    findings["content"] = saying.of_content(content, pool)
    told("looking for copies")
    given = None if features is None else torch.cat([features[split] for split in SPLITS])
    rows = described(pool.sets, seed) if given is None else directions_of(given, seed)
    same = duplicates.exact(pool.sets)
    confirm = given is None and len(splits.example_shape) == 3
    near = duplicates.near(pool, rows, same, confirm=confirm)
    figures["duplicates"] = _duplicates(pool, same, near)
    findings["duplicates"] = copies.of_duplicates(same, near, pool)
    told("doubting labels")
    doubts = labels.check(pool, rows, splits.classes, seed, given)
    figures["labels"] = _labels(pool, doubts, splits.classes)
    findings["labels"] = saying.of_labels(doubts, pool, splits.classes)
    mix = balance.balance(pool, splits.classes)
    groups = {
        name: balance.group_balance(pool, each, splits.classes)
        for name, each in splits.groups.items()
    }
    figures["balance"] = {"classes": mix, "groups": groups}
    findings["balance"] = saying.of_balance(mix, groups)
    return Audit(splits.name, _facts(splits, pool, fingerprints), figures, findings)


def _facts(splits: Splits, pool: Pool, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    return {
        "splits": pool.sizes(),
        "shape": list(splits.example_shape),
        "stored": str(pool.read(torch.zeros(1).long()).dtype).removeprefix("torch."),
        "classes": list(splits.classes),
        "groups": {name: list(each.names) for name, each in splits.groups.items()},
        "fingerprints": dict(fingerprints),
        "origin": dict(splits.origin),
    }


def _named(pool: Pool, places: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        what: {"count": len(found), "examples": [pool.call(p) for p in found[:_KEPT].tolist()]}
        for what, found in places.items()
    }


def _duplicates(pool: Pool, same: duplicates.Pairs, near: duplicates.Near) -> dict[str, Any]:
    def listed(pairs: duplicates.Pairs) -> list[dict[str, Any]]:
        return [
            {
                "one": pool.call(one),
                "other": pool.call(other),
                "same_label": bool(pool.targets[one] == pool.targets[other]),
                "ratio": round(ratio, 4),
            }
            for one, other, ratio in zip(
                pairs.first[:_KEPT].tolist(),
                pairs.second[:_KEPT].tolist(),
                pairs.ratio[:_KEPT].tolist(),
                strict=True,
            )
        ]

    return {
        "exact": len(same),
        "near": len(near.pairs),
        "between": copies.crossings(same, near, pool),
        "dimension": near.dimension,
        "limit": near.limit,
        "near_left_out": near.why,
        "exact_pairs": listed(same),
        "near_pairs": listed(near.pairs),
    }


def _labels(pool: Pool, doubts: labels.Labels, classes: tuple[str, ...]) -> dict[str, Any]:
    if doubts.why is not None or doubts.noise is None:
        return {"left_out": doubts.why}
    second = doubts.second
    agrees = [None] * len(doubts.suspects) if second is None else second["agrees"]
    return {
        "looked_at": len(doubts.places),
        "accuracy": doubts.accuracy,
        "noise": {k: getattr(doubts.noise, k) for k in ("share", "low", "high")},
        "doubted": len(doubts.suspects),
        "cleanlab": None if second is None else {k: second[k] for k in ("flagged", "agreed")},
        "suspects": [
            {
                "example": pool.call(place),
                "label": classes[int(pool.targets[place])],
                "instead": classes[instead],
                "belief": round(belief, 6),
                "cleanlab_agrees": agreed,
            }
            for place, instead, belief, agreed in zip(
                doubts.suspects[:_KEPT].tolist(),
                doubts.instead[:_KEPT].tolist(),
                doubts.belief[:_KEPT].tolist(),
                agrees[:_KEPT],
                strict=True,
            )
        ],
    }


def _refuse_texts(splits: Splits) -> None:
    if isinstance(splits.train, TokenSet | PairSet):
        raise DataError(
            f"{splits.name} is text in which every token is predicted, and an audit looks at "
            "examples with classes: give images, tables or labelled sentences."
        )
