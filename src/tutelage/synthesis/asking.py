"""A stage's requests are sent, and its answers kept, until nothing is missing."""

from collections import ChainMap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tutelage.core.errors import DataError, ModelError
from tutelage.core.writing import Request, Writer, Written
from tutelage.synthesis.costs import Purse, Spent, cost_of, counted
from tutelage.synthesis.item import Item
from tutelage.synthesis.journal import Journal
from tutelage.synthesis.stage import Answers, Place, Stage


@dataclass(frozen=True)
class Asking:
    """What came of asking.

    Attributes:
        answers: By key, failures of this run among them.
        place: With the days on which answers came.
        spent: By this stage, in this run and before.
        sent: In this run.
        stopped: The bound that was reached; empty where all was asked.
    """

    answers: Answers
    place: Place
    spent: Spent
    sent: int = 0
    stopped: str = ""


def ask(
    stage: Stage,
    items: Sequence[Item],
    place: Place,
    journal: Journal,
    writer: Writer,
    purse: Purse,
    *,
    failures: float,
) -> Asking:
    """Ask all that a stage wants to know and the journal does not.

    Args:
        stage: Whose requests.
        items: That it works on.
        place: Where it stands.
        journal: Its answers so far; new ones are added as they come.
        writer: Who is asked.
        purse: Says when to stop.
        failures: Share of a stage's requests that may fail; of fewer than ten, one may.

    Raises:
        DataError: Two requests have one key, an answer belongs to none, or nothing can be kept.
        ModelError: Too many failed.
    """
    failed: dict[str, Written] = {}
    answers = ChainMap(failed, journal.answers)
    sent, known = 0, {}
    while True:
        known = _by_key(stage.requests(items, answers, place))
        missing = [request for key, request in known.items() if key not in answers]
        if not missing:
            break
        stopped = _send(missing, failed, place, journal, writer, purse)
        sent += sum(request.key in answers for request in missing)
        _bear(place.stage, failed, len(known), failures)
        if stopped:
            return Asking(answers, place, _spent(known, answers), sent, stopped)
    place = replace(place, days=journal.days)
    return Asking(answers, place, _spent(known, answers), sent)


def _send(
    missing: Sequence[Request],
    failed: dict[str, Written],
    place: Place,
    journal: Journal,
    writer: Writer,
    purse: Purse,
) -> str:
    """Send a round; the bound that stopped it, if one did."""
    under_way: dict[str, Request] = {}
    stopped = ""

    def sending() -> Iterator[Request]:
        nonlocal stopped
        for request in missing:
            stopped = purse.reserve(request)
            if stopped:
                return
            under_way[request.key] = request
            yield request

    def take(answer: Written) -> None:
        answer = counted(answer, under_way.pop(answer.key))
        journal.add(answer, place.day)
        purse.settle(answer)
        if answer.finish == "error":
            failed[answer.key] = answer

    for answer in writer.write(sending()):
        if answer.key not in under_way:
            raise DataError(f"{writer.name} answered {answer.key!r:.60}, which was not asked.")
        take(answer)
    for key in sorted(under_way):
        take(Written(key, "", "error", writer.name, error="no answer came"))
    return stopped


def _bear(stage: str, failed: dict[str, Written], asked: int, failures: float) -> None:
    if failed and (len(failed) == asked or len(failed) > max(1, failures * asked)):
        first = next(iter(failed.values())).error
        raise ModelError(
            f"{len(failed)} of {asked} requests of stage {stage!r} failed (the first: "
            f"{first or 'no reason given'}): mend it and run again with --resume, which asks "
            "those alone."
        )


def _by_key(requests: Iterator[Request]) -> dict[str, Request]:
    known: dict[str, Request] = {}
    for request in requests:
        if known.setdefault(request.key, request) is not request:
            raise DataError(f"two requests have the key {request.key!r}: a stage is wrong.")
    return known


def _spent(known: Iterable[str], answers: Answers) -> Spent:
    return sum((cost_of(answers[key]) for key in known if key in answers), Spent())
