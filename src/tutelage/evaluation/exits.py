"""Thresholds of exits under a budget: what accuracy each cost can buy, on validation data."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.evaluation.costs.latency import Effort, torch_latency
from tutelage.evaluation.costs.macs import macs
from tutelage.evaluation.policy import ExitPolicy, certainty, early
from tutelage.evaluation.predict import Examples, evaluating
from tutelage.models.exits import exits_of, with_exits
from tutelage.models.observed import Observed

_MOST = 1_000_000  # combinations of thresholds that are compared


def choose_thresholds(
    exits: Sequence[Tensor],
    targets: Tensor,
    costs: Sequence[float],
    budget: float,
    *,
    measure: str = "max_softmax",
    quantiles: int | None = None,
    unit: str = "macs",
) -> ExitPolicy:
    """The thresholds with the best accuracy among those whose mean cost is within the budget.

    Every combination of thresholds at quantiles of each exit's certainty is compared (0 and None
    included), so the choice is the best one of them; among equals the cheapest. Give validation
    data, never test data. MSDNet (arXiv:1703.09844) fixes the shares that leave by one number
    instead.

    Args:
        exits: Logits ``(N, C)`` of each of K exits, the last one's last.
        targets: Class numbers ``(N,)``.
        costs: Of one example that leaves at each exit; see `exit_costs`.
        budget: The largest mean cost of an example, at least the first exit's.
        measure: Of `certainty`.
        quantiles: Thresholds that are tried at an exit; as many as make a million combinations
            where left out, at most 100.
        unit: Of costs and budget.

    Returns:
        The policy, with what it costs and reaches on this data.

    Raises:
        DataError: The budget is below the first exit's cost; shapes or options do not fit.

    Example:
        >>> first, last = torch.tensor([[4.0, 0.0], [0.0, 1.0]]), torch.tensor([[4.0, 0.0]] * 2)
        >>> policy = choose_thresholds([first, last], torch.tensor([0, 0]), [1.0, 3.0], 2.0)
        >>> policy.expected, policy.accuracy
        (2.0, 1.0)
    """
    found = exit_curve(exits, targets, costs, measure=measure, quantiles=quantiles, unit=unit)
    cheapest = min(policy.expected or 0.0 for policy in found)
    if not (isinstance(budget, (int, float)) and cheapest <= budget):
        raise DataError(
            f"the budget is {budget!r} {unit} an example, and the first exit alone takes "
            f"{cheapest:g}: allow at least that."
        )
    return [policy for policy in found if (policy.expected or 0.0) <= budget][-1]


def exit_curve(
    exits: Sequence[Tensor],
    targets: Tensor,
    costs: Sequence[float],
    *,
    measure: str = "max_softmax",
    quantiles: int | None = None,
    unit: str = "macs",
) -> list[ExitPolicy]:
    """All policies that no other beats: accuracy against mean cost, cheapest first.

    Args and errors are those of `choose_thresholds`.
    """
    ExitPolicy((None,) * (len(exits) - 1), tuple(costs), measure, unit)  # refuses what is wrong
    _check(exits, targets)
    ways = len(exits) - 1
    tried = quantiles or min(100, max(2, int(_MOST ** (1 / max(ways, 1))) - 2))
    grids = [_candidates(certainty(logits, measure), tried) for logits in exits[:-1]]
    size = math.prod(len(grid) for grid in grids)
    if size > 4 * _MOST:
        raise DataError(
            f"{ways} exits with {tried} thresholds each are {size:,} combinations: give quantiles, "
            "a smaller number."
        )
    right = torch.stack([logits.argmax(-1) == targets for logits in exits]).double()
    cost, hits = _outcomes(exits, grids, right, costs, measure)
    order = _order(cost, hits)
    most = hits[order].cummax(0).values
    better = torch.cat([torch.ones(1).bool(), most[1:] > most[:-1]])
    chosen = order[better].tolist()
    shape = [len(grid) for grid in grids]
    total = len(targets)
    return [
        ExitPolicy(
            tuple(grid[i] for grid, i in zip(grids, _unravel(place, shape), strict=True)),
            tuple(float(each) for each in costs),
            measure,
            unit,
            float(cost[place]) / total,
            float(hits[place]) / total,
        )
        for place in chosen
    ]


def exit_logits(model: Observed, examples: Examples, batch_size: int = 512) -> list[Tensor]:
    """Logits ``(N, C)`` of every exit on a whole data set, in order, on the CPU.

    Args:
        model: A `tutelage.models.WithExits`, observed; its taps stay as they are.
        examples: The data set.
        batch_size: Examples answered at once.
    """
    with_exits(model)
    before, parts = model.taps, []
    place = next(model.parameters()).device
    model.tap(with_exits(model).names)
    try:
        with evaluating(model), torch.no_grad():
            for rows in torch.split(torch.arange(len(examples)), batch_size):
                batch = examples.batch(rows).to(place)
                parts.append([logits.cpu() for logits in exits_of(model, model(batch))])
    finally:
        model.release()
        model.tap(before)
    return [torch.cat(logits) for logits in zip(*parts, strict=True)]


def exit_costs(model: Observed, example: Batch) -> list[int]:
    """Multiply-accumulates of one example that leaves at each exit, heads on the way included.

    Args:
        model: A `tutelage.models.WithExits`, observed.
        example: At least one example; the first is used.
    """
    with evaluating(model):
        return [
            macs(lambda batch, to=policy: early(model, batch, to)[0], example)  # type: ignore[misc]
            for policy in _each_exit(model)
        ]


def exit_times(
    model: Observed, example: Batch, *, threads: int = 1, effort: Effort | None = None
) -> list[float]:
    """Median milliseconds of one example that leaves at each exit, measured in turns, in PyTorch.

    For a budget in time: ``choose_thresholds(..., costs=exit_times(...), budget=5.0, unit="ms")``.
    It holds where it was measured; a later exit that measures faster than one before it (noise,
    on a very small network) is given that one's time.

    Args:
        model: A `tutelage.models.WithExits`, observed.
        example: At least one example; the first is used.
        threads: How many it may use.
        effort: How long and how often.
    """
    leaving = {
        f"{number}": lambda batch, to=policy: early(model, batch, to)[0]
        for number, policy in enumerate(_each_exit(model))
    }
    with evaluating(model):
        found = torch_latency(leaving, example[:1], threads=threads, effort=effort)
    return list(accumulate((found[name].p50 for name in leaving), max))


def _each_exit(model: Observed) -> list[ExitPolicy]:
    """For each exit, the policy by which everybody leaves there."""
    ways = len(with_exits(model).names)
    return [
        ExitPolicy(
            tuple(0.0 if number == last else None for number in range(ways)), (0.0,) * (ways + 1)
        )
        for last in range(ways + 1)
    ]


def _candidates(sure: Tensor, tried: int) -> list[float | None]:
    """Thresholds between certainties that were seen: everybody, ``tried`` quantiles, nobody."""
    values = torch.unique(sure).tolist()  # sorted
    between = [(low + high) / 2 for low, high in pairwise(values)]
    # Halfway, so that rounding in another batch size moves nobody across.
    if len(between) > tried:
        at = sure.sort().values.tolist()
        wanted = {round(place * (len(at) - 1) / (tried + 1)) for place in range(1, tried + 1)}
        above = {at[place] for place in wanted}
        between = [mid for mid, high in zip(between, values[1:], strict=True) if high in above]
    return [0.0, *between, None]


def _outcomes(
    exits: Sequence[Tensor],
    grids: Sequence[Sequence[float | None]],
    right: Tensor,
    costs: Sequence[float],
    measure: str,
) -> tuple[Tensor, Tensor]:
    """Summed cost and right answers of every combination, flat, in the order of the grids.

    An example is still there behind exit k with the thresholds numbered (i_0, ..., i_k) if its
    certainty at each exit j reaches at most i_j of them: a cumulative count over a histogram.
    """
    total, shape = right.shape[1], [len(grid) for grid in grids]
    before, before_right = torch.tensor(float(total)).double(), right.sum(1)
    bins = torch.zeros(total, dtype=torch.int64)
    cost = hits = torch.zeros((), dtype=torch.float64)
    for number, grid in enumerate(grids):
        edges = torch.tensor([t for t in grid if t is not None], dtype=torch.float64)
        reached = torch.searchsorted(edges, certainty(exits[number], measure), right=True)
        bins = bins * len(grid) + reached
        cells, kept = math.prod(shape[: number + 1]), shape[: number + 1]
        still = _cumulated(torch.bincount(bins, minlength=cells).double().view(kept))
        still_right = torch.stack(
            [_cumulated(torch.bincount(bins, each, cells).view(kept)) for each in right]
        )
        left = before.unsqueeze(-1) - still
        cost = cost.unsqueeze(-1) + costs[number] * left
        hits = hits.unsqueeze(-1) + before_right[number].unsqueeze(-1) - still_right[number]
        before, before_right = still, still_right
    cost, hits = cost + costs[-1] * before, hits + before_right[-1]
    return cost.flatten(), hits.flatten()


def _cumulated(counts: Tensor) -> Tensor:
    for axis in range(counts.ndim):
        counts = counts.cumsum(axis)
    return counts


def _order(cost: Tensor, hits: Tensor) -> Tensor:
    """By cost; of equal cost the one with most hits first."""
    by_hits = hits.argsort(descending=True, stable=True)
    return by_hits[cost[by_hits].argsort(stable=True)]


def _unravel(place: int, shape: Sequence[int]) -> list[int]:
    found = []
    for size in reversed(shape):
        place, index = divmod(place, size)
        found.append(index)
    return found[::-1]


def _check(exits: Sequence[Tensor], targets: Tensor) -> None:
    shapes = {tuple(logits.shape) for logits in exits}
    if len(shapes) != 1 or exits[0].ndim != 2 or len(exits[0]) == 0:
        raise DataError(f"exits must answer the same examples (N, C), got {sorted(shapes)}.")
    if (
        targets.shape != (len(exits[0]),)
        or targets.is_floating_point()
        or bool((targets < 0).any())
    ):
        raise DataError(
            f"thresholds are chosen on labelled examples: {len(exits[0])} class numbers are "
            f"needed, got {tuple(targets.shape)}, or some are unlabelled."
        )
