"""No bin of scores has more items than another may have."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Request
from tutelage.synthesis.item import Item
from tutelage.synthesis.judge import EDGES, bin_of
from tutelage.synthesis.stage import Answers, Guess, Outcome, Place, Stock, at_least, drawn


@register("stage", "balance")
@dataclass(frozen=True)
class Balance:
    """At most as many items from each bin of scores; drawn by the seed, and never twice.

    A bin that has fewer stays smaller, and the report says by how many: rows are never doubled.

    Args:
        most: Items of one bin; None for as many as the smallest bin with any has.
        edges: Of the bins, going up; the last bin holds its top edge. None for 1, 4, 7, 10.
    """

    most: int | None = None
    edges: list[float] | None = None

    def __post_init__(self) -> None:
        if self.most is not None:
            at_least("most", self.most, 1)
        edges = self.edges or EDGES
        bin_of(edges[0], edges)

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """None."""
        return iter(())

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """Those that were drawn, in their order; items without a score or bin are dropped."""
        edges = self.edges or EDGES
        bins: defaultdict[int, list[int]] = defaultdict(list)
        dropped = []
        for number, item in enumerate(items):
            try:
                if item.score is None:
                    raise RecipeError("it has none.")
                bins[bin_of(item.score, edges)].append(number)
            except RecipeError as error:
                dropped.append(place.drop(item, "no score in any bin", str(error)))
        most = self.most or min(map(len, bins.values()), default=0)
        kept: set[int] = set()
        for number, members in bins.items():
            chosen = drawn(most, len(members), place.seed, place.stage, "bin", number)
            kept.update(members[i] for i in chosen)
            for member in sorted(set(members) - kept):
                why = f"bin {number} has {len(members)}, expected at most {most}"
                dropped.append(place.drop(items[member], "more than its bin may have", why))
        sizes = [len(bins[number]) for number in range(len(edges) - 1)]
        missing = [max(0, most - size) for size in sizes]
        report = {"edges": list(edges), "came": sizes, "most": most, "missing": missing}
        return Outcome([items[i] for i in sorted(kept)], dropped, report)

    def guess(self, stock: Stock) -> Guess:
        """Nothing is asked; nothing is known of how many stay."""
        return Guess(stock)
