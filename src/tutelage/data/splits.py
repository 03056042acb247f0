"""Train, validation and test: made once, kept apart, and the test opened once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.data.groups import Groups
from tutelage.data.sets import Examples
from tutelage.data.stratify import amount, even, pick, proportional


class Sealed:
    """A test set behind a guard: it opens once, and remembers what for.

    Whatever was chosen by looking at the test set was trained on it. So training and selection
    never see it: the report opens it, for all its models together.

    Example:
        >>> from tutelage.data import TensorSet
        >>> test = Sealed(TensorSet(torch.zeros(2, 3), name="test"))
        >>> len(test.open("the report")), test.opened
        (2, 'the report')
    """

    def __init__(self, examples: Examples):
        self._examples = examples
        self.opened: str | None = None

    def __len__(self) -> int:
        return len(self._examples)

    def open(self, purpose: str) -> Examples:
        """The set, for ``purpose``; a second opening is refused."""
        if self.opened is not None:
            raise DataError(
                f"the test set was already opened for {self.opened!r}, and now {purpose!r} asks "
                "for it: select on validation, and keep what the first opening returned."
            )
        self.opened = purpose
        return self._examples

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the set; this does not open it."""
        return self._examples.fingerprint()

    def holds(self, ids: Tensor) -> Tensor:
        """Which of ``ids`` are in the test set ``(N,)`` of bool; this does not open it."""
        return torch.isin(ids, self._examples.ids)

    def __repr__(self) -> str:
        return f"Sealed({len(self)} examples, opened={self.opened!r})"


@dataclass(frozen=True)
class Splits:
    """A data set, split.

    Attributes:
        train: What students learn from.
        validation: What choices are made on: learning rates, best epochs.
        test: What the report is made on, sealed until then.
        name: Name of the data set.
        classes: Names of the classes, in the order of their numbers.
        origin: Where it came from, as plain data: paths, checksums, statistics.
        groups: Ways to part the examples of all splits, by name.
        stored: What was done to stored examples, as plain data, so that a package can tell how to
            treat new ones: ``columns`` of a table (`tutelage.data.columns.Column.stated`), or
            ``treatment``, a sentence; empty where the source does not say.
    """

    train: Examples
    validation: Examples
    test: Sealed
    name: str
    classes: tuple[str, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Groups] = field(default_factory=dict)
    stored: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for first, second, shared in (
            ("train", "validation", torch.isin(self.validation.ids, self.train.ids)),
            ("train", "test", self.test.holds(self.train.ids)),
            ("validation", "test", self.test.holds(self.validation.ids)),
        ):
            if bool(shared.any()):
                raise DataError(
                    f"{first} and {second} of {self.name} share {int(shared.sum())} example ids: "
                    "an example belongs to one split."
                )

    @property
    def example_shape(self) -> tuple[int, ...]:
        """Shape of one example, ``(C, H, W)`` or ``(D,)``."""
        return self.train.example_shape

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 (hex) of each split."""
        return {
            "train": self.train.fingerprint(),
            "validation": self.validation.fingerprint(),
            "test": self.test.fingerprint(),
        }

    def unlabelled(self, labels: int, seed: int = 0) -> "Splits":
        """The same splits where only ``labels`` training examples keep their label.

        The kept ones are shared out evenly over the classes; all others get target -1. Validation
        and test stay as they are, and the test seal is the same one.

        Args:
            labels: How many labels to keep, at least one a class.
            seed: Which ones: the same seed keeps the same ones.

        Raises:
            DataError: Fewer labels than classes, or more than there are.
        """
        targets = self.train.targets
        if targets is None:
            raise DataError(f"{self.name} has no labels in train: there are none to keep.")
        if targets.ndim > 1:
            raise DataError(
                f"{self.name} has no classes: its targets are the tokens that follow, and all of "
                "them are known; leave labels out."
            )
        sizes = torch.bincount(targets[targets >= 0], minlength=len(self.classes))
        if not len(self.classes) <= labels <= int(sizes.sum()):
            raise DataError(
                f"labels is {labels}, expected {len(self.classes)} (one a class) to "
                f"{int(sizes.sum())} (all labelled training examples of {self.name})."
            )
        among = uniform(derive(seed, "labels", "classes"), torch.arange(len(sizes)))[:, 0]
        numbers = uniform(derive(seed, "labels", "examples"), self.train.ids)[:, 0]
        kept = pick(targets, even(sizes, labels, among), numbers)
        hidden = torch.full_like(targets, -1)
        hidden[kept] = targets[kept]
        origin = {**self.origin, "labels": labels, "labels_seed": seed}
        return replace(self, train=self.train.with_targets(hidden), origin=origin)


def labelled(examples: Examples) -> Examples:
    """The sub-set of ``examples`` that has labels (a target that is not negative)."""
    targets = examples.targets
    if targets is None or not bool((targets >= 0).any()):
        raise DataError(f"{examples.name} has no labelled example.")
    return examples.take((targets >= 0).reshape(len(examples), -1).any(1).nonzero().flatten())


def divide(examples: Examples, asked: float, what: str, seed: int) -> tuple[Examples, Examples]:
    """Take ``asked`` examples (a count, or a fraction) out for ``what``, stratified by class.

    Only labelled examples are taken, where there are labels.

    Returns:
        What was taken out, and the rest.
    """
    targets = examples.targets
    strata = torch.zeros(len(examples), dtype=torch.long) if targets is None else targets
    known = strata[strata >= 0]
    count = amount(asked, len(known), f"{what} of {examples.name}")
    sizes = torch.bincount(known)
    quota = proportional(sizes, count, f"{what} of {examples.name}")
    numbers = uniform(derive(seed, "split", what), examples.ids)[:, 0]
    rows = pick(strata, quota, numbers)
    rest = torch.ones(len(examples), dtype=torch.bool)
    rest[rows] = False
    return examples.take(rows), examples.take(rest.nonzero().flatten())


def split_up(
    sets: dict[str, Examples],
    validation: float | None,
    test: float | None,
    seed: int,
    *,
    name: str,
    origin: dict[str, object],
) -> Splits:
    """Splits of the sets there are; those that are missing are taken out of train.

    Args:
        sets: By "train", "validation", "test"; only train must be there.
        validation: A count or fraction; None for 0.1. Used where that set is missing.
        test: Likewise, taken out first.
        seed: Which examples are taken out.
        name: Name of the data set.
        origin: Where it came from.
    """
    train = sets["train"]
    _need_every_class(train)
    chosen = {split: examples for split, examples in sets.items() if split != "train"}
    amounts = {"test": test, "validation": validation}
    for split, asked in amounts.items():
        if split not in chosen:
            chosen[split], train = divide(train, 0.1 if asked is None else asked, split, seed)
        targets = chosen[split].targets
        if targets is not None and bool((targets < 0).any()):
            raise DataError(f"{chosen[split].name} has unlabelled examples: {split} needs labels.")
    held = Sealed(chosen["test"])
    return Splits(train, chosen["validation"], held, name, train.classes, origin)


def _need_every_class(examples: Examples) -> None:
    if examples.targets is None:
        return
    known = examples.targets[examples.targets >= 0]
    sizes = torch.bincount(known, minlength=len(examples.classes))
    missing = [examples.classes[i] for i in (sizes == 0).nonzero().flatten().tolist()]
    if missing:
        raise DataError(
            f"{examples.name} has no example of {_few(missing)}: a class needs examples; "
            "remove the class, or bring some."
        )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"class {', '.join(map(repr, names[:8]))}{more}"
