"""What a stage is: from items to requests, and from answers to items, without any memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tutelage.core.errors import RecipeError
from tutelage.core.seeds import derive
from tutelage.core.writing import Request, Written
from tutelage.synthesis.item import Dropped, Item, Step, digest

Answers = Mapping[str, Written]
"""Answers by the keys of their requests."""


@dataclass(frozen=True)
class Place:
    """Where a stage stands in a run.

    Attributes:
        stage: Its name there.
        seed: Of the run; every draw follows from it.
        writer: Who is asked.
        licence: A note on what the writer's words may be used for.
        day: Of this run, for steps that ask nobody.
        days: On which an answer came, by the request's key.
    """

    stage: str
    seed: int = 0
    writer: str = ""
    licence: str = ""
    day: str = ""
    days: Mapping[str, str] = field(default_factory=dict)

    def request(
        self,
        messages: Sequence[tuple[str, str]],
        parents: Sequence[Item],
        asked: "Asked",
        *,
        draw: int = 0,
    ) -> Request:
        """A request whose key and seed follow from the stage, its words and its parents.

        >>> place, asked = Place("answer"), Asked()
        >>> one = place.request([("user", "2 + 2?")], [Item("2 + 2?")], asked)
        >>> one.key == place.request([("user", "2 + 2?")], [Item("2 + 2?")], asked).key
        True
        """
        whose = [item.id for item in parents]
        seed = derive(self.seed, self.stage, *whose, draw) & 0x7FFFFFFF  # servers take 31 bits
        said = tuple((role, text) for role, text in messages)
        content = [self.stage, said, vars(asked), seed, whose, draw]
        key = f"{self.stage}-{digest(content)[:24]}"
        return Request(key, said, asked.most_tokens, asked.temperature, asked.top_p, seed)

    def step(self, answer: Written, parents: Sequence[Item]) -> Step:
        """What is noted of an answer."""
        return Step(
            stage=self.stage,
            date=self.days.get(answer.key, self.day),
            writer=self.writer,
            model=answer.model,
            request=answer.key,
            parents=tuple(item.id for item in parents),
            licence=self.licence,
        )

    def drop(self, item: Item, reason: str, why: str = "", request: str = "") -> Dropped:
        """An item that does not go on."""
        return Dropped(item, self.stage, reason, why, request)


@dataclass(frozen=True)
class Asked:
    """How a stage asks.

    Raises:
        RecipeError: A number is out of range.
    """

    most_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        at_least("most_tokens", self.most_tokens, 1)
        at_least("temperature", self.temperature, 0)
        if not 0 < self.top_p <= 1:
            raise RecipeError(f"top_p is {self.top_p}, expected a share above 0, at most 1.")


@dataclass(frozen=True)
class Outcome:
    """What a stage came to.

    Attributes:
        items: What goes on, in order.
        dropped: What does not, each with its reason.
        report: What else is worth telling, as plain data.
    """

    items: list[Item]
    dropped: list[Dropped] = field(default_factory=list)
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stock:
    """How much there is, for an estimate.

    Attributes:
        items: Their number.
        asked: Tokens of a question, on average.
        answered: Tokens of an answer with its reasoning, at most.
    """

    items: int
    asked: float
    answered: float = 0.0


@dataclass(frozen=True)
class Guess:
    """What a stage will ask at most.

    Attributes:
        after: What will be there then.
        requests: How many it sends.
        tokens_read: Of all of them.
        tokens_written: Of all answers, each as long as it may get.
    """

    after: Stock
    requests: int = 0
    tokens_read: int = 0
    tokens_written: int = 0


class Stage(Protocol):
    """One step of a pipeline; what it does follows from its arguments alone."""

    def requests(self, items: Sequence[Item], answers: Answers, place: Place) -> Iterator[Request]:
        """All that must be asked as far as the answers so far tell; asked again until all is there.

        Requests that were answered are named again: whoever runs the stage passes over them.
        """
        ...

    def outcome(self, items: Sequence[Item], answers: Answers, place: Place) -> Outcome:
        """What it comes to, with all answers there."""
        ...

    def guess(self, stock: Stock) -> Guess:
        """What it will ask at most."""
        ...


class Unusable(Exception):
    """An answer that cannot be used: the reason, and the particulars."""

    def __init__(self, reason: str, why: str = ""):
        super().__init__(reason, why)
        self.reason, self.why = reason, why


def usable(answer: Written) -> str:
    """The text of an answer that ended by itself.

    Raises:
        Unusable: The writer failed, was cut off, or said nothing.
    """
    if answer.finish == "error":
        raise Unusable("the writer failed", answer.error)
    if not answer.text.strip():
        raise Unusable("an empty answer")
    if answer.finish == "length":
        raise Unusable("a cut answer", f"{answer.tokens_written} tokens")
    return answer.text.strip()


def one_by_one(
    items: Sequence[Item],
    answers: Answers,
    place: Place,
    ask: Callable[[Item], Request | None],
    read: Callable[[Item, Written], Item],
) -> Outcome:
    """The outcome of a stage that asks once for each item.

    Args:
        items: All of them.
        answers: To what ``ask`` says.
        place: Where the stage stands.
        ask: The request of an item; None where it goes on as it is.
        read: Makes the item that goes on, or raises `Unusable`.
    """
    kept: list[Item] = []
    dropped: list[Dropped] = []
    for item in items:
        request = ask(item)
        if request is None:
            kept.append(item)
            continue
        try:
            kept.append(read(item, answers[request.key]))
        except Unusable as error:
            dropped.append(place.drop(item, error.reason, error.why, request.key))
    return Outcome(kept, dropped)


def at_least(name: str, value: float, least: float) -> None:
    """Refuse an option that is too small.

    Raises:
        RecipeError: It is, or it is not finite.
    """
    if not least <= value < float("inf"):
        raise RecipeError(f"{name} is {value}, expected at least {least}.")


def drawn(count: int, among: int, seed: int, *purpose: str | int) -> list[int]:
    """Different numbers below ``among``, a function of seed and purpose alone.

    >>> drawn(3, 10, 0, "examples", 1) == drawn(3, 10, 0, "examples", 1)
    True
    >>> sorted(drawn(4, 4, 0, "all"))
    [0, 1, 2, 3]
    """
    chosen: dict[int, None] = {}
    turn = 0
    while len(chosen) < min(count, among):
        chosen[derive(seed, *purpose, turn) % among] = None
        turn += 1
    return list(chosen)
