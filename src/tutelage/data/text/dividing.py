"""Which texts go into which split, so that none of a text leaks from one into another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from tutelage.core.errors import DataError
from tutelage.core.seeds import derive, uniform
from tutelage.data.stratify import amount, pick

SHARE = 0.1
"""Of what there is, for a split that is missing and was not asked for in another size."""


@dataclass(frozen=True)
class Part:
    """A document, or a part of one.

    Attributes:
        text: The words.
        first: Whether the document begins here.
        last: Whether it ends here.
    """

    text: str
    first: bool = True
    last: bool = True


def by_documents(
    keys: Sequence[str], missing: Mapping[str, float | None], seed: int, name: str
) -> dict[str, list[int]]:
    """Whole documents for each missing split, chosen by the seed; all others are for train.

    Documents of the same key stay together, so a copy of a training text is never tested on.

    Args:
        keys: What tells documents apart: their text.
        missing: A count or fraction of the different ones for each split that is missing, in the
            order in which they are taken out; None for a tenth.
        seed: Which ones.
        name: What messages call the data.

    Returns:
        Document numbers, ascending, of train and of each of ``missing``.

    Example:
        >>> found = by_documents(list("abcdefghij"), {"test": 2, "validation": None}, 0, "texts")
        >>> {split: len(chosen) for split, chosen in found.items()}
        {'test': 2, 'validation': 1, 'train': 7}
    """
    kinds = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    groups = torch.tensor([kinds[key] for key in keys])
    left = torch.arange(len(kinds))
    chosen: dict[str, list[int]] = {}
    for split, asked in missing.items():
        what = f"{split} of {name}"
        count = amount(SHARE if asked is None else asked, len(left), what)
        numbers = uniform(derive(seed, "split", split), left)[:, 0]
        picked = pick(torch.zeros(len(left), dtype=torch.long), torch.tensor([count]), numbers)
        taken = torch.isin(groups, left[picked])
        chosen[split] = taken.nonzero().flatten().tolist()
        rest = torch.ones(len(left), dtype=torch.bool)
        rest[picked] = False
        left = left[rest]
    chosen["train"] = torch.isin(groups, left).nonzero().flatten().tolist()
    return chosen


def by_blocks(
    texts: Sequence[str], missing: Mapping[str, float | None], name: str
) -> dict[str, list[Part]]:
    """The end of the text for each missing split, one block each; what is before is for train.

    Args:
        texts: The documents, in their order.
        missing: A number or fraction of characters for each split that is missing, the last block
            first; None for a tenth. A block begins after a line end, or else a space, near there.
        name: What messages call the data.

    Returns:
        Parts of train and of each of ``missing``.

    Example:
        >>> found = by_blocks(["one two three four"], {"test": 4}, "text")
        >>> [(split, part.text, part.first, part.last) for split, (part,) in found.items()]
        [('test', 'four', False, True), ('train', 'one two three ', True, False)]
    """
    whole, chosen = list(map(Part, texts)), {}
    for split, asked in missing.items():
        total = sum(len(part.text) for part in whole)
        count = amount(SHARE if asked is None else asked, total, f"{split} of {name} (characters)")
        whole, chosen[split] = _cut(whole, total - count)
    chosen["train"] = whole
    for split, parts in chosen.items():
        if not any(part.text.strip() for part in parts):
            raise DataError(f"{split} of {name} would have no text: ask for another share.")
    return chosen


def _cut(parts: Sequence[Part], at: int) -> tuple[list[Part], list[Part]]:
    """The parts before and behind character ``at``, moved to a place where words end."""
    before: list[Part] = []
    for index, part in enumerate(parts):
        if at < len(part.text):
            place = _near(part.text, at)
            left = Part(part.text[:place], part.first, False)
            right = Part(part.text[place:], False, part.last)
            halves = [half for half in (left, right) if half.text]
            if len(halves) == 1:
                halves = [part]
            if place:
                return [*before, halves[0]], [*halves[1:], *parts[index + 1 :]]
            return before, [part, *parts[index + 1 :]]
        before.append(part)
        at -= len(part.text)
    return before, []


def _near(text: str, at: int) -> int:
    """A place near ``at`` and behind a line end, or else a space: after it, or else before."""
    if at == 0:
        return 0
    window = max(200, (len(text) - at) // 2)
    for mark in ("\n", " "):
        after = text.find(mark, at - 1, min(at + window, len(text) - 1))
        before = text.rfind(mark, max(0, at - window), at)
        if after >= 0 or before >= 0:
            return (after if after >= 0 else before) + 1
    return at
