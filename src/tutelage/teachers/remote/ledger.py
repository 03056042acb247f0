"""The books: what is reserved, what was spent, and whether more may be asked."""

import time
from collections.abc import Callable
from dataclasses import replace
from threading import Condition

from tutelage.teachers.remote.costs import Bill, Budget, Prices, Spent


class Ledger:
    """Lets questions through as long as their cost at most fits into the budget.

    Args:
        prices: For money; None for nothing.
        budget: None for no bound.
        clock: Seconds that only go forward.

    Example:
        >>> books = Ledger(Prices(1.0, 1.0), Budget(tokens=100))
        >>> books.reserve(40, 50)
        True
        >>> books.settle(40, 50, (40, 8))
        >>> books.reserve(40, 50), books.spent.tokens_written
        (False, 8)
    """

    def __init__(
        self,
        prices: Prices | None = None,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.prices, self.budget = prices or Prices(), budget or Budget()
        self._clock, self._turn = clock, Condition()
        self._spent = Bill(currency=self.prices.currency)
        self._before = Spent()  # in earlier runs
        self._reserved = (0, 0)
        self._open, self._since = 0, 0.0

    @property
    def spent(self) -> Bill:
        """What this run asked and paid up to now."""
        with self._turn:
            spent = self._spent
            return replace(
                spent,
                seconds=spent.seconds + (self._clock() - self._since if self._open else 0.0),
                money=self.prices.of(spent.tokens_read, spent.tokens_written),
            )

    def carry(self, before: Spent) -> None:
        """Count what earlier runs spent against the budget."""
        with self._turn:
            self._before = before

    def reserve(self, read: int, most: int) -> bool:
        """Whether a question of ``read`` tokens with an answer of at most ``most`` may be asked.

        It waits while questions under way may still turn out cheaper than they were reckoned.
        """
        with self._turn:
            while not self._fits(read, most, 1):
                if not self._open:
                    return False
                self._turn.wait()
            if not self._open:
                self._since = self._clock()
            self._open += 1
            self._reserved = (self._reserved[0] + read, self._reserved[1] + most)
            return True

    def settle(self, read: int, most: int, told: tuple[int, int] | None) -> None:
        """A question was answered: what the server told takes the place of what was reserved."""
        told_read, told_written = told or (read, most)
        with self._turn:
            self._release(read, most)
            self._spent = replace(
                self._spent,
                requests=self._spent.requests + 1,
                reckoned=self._spent.reckoned + (told is None),
                tokens_read=self._spent.tokens_read + told_read,
                tokens_written=self._spent.tokens_written + told_written,
            )

    def fail(self, read: int, most: int) -> None:
        """A question got no answer."""
        with self._turn:
            self._release(read, most)
            self._spent = replace(self._spent, failed=self._spent.failed + 1)

    def tried(self) -> None:
        """The server is asked once more."""
        with self._turn:
            self._spent = replace(self._spent, tries=self._spent.tries + 1)

    def unsure(self, read: int, most: int) -> bool:
        """A try was cut off after it was sent: it counts as if it had been answered in full.

        Says whether another try still fits.
        """
        with self._turn:
            self._spent = replace(
                self._spent,
                unsure=self._spent.unsure + read + most,
                money_unsure=self._spent.money_unsure + self.prices.of(read, most),
            )
            return self._fits(0, 0, 0)

    def kept(self) -> None:
        """An answer was there already."""
        with self._turn:
            self._spent = replace(self._spent, kept=self._spent.kept + 1)

    def _release(self, read: int, most: int) -> None:
        self._reserved = (self._reserved[0] - read, self._reserved[1] - most)
        self._open -= 1
        if not self._open:
            self._spent = replace(
                self._spent, seconds=self._spent.seconds + self._clock() - self._since
            )
        self._turn.notify_all()

    def _fits(self, read: int, most: int, more: int) -> bool:
        spent, before = self._spent, self._before
        requests = before.requests + spent.requests + self._open + more
        reads = before.tokens_read + spent.tokens_read + self._reserved[0] + read
        writes = before.tokens_written + spent.tokens_written + self._reserved[1] + most
        money = self.prices.of(reads, writes) + spent.money_unsure
        return not self.budget.passed(requests, reads + writes + spent.unsure, money)
