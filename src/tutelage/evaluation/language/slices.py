"""What was lost where: by the kind of token, how rare it is, and where in the text it stands."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.evaluation.intervals import Interval
from tutelage.evaluation.language.figures import by_rows
from tutelage.evaluation.language.table import TokenTable

_FEWEST = 30  # tokens of a slice that says anything
_RARE = 0.05  # of the training text are the rarest tokens
_CODE = frozenset(b"{}[]<>=_\\/|;#@$%^&*+~`")


def token_kinds(texts: Sequence[bytes]) -> dict[str, Tensor]:
    """For each kind, which of V tokens are of it, ``(V,)`` of bool; a token may be of several.

    Kinds: ``number`` (digits, with or without a space before), ``word`` (begins one),
    ``inside a word``, ``punctuation``, ``code`` (signs of programs and markup), ``other script``
    (bytes beyond ASCII), ``space``.

    Args:
        texts: The bytes that each token stands for; empty for special ones, which are of no kind.

    Example:
        >>> kinds = token_kinds([b" 42", b" The", b"ing", b"!", b"=="])
        >>> {name: which.nonzero().flatten().tolist() for name, which in kinds.items()}["code"]
        [4]
    """
    found: dict[str, list[bool]] = {name: [] for name in _KINDS}
    for text in texts:
        for name, is_of in _KINDS.items():
            found[name].append(bool(text) and is_of(text))
    return {name: torch.tensor(which) for name, which in found.items()}


def rare_tokens(counts: Tensor, share: float = _RARE) -> Tensor:
    """The rarest tokens, which together make up ``share`` of a text, ``(V,)`` of bool.

    Args:
        counts: How often each came in the training text, ``(V,)``.
        share: From 0 to 1.

    Example:
        >>> rare_tokens(torch.tensor([90, 6, 3, 1]), 0.05).tolist()
        [False, False, True, True]
    """
    order = counts.argsort(stable=True)
    below = counts[order].cumsum(0) <= share * counts.sum()
    rare = torch.zeros(len(counts), dtype=torch.bool)
    rare[order[below]] = True
    return rare


def slices_of(
    table: TokenTable, kinds: Mapping[str, Tensor], *, late: int | None = None
) -> dict[str, Tensor]:
    """Which tokens of a table are in which slice, ``(M,)`` of bool each.

    Args:
        table: Of any model: the tokens are the same.
        kinds: Of the vocabulary, from `token_kinds` and `rare_tokens`.
        late: Positions from which a token counts as late in its row; none of that slice if None.
    """
    found = {}
    for name, which in kinds.items():
        known = table.targets < len(which)
        found[name] = known & which[table.targets.clamp(max=len(which) - 1)]
    if late is not None:
        found["early in a row"] = table.places < late
        found["late in a row"] = table.places >= late
    return found


def lost_by_slice(
    first: TokenTable, second: TokenTable, slices: Mapping[str, Tensor], *, seed: int = 0
) -> list[dict[str, Any]]:
    """For each slice: nats a token of both models, and the change with its interval.

    Intervals are at 95 % over all slices together (Bonferroni): the worst one was looked for.

    Args:
        first: The reference, usually the teacher.
        second: The student.
        slices: From `slices_of`; those of fewer than 30 tokens are left out.
        seed: Of the intervals.
    """
    kept = {name: which for name, which in slices.items() if int(which.sum()) >= _FEWEST}
    level = 1 - 0.05 / max(len(kept), 1)
    rows = []
    for name, which in kept.items():
        before, after = first.nll[which], second.nll[which]
        change: Interval = by_rows(after - before, first.rows[which], seed=seed, level=level)
        rows.append(
            {
                "slice": name,
                "tokens": int(which.sum()),
                "reference": before.mean().item(),
                "nll": after.mean().item(),
                "change": change.as_dict(),
            }
        )
    return sorted(rows, key=lambda row: -row["change"]["mean"])


def as_part(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The slices as a part of a `LanguageReport`."""
    shown = [
        [
            row["slice"],
            f"{row['tokens']:,}",
            f"{row['reference']:.3f}",
            f"{row['nll']:.3f}",
            f"{row['change']['mean']:+.3f} ({row['change']['low']:+.3f} to "
            f"{row['change']['high']:+.3f})".replace("-", "−"),
        ]
        for row in rows
    ]
    told = (
        "A loss hides in what is rare. Nats a token of each kind of token, the largest loss first; "
        "intervals hold for all rows together."
    )
    heads = ["Tokens", "How many", "Teacher", "Student", "Change"]
    return {"words": [told], "head": heads, "rows": shown, "slices": list(rows)}


def _letters(text: bytes) -> bool:
    return text.isalpha() or (not text.isascii() and text.decode("utf-8", "ignore").isalpha())


_KINDS: dict[str, Callable[[bytes], bool]] = {
    "number": lambda text: text.strip().isdigit(),
    "word": lambda text: text[:1] == b" " and _letters(text[1:]),
    "inside a word": lambda text: text[:1] != b" " and _letters(text),
    "punctuation": lambda text: bool(text.strip()) and not _word_like(text) and not _code(text),
    "code": lambda text: _code(text),
    "other script": lambda text: not text.isascii(),
    "space": lambda text: not text.strip(),
}


def _word_like(text: bytes) -> bool:
    return any(byte >= 128 or chr(byte).isalnum() for byte in text)


def _code(text: bytes) -> bool:
    return any(byte in _CODE for byte in text)
