"""Work for several threads, its results as they come."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def abreast(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    lanes: int,
    halt: Callable[[], None],
) -> Iterator[Result]:
    """The result of ``work`` for each item, in any order.

    Items are taken as they are needed, so there may be any number of them. If one result is an
    error, or nobody takes results any more (Ctrl-C, a generator that is closed), the others are
    stopped and waited for; of those beside an error, what is there all the same is given before
    the error is raised.

    Args:
        work: Done in a thread.
        items: What on.
        lanes: Threads.
        halt: Makes work under way end soon.

    Example:
        >>> sorted(abreast(lambda n: n * n, range(5), 2, lambda: None))
        [0, 1, 4, 9, 16]
    """
    pool = ThreadPoolExecutor(lanes, thread_name_prefix="asking")
    waiting: set[Future[Result]] = set()
    queue, done = iter(items), False
    try:
        while True:
            # As many again as are under way: no lane waits for whoever takes the results.
            for item in islice(queue, 2 * lanes - len(waiting)):
                waiting.add(pool.submit(work, item))
            if not waiting:
                break
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            failed = next((one for one in ready if one.exception()), None)
            if failed:
                halt()
                for one in waiting:
                    one.cancel()
                ready |= wait(waiting).done
            # What was answered beside a failure may have been paid for: it is given first.
            for one in ready:
                if not one.cancelled() and not one.exception():
                    yield one.result()
            if failed:
                failed.result()
        done = True
    finally:
        if not done:
            halt()
        pool.shutdown(wait=True, cancel_futures=True)
