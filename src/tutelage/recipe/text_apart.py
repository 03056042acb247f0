"""A run on text whose teacher says nothing of the student's tokens, one by one.

A teacher with a tokenizer of its own predicts other tokens; one behind a server is not asked about
the test text. Nothing of either is compared token by token: figures would be wrong, or dear.
"""

import math
from collections.abc import Mapping
from typing import Any

from tutelage.data import Examples, Splits
from tutelage.deployment.language_card import AGAINST
from tutelage.evaluation.language import Absent, TokenTable, read_tokens
from tutelage.recipe.outcome import Arms
from tutelage.recipe.plan import Plan
from tutelage.recipe.text_read import Read, bytes_of

_OTHER_TOKENS = (
    "The teacher cuts the text into tokens of its own, so that nothing can be told token by token: "
    "no agreement, no divergence, and perplexities do not compare. Bits a byte do, each over the "
    "bytes that the model predicts."
)


def is_apart(made: Plan) -> bool:
    """Whether the plan's teacher cannot be held beside the student token by token."""
    return made.teacher.own is not None or made.teacher.server is not None


def read_apart(arms: Arms, test: Examples) -> Read:
    """Students on the test text; of a teacher with tokens of its own, bits a byte."""
    teacher = arms.plan.teacher
    models = {role: model for role, model in arms.shipped.items() if role != "teacher"}
    tables, _ = read_tokens(models, test)
    if teacher.own is None:
        why = (
            f"The teacher {teacher.shown} is behind a server and was not asked about the test "
            "text: what was lost against it is not known."
        )
        return Read(test, models, tables, {}, {}, Absent(teacher.shown, why))
    absent = Absent(teacher.shown, _OTHER_TOKENS)
    parts = {AGAINST: _bits(arms, teacher.own, tables, test)}
    return Read(test, models, tables, {}, parts, absent)


def _bits(
    arms: Arms, own: Splits, tables: Mapping[str, TokenTable], test: Examples
) -> dict[str, Any]:
    """Bits a byte of all, each over its own tokens."""
    theirs = own.test.open("the report")
    table = read_tokens({"teacher": arms.shipped["teacher"]}, theirs)[0]["teacher"]
    rows = {"teacher": (table, bytes_of(theirs, table))}
    rows |= {role: (each, bytes_of(test, each)) for role, each in tables.items()}
    return {
        "words": [_OTHER_TOKENS],
        "head": ["", "Bits a byte", "Bytes", "Tokens of its own", "Perplexity of these"],
        "rows": [[role, *_figures(each, size)] for role, (each, size) in rows.items()],
    }


def _figures(table: TokenTable, size: int | None) -> list[str]:
    nats = table.nll.sum().item()
    bits = "not known" if not size else f"{nats / (size * math.log(2)):.4f}"
    perplexity = math.exp(min(nats / len(table), 700.0))
    return [bits, f"{size or 0:,}", f"{len(table):,}", f"{perplexity:.3f}"]
