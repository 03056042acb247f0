"""A whole synthesis as plain data."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Part of a plan: no key but those declared, no type but the one declared."""

    model_config = _STRICT


class PricesSection(Section):
    """What the writer charges.

    Attributes:
        read: For a million tokens of requests.
        written: For a million tokens of answers.
        currency: What in.
    """

    read: NotNegative = 0.0
    written: NotNegative = 0.0
    currency: str = "USD"


class BudgetSection(Section):
    """Bounds on the whole run; null for none.

    Attributes:
        requests: At most.
        tokens: Read and written at most.
        money: At most, by the prices.
    """

    requests: Annotated[int, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    money: NotNegative | None = None


class SynthesisPlan(Section):
    """From seeds to files.

    Attributes:
        synthesis: Version of this form.
        name: Of the data set.
        seeds: A ``.jsonl`` file of items.
        licence: A note on the seeds.
        seed: Every draw and every key follow from it.
        writer: A registered writer with its options.
        writer_licence: A note on what the writer's words may be used for.
        prices: Of the writer.
        budget: Bounds on the whole.
        failures: Share of a stage's requests that may fail before the run stops.
        stages: Registered stages with their options, in order.
        reasoning: Whether ``chat.jsonl`` holds it ``before`` the answer, or not (``none``).
        out: The folder; ``--out`` goes before it.
    """

    synthesis: Literal[1]
    name: Annotated[str, Field(min_length=1)]
    seeds: str
    licence: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    writer: Any
    writer_licence: str = ""
    prices: PricesSection = PricesSection()
    budget: BudgetSection = BudgetSection()
    failures: Annotated[float, Field(ge=0, le=1)] = 0.1
    stages: Annotated[list[Any], Field(min_length=1)]
    reasoning: Literal["before", "none"] = "before"
    out: str | None = None


def numbered(names: list[str]) -> list[str]:
    """Names of stages, told apart where one comes again.

    >>> numbered(["expand", "judge", "refine", "judge"])
    ['expand', 'judge', 'refine', 'judge-2']
    """
    found: list[str] = []
    for name in names:
        before = sum(each == name or each.startswith(f"{name}-") for each in found)
        found.append(f"{name}-{before + 1}" if before else name)
    return found
