"""What was read of the test text, once: by teacher, students and students alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.core.text import TextTokenizer
from tutelage.data import Examples
from tutelage.evaluation.language import Absent, TokenTable, read_tokens
from tutelage.evaluation.language.slices import (
    as_part,
    lost_by_slice,
    rare_tokens,
    slices_of,
    token_kinds,
)
from tutelage.evaluation.language.table import Beside
from tutelage.models import Observed
from tutelage.recipe.outcome import Arms
from tutelage.recipe.plan import Plan

_PAIRS = {role: ("teacher", role) for role in ("student", "baseline")}


@dataclass(frozen=True)
class Read:
    """What was read of the test text.

    Attributes:
        test: The text, opened.
        models: Who is measured beside the student, the teacher among them if it can be.
        tables: What each said.
        apart: How they differ from the teacher, token by token.
        parts: More of the comparison.
        absent: The teacher, where it is not measured.
    """

    test: Examples
    models: Mapping[str, Observed]
    tables: Mapping[str, TokenTable]
    apart: Mapping[str, Beside]
    parts: Mapping[str, Any]
    absent: Absent | None = None


def read_beside(arms: Arms, test: Examples) -> Read:
    """Teacher and students on the same tokens."""
    models = arms.shipped
    pairs = {role: pair for role, pair in _PAIRS.items() if role in models}
    tables, apart = read_tokens(models, test, pairs=pairs)
    return Read(test, models, tables, apart, _slices(arms.plan, tables, test))


def bytes_of(test: Examples, table: TokenTable) -> int | None:
    """Bytes of the tokens of a text that count."""
    sizes = torch.tensor([len(piece) for piece in _pieces(test)])
    return int(sizes[table.targets].sum()) if len(sizes) else None


def _pieces(test: Examples) -> list[bytes]:
    """The bytes that each token of a vocabulary stands for; empty where nobody knows."""
    tokenizer: TextTokenizer | None = getattr(test, "tokenizer", None)
    return [] if tokenizer is None else [*map(tokenizer.token_bytes, range(tokenizer.size))]


def _slices(made: Plan, tables: Mapping[str, TokenTable], test: Examples) -> dict[str, Any]:
    """What was lost where, against the teacher."""
    pieces = _pieces(test)
    if not pieces:
        return {}
    kinds = token_kinds(pieces)
    seen = made.splits.train.targets
    if seen is not None:
        counts = torch.bincount(seen[seen >= 0], minlength=len(pieces))
        kinds["rare in training"] = rare_tokens(counts)
    slices = slices_of(tables["teacher"], kinds, late=test.example_shape[0] // 2)
    rows = lost_by_slice(tables["teacher"], tables["student"], slices, seed=made.seeds[0])
    return {"Where it was lost": as_part(rows)}
