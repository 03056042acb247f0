"""Signs that a model hides its gradients instead of being robust.

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security" (arXiv
1802.00420, section 3.1): one step beats many, an attack without gradients beats one with them,
an attack without a bound does not succeed; and what follows from these: gradients that are
exactly 0, and a strong attack that finds far more than PGD. Each sign rests on a test or on the
end of an interval, after allowing for how many are looked for.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.evaluation.intervals import mcnemar, newcombe, wilson

FREE = 0.05
"""Share of examples that may withstand an attack without bound, or have no gradient."""
GAP = 0.15
"""Share of examples that a strong attack may find beyond PGD: robustly trained networks lose
about that much (their cross-entropy is harder to climb), gradient masking loses far more."""


def signs(
    weak: Mapping[str, Tensor],
    pgd: Tensor,
    strong: Mapping[str, Tensor],
    unbounded: Tensor,
    flat: Tensor,
    clean: Tensor,
    *,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """What hints at hidden gradients; empty where nothing does.

    Args:
        weak: Who is robust to attacks that PGD must beat, ``(N,)`` of bool each, by name.
        pgd: Who is robust to PGD on the cross-entropy.
        strong: Who is robust to attacks that find what PGD overlooks, by name.
        unbounded: Who is robust to PGD that may change every pixel as it likes.
        flat: On whom PGD fails because the gradient is exactly 0. (Not all whose gradient is: one
            that is very sure may be robust, and an attack on the margin can show it.)
        clean: Who is right without attack.
        level: Confidence in all signs together.

    Returns:
        For each sign ``kind`` (``weak``, ``strong``, ``unbounded``, ``flat``), ``attack`` (its
        name, or empty), ``more`` (examples that this attack breaks and PGD does not), ``less``
        (the reverse), ``of`` (examples) and ``share``, the figure it rests on.

    Raises:
        DataError: Lengths differ.
    """
    every = [*weak.values(), pgd, *strong.values(), unbounded, flat, clean]
    if len({len(one) for one in every}) != 1 or len(pgd) == 0:
        raise DataError(f"flags of {[len(one) for one in every]} examples: all must be equal.")
    apart = 1 - (1 - level) / (len(weak) + len(strong) + 2)
    found = [sign for name, one in weak.items() if (sign := _weak(name, one, pgd, apart))]
    found += [sign for name, one in strong.items() if (sign := _strong(name, one, pgd, apart))]
    asked = int(clean.sum())
    if asked:
        for kind, held in (("unbounded", unbounded & clean), ("flat", flat & clean)):
            many = int(held.sum())
            if wilson(many, asked, level=apart).low > FREE:
                found.append(_sign(kind, "", many, 0, asked, many / asked))
    return found


def _weak(name: str, weak: Tensor, pgd: Tensor, level: float) -> dict[str, Any] | None:
    test = mcnemar(weak, pgd)
    more, less = test.only_second, test.only_first  # robust to PGD alone: this one broke them
    if more <= less or test.p >= 1 - level:
        return None
    return _sign("weak", name, more, less, len(pgd), (more - less) / len(pgd))


def _strong(name: str, strong: Tensor, pgd: Tensor, level: float) -> dict[str, Any] | None:
    both, neither = int((pgd & strong).sum()), int((~pgd & ~strong).sum())
    more, less = int((pgd & ~strong).sum()), int((~pgd & strong).sum())
    if newcombe(both, more, less, neither, level=level).low <= GAP:
        return None
    return _sign("strong", name, more, less, len(pgd), (more - less) / len(pgd))


def _sign(kind: str, attack: str, more: int, less: int, of: int, share: float) -> dict[str, Any]:
    return {"kind": kind, "attack": attack, "more": more, "less": less, "of": of, "share": share}
