"""What copies and near-copies mean, in words, within a split and between splits."""

import torch
from torch import Tensor

from tutelage.core.finding import Finding
from tutelage.data.audit.duplicates import Near, Pairs
from tutelage.data.audit.pool import SHOWN, SPLITS, Pool
from tutelage.data.audit.wording import are, examples, some, weight, worst_first

_CROSSING = (("train", "test"), ("train", "validation"), ("validation", "test"))


def crossings(copies: Pairs, near: Near, pool: Pool) -> dict[str, int]:
    """How many examples of the later split have a copy or near-copy in the earlier one."""
    return {f"{a} to {b}": len(_later(copies, near, pool, a, b)[0]) for a, b in _CROSSING}


def of_duplicates(copies: Pairs, near: Near, pool: Pool) -> tuple[Finding, ...]:
    """Of copies within splits and between them."""
    told = []
    sizes = pool.sizes()
    for earlier, later in _CROSSING:
        leaked, exact = _later(copies, near, pool, earlier, later)
        if not len(leaked):
            continue
        share = len(leaked) / sizes[later]
        effect = (
            f"an accuracy measured there can be up to {100 * share:.2g} points too high"
            if later == "test"
            else "choices made there lean on what was learnt by heart"
        )
        told.append(
            Finding(
                weight(len(leaked), sizes[later]),
                f"{len(leaked):,} of {sizes[later]:,} {later} examples ({100 * share:.2g} %) "
                f"{are(len(leaked))} in {earlier} too, {exact:,} exactly "
                f"and {len(leaked) - exact:,} nearly: "
                f"{effect}. Remove them from {earlier}: {some(pool.called(leaked), len(leaked))}.",
                _pairs(copies, near, pool, earlier, later),
            )
        )
    told += _inside(copies, near, pool) + _conflicts(copies, near, pool)
    if near.why is not None:
        told.append(Finding("notice", f"Near-copies were not looked for: {near.why}."))
    return worst_first(told) or (
        Finding("fine", "No example is a copy or near-copy of another, in any split."),
    )


def _later(copies: Pairs, near: Near, pool: Pool, earlier: str, later: str) -> tuple[Tensor, int]:
    """Positions in ``later`` with a copy in ``earlier``, and how many of them are exact."""
    a, b = SPLITS.index(earlier), SPLITS.index(later)

    def crossing(pairs: Pairs) -> Tensor:
        first, second = pool.split[pairs.first], pool.split[pairs.second]
        inside = (first == a) & (second == b)
        return pairs.second[inside]

    exactly = torch.unique(_closure(copies, pool, a, b))
    every = torch.unique(torch.cat([exactly, crossing(near.pairs)]))
    return every, len(exactly)


def _closure(copies: Pairs, pool: Pool, a: int, b: int) -> Tensor:
    """Positions in split ``b`` with an exact copy in split ``a``.

    Copies are paired with the first of their kind, which may be in a split before both.
    """
    if not len(copies):
        return copies.second
    heads = torch.cat([copies.first, copies.second])
    kind = torch.cat([copies.first, copies.first])
    inside = torch.unique(kind[pool.split[heads] == a])
    return heads[(pool.split[heads] == b) & torch.isin(kind, inside)]


def _inside(copies: Pairs, near: Near, pool: Pool) -> list[Finding]:
    told = []
    for number, split in enumerate(SPLITS):
        pairs = [
            each.second[(pool.split[each.first] == number) & (pool.split[each.second] == number)]
            for each in (copies, near.pairs)
        ]
        found = torch.unique(torch.cat(pairs))
        if len(found):
            told.append(
                Finding(
                    "notice",
                    f"{examples(len(found))} of {split} {are(len(found))} there again, exactly or "
                    f"nearly ({len(pairs[0]):,} and {len(pairs[1]):,} pairs): "
                    f"{some(pool.called(found), len(found))}.",
                    _pairs(copies, near, pool, split, split),
                )
            )
    return told


def _conflicts(copies: Pairs, near: Near, pool: Pool) -> list[Finding]:
    first = torch.cat([copies.first, near.pairs.first])
    second = torch.cat([copies.second, near.pairs.second])
    one, other = pool.targets[first], pool.targets[second]
    at = ((one != other) & (one >= 0) & (other >= 0)).nonzero().flatten()
    if not len(at):
        return []
    named = tuple(
        f"{pool.call(a)} = {pool.call(b)}"
        for a, b in zip(first[at][:SHOWN].tolist(), second[at][:SHOWN].tolist(), strict=True)
    )
    return [
        Finding(
            weight(len(at), len(pool)),
            f"Of the pairs of copies and near-copies, {len(at):,} {are(len(at))} labelled two "
            f"ways: one of the two is wrong, or the inputs cannot tell: {some(named, len(at))}.",
            named,
        )
    ]


def _pairs(copies: Pairs, near: Near, pool: Pool, a: str, b: str) -> tuple[str, ...]:
    named = []
    for pairs in (copies, near.pairs):
        first, second = pool.split[pairs.first], pool.split[pairs.second]
        at = ((first == SPLITS.index(a)) & (second == SPLITS.index(b))).nonzero().flatten()
        named += [
            f"{pool.call(int(pairs.first[i]))} = {pool.call(int(pairs.second[i]))}"
            for i in at[:SHOWN].tolist()
        ]
    return tuple(named[:SHOWN])
