"""Slices of a text: who is in them, and what a student lost there."""

import pytest
import torch

from tutelage.evaluation.language.slices import (
    as_part,
    lost_by_slice,
    rare_tokens,
    slices_of,
    token_kinds,
)
from tutelage.evaluation.language.table import TokenTable

TEXTS = [b"", b" 42", b"7", b" The", b"ing", b"!", b" ==", b"\n", "é".encode(), b"\xc3", b"don't"]


def named(kinds, token):
    return {name for name, which in kinds.items() if which[token]}


@pytest.mark.parametrize(
    ("token", "kinds"),
    [
        (0, set()),
        (1, {"number"}),
        (2, {"number"}),
        (3, {"word"}),
        (4, {"inside a word"}),
        (5, {"punctuation"}),
        (6, {"code"}),
        (7, {"space"}),
        (8, {"inside a word", "other script"}),
        (9, {"other script"}),
        (10, set()),
    ],
)
def test_kinds(token, kinds):
    assert named(token_kinds(TEXTS), token) == kinds


def test_rare_tokens_are_the_rarest_that_fit_into_the_share():
    counts = torch.tensor([50, 1, 0, 30, 15, 4])
    assert rare_tokens(counts, 0.05).nonzero().flatten().tolist() == [1, 2, 5]
    assert rare_tokens(counts, 0.04).nonzero().flatten().tolist() == [1, 2]


def table(nll, targets):
    count = len(nll)
    flat = torch.zeros(count)
    rows = torch.arange(count) // 20
    return TokenTable(nll, flat > 1, flat, flat, targets, rows, torch.arange(count) % 20)


def test_the_loss_of_a_planted_kind_is_found():
    dice = torch.Generator().manual_seed(0)
    targets = torch.randint(1, 8, (2000,), generator=dice)
    teacher = torch.rand(2000, generator=dice).double() + 1
    student = teacher + 0.01 * torch.randn(2000, generator=dice).double()
    kinds = token_kinds(TEXTS)
    student[kinds["number"][targets]] += 0.5
    first, second = table(teacher, targets), table(student, targets)
    slices = slices_of(first, kinds, late=10)
    rows = lost_by_slice(first, second, slices)
    assert rows[0]["slice"] == "number"
    assert rows[0]["change"]["low"] > 0.49
    other = next(row for row in rows if row["slice"] == "code")
    assert other["change"]["low"] < 0.01 < 0.5
    assert {"early in a row", "late in a row"} <= {row["slice"] for row in rows}
    assert not [row for row in rows if row["tokens"] < 30]
    shown = as_part(rows)
    assert shown["rows"][0][0] == "number"
    assert len(shown["head"]) == len(shown["rows"][0])


def test_tokens_beyond_the_known_are_in_no_kind():
    known = table(torch.ones(3).double(), torch.tensor([3, 10, 99]))
    assert slices_of(known, token_kinds(TEXTS))["word"].tolist() == [True, False, False]
