"""Where negative flips gather: classes and groups, each with the same of a student alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage.evaluation.intervals import mcnemar, wilson
from tutelage.evaluation.regressions.flips import Flips
from tutelage.evaluation.regressions.luck import Luck, beyond_luck
from tutelage.evaluation.standing.figures import Subset, ends
from tutelage.evaluation.standing.several import holm, largest, strictly


def damage(
    subsets: Sequence[Subset],
    student: Flips,
    baseline: Flips | None,
    known: Luck | None,
    *,
    level: float,
) -> list[dict[str, Any]]:
    """Flips in each subset, and whether they can be chance.

    Two tests a subset, each allowing for all subsets (`holm`): whether more became wrong than
    right beyond the luck of examples (McNemar's exact test: ``worse``), and whether the student is
    worse there than trainings of the student alone, beyond the luck of training (``beyond``, see
    `luck`). The second tells damage from what any network of this size and data may do.

    Args:
        subsets: Classes or groups.
        student: Flips on replacing the teacher by the student.
        baseline: On replacing it by the student alone; None where there is none.
        known: What independent trainings show; None where there is none.
        level: Confidence.
    """
    rows = []
    now = student.before & ~student.negative | student.positive
    chances = beyond_luck(known, now, [subset.rows for subset in subsets])
    for place, subset in enumerate(subsets):
        negative = student.negative[subset.rows]
        positive, many = student.positive[subset.rows], len(subset.rows)
        rows.append(
            {
                "name": subset.name,
                "examples": many,
                "negative": int(negative.sum()),
                "positive": int(positive.sum()),
                "share": ends(wilson(int(negative.sum()), many, level=level)),
                "p": mcnemar(negative, positive).p,
                "baseline": None if baseline is None else int(baseline.negative[subset.rows].sum()),
                "p_luck": chances[place] if chances else None,
            }
        )
    return _judged(rows, 1 - level)


def worst(rows: Sequence[Mapping[str, Any]], *, level: float) -> dict[str, Any] | None:
    """The largest share of negative flips in any subset, with its range: see `largest`."""
    if not rows:
        return None
    counts = [(row["negative"], row["examples"]) for row in rows]
    found = largest(
        *(
            [wilson(*count, level=at) for count in counts]
            for at in (level, strictly(level, len(rows)))
        )
    )
    row = max(rows, key=lambda row: float(row["share"]["mean"]))
    return {
        "name": row["name"],
        **found.as_dict(),
        "examples": row["examples"],
        "of": f"test examples of {row['name']}",
    }


def surest(student: Flips, teacher: Any, answers: Any, most: int) -> list[dict[str, Any]]:
    """The negative flips of which the student is surest: the first that somebody should look at.

    Args:
        student: The flips.
        teacher: The teacher's answers (`Predictions`).
        answers: The student's.
        most: How many.
    """
    rows = student.negative.nonzero()[:, 0]
    shares = answers.logits.double().softmax(-1)
    said = shares.argmax(-1)
    known = teacher.logits.double().softmax(-1).amax(-1)
    order = torch.argsort(shares.amax(-1)[rows], descending=True, stable=True)[:most]
    return [
        {
            "id": int(answers.ids[row]),
            "true": answers.classes[int(answers.targets[row])],
            "answered": answers.classes[int(said[row])],
            "student_sure": shares[row].max().item(),
            "teacher_sure": known[row].item(),
        }
        for row in rows[order].tolist()
    ]


def _judged(rows: list[dict[str, Any]], alpha: float) -> list[dict[str, Any]]:
    examples = holm([row["p"] for row in rows])
    known = [row["p_luck"] for row in rows if row["p_luck"] is not None]
    training = holm(known) if known else [None] * len(rows)
    for row, p, q in zip(rows, examples, training, strict=True):
        row["p"], row["p_luck"] = p, q
        row["worse"] = p < alpha and row["negative"] > row["positive"]
        row["beyond"] = None if q is None else q < alpha
    return rows
