"""What a recipe's ``teacher`` may hold beside a model: kept answers, and a server to ask."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tutelage.recipe.named import Section


class Cache(Section):
    """How the teacher's answers are kept, so that it is asked once for each view.

    Attributes:
        form: ``dense`` logits, or the ``top`` k with the mass of all others.
        k: Classes kept of ``top``.
        views: How many views of each example there are: epoch e shows view e modulo this; null
            without augmentation, where there is one.
        precision: ``fp16``, ``fp32``, or ``int8`` for ``top``: log-probabilities in 8 bits.
        draws: Classes drawn from the tail of ``top`` besides, for data that is seen once.
        features: The teacher's features to keep, by path.
        folder: Where; null for one of its own below the user's cache.
    """

    form: Literal["dense", "top"] = "dense"
    k: PositiveInt = 10
    views: Annotated[int, Field(gt=0, le=100_000)] | None = None
    precision: Literal["fp16", "fp32", "int8"] = "fp16"
    draws: NonNegativeInt = 0
    features: list[str] = Field(default_factory=list)
    folder: Annotated[str, Field(min_length=1)] | None = None


class Charges(Section):
    """What a server charges for a million tokens.

    Attributes:
        read: Of what is sent.
        written: Of what it answers.
        currency: What in.
    """

    read: NonNegativeFloat = 0.0
    written: NonNegativeFloat = 0.0
    currency: Annotated[str, Field(min_length=1, max_length=20)] = "USD"


class Spending(Section):
    """A bound on what one run asks; ``--resume`` begins a new one.

    Attributes:
        money: At most, by the stated prices; null for no bound.
        tokens: Read and written at most; null for no bound.
    """

    money: NonNegativeFloat | None = None
    tokens: NonNegativeInt | None = None


class Server(Section):
    """A teacher behind an OpenAI-compatible server, which tells its likeliest tokens.

    Attributes:
        url: Such as ``http://127.0.0.1:8000``.
        model: The name that the server knows the model by.
        top: How many of the likeliest tokens it tells at each position.
        telling: How: ``prompt_logprobs`` (vLLM), or ``echo``.
        send: Of ``echo``: ``tokens``, or the ``text``, which the server cuts itself.
        key_env: Name of the environment variable that holds the key; empty for none.
        key_in_clear: Let the key travel unencrypted to another machine.
        ca_file: PEM file of whom to trust, where the certificate is of a house of its own.
        client_certificate: PEM file of a certificate and its key, where the server asks for one.
        timeout: Seconds that one answer may take.
        lanes: Questions under way at once.
        requests_per_minute: At most; null for as many as will go.
        tokens_per_minute: Likewise.
        prices: What it charges.
        budget: What may be spent.
    """

    url: str
    model: str
    top: PositiveInt = 20
    telling: Literal["prompt_logprobs", "echo"] = "prompt_logprobs"
    send: Literal["tokens", "text"] = "tokens"
    key_env: str = ""
    key_in_clear: bool = False
    ca_file: str = ""
    client_certificate: str = ""
    timeout: PositiveFloat = 600.0
    lanes: PositiveInt = 8
    requests_per_minute: PositiveFloat | None = None
    tokens_per_minute: PositiveFloat | None = None
    prices: Charges = Charges()
    budget: Spending = Spending()
