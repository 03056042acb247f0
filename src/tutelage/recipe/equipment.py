"""From a recipe's ``train`` section to learner, loader and machine."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, TutelageError
from tutelage.core.seeds import derive
from tutelage.core.source import Source
from tutelage.data import Augment, Loader
from tutelage.data.sets import Examples
from tutelage.data.text import PairSet, SentenceSet, TokenLoader, TokenSet
from tutelage.engine import Learner, Machine
from tutelage.models import Observed
from tutelage.recipe import schema
from tutelage.recipe.sections import Name, Named, Train
from tutelage.recipe.ways import Batches


def learner(model: Observed, train: Train, key: str = "train") -> Learner:
    """A network with the optimizer, schedule, clipping and average that ``train`` says."""
    rate, written = train.learning_rate, train.resolve
    return Learner(
        model,
        schema.build("optimizer", train.optimizer, f"{key}.optimizer", learning_rate=rate),
        schedule=schema.build("schedule", train.schedule, f"{key}.schedule"),
        clip=train.clip,
        average=train.average,
        resolve=None if written is None else schema.build("resolve", written, f"{key}.resolve"),
    )


def loader(
    examples: Examples,
    train: Train,
    seed: int,
    key: str = "train",
    fixed: Mapping[str, int] | None = None,
) -> Batches:
    """Batches of ``examples`` as ``train`` says; ``fixed`` are views of a number and seed."""
    if isinstance(examples, TokenSet | SentenceSet | PairSet):
        return _of_tokens(examples, train, seed, key)
    augment = _augment(train.augment, f"{key}.augment")
    # A last batch of one example would break BatchNorm; no example is lost for good, as the
    # order changes from epoch to epoch.
    lonely = len(examples) % train.batch_size == 1 and len(examples) > train.batch_size > 1
    try:
        return Loader(
            examples,
            min(train.batch_size, len(examples)),
            augment=augment,
            seed=derive(seed, "order"),
            drop_last=lonely,
            workers=train.workers,
            views=(fixed or {}).get("views"),
            view_seed=(fixed or {}).get("view_seed"),
        )
    except TutelageError as error:
        raise type(error)(f"{key}.augment: {error}") from error


def _of_tokens(
    examples: TokenSet | SentenceSet | PairSet, train: Train, seed: int, key: str
) -> TokenLoader:
    if train.augment:
        raise RecipeError(
            f"{key}.augment: got {[each.name for each in train.augment]}, and text is not "
            "augmented: leave it out."
        )
    size = min(train.batch_size, len(examples))
    return TokenLoader(examples, size, seed=derive(seed, "order"))


def variants(written: Named | None) -> Callable[[Source[Batch]], Source[Batch]]:
    """What makes several versions of each example of a batch, or leaves batches as they are.

    Raises:
        RecipeError: There is no such name, or option.
    """
    if written is None:
        return lambda batches: batches
    options, given = dict(written.options), {}
    if "augment" in options:  # a list of names, as in train
        try:
            steps = TypeAdapter(list[Name]).validate_python(options.pop("augment"))
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise RecipeError(f"data.variants.{written.name}.augment: {said}.") from error
        given["augment"] = _augment(steps, f"data.variants.{written.name}.augment")
    plain = Named(name=written.name, options=options)
    schema.checked("variant", plain, "data.variants", {"source", *given})
    return lambda batches: cast(
        "Source[Batch]", schema.build("variant", plain, "data.variants", source=batches, **given)
    )


def machine(train: Train, key: str = "train") -> Machine:
    """What ``train`` runs on."""
    try:
        made = Machine(
            device=train.device,
            precision=train.precision,
            accumulate=train.accumulate,
            channels_last=train.channels_last,
            compile=train.compile,
            parallel=train.parallel,
        )
    except TutelageError as error:
        raise type(error)(f"{key}.device: {error} Write auto or cpu.") from error
    place = made.place
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"{key}.device: got {train.device!r}, and there are {torch.cuda.device_count()} GPUs: "
            "they are numbered from 0."
        )
    return made


def check_train(train: Train, examples: Examples, key: str) -> None:
    """Make all of it once, so that a wrong value is told before anything runs."""
    loader(examples, train, 0, key)
    machine(train, key)
    trial = learner(Observed(nn.Linear(1, 1)), train, key)
    try:
        trial.start()
    except (ValueError, TypeError, RuntimeError) as error:  # torch's own words for its ranges
        raise RecipeError(
            f"{key}.optimizer.{train.optimizer.name}: got {train.optimizer.options}: "
            f"{str(error).splitlines()[0]}. {schema.hint(train.optimizer.name)}"
        ) from error


def _augment(written: Sequence[Named], key: str) -> Augment | None:
    if not written:
        return None
    steps = [schema.build("augment", each, f"{key}.{i}") for i, each in enumerate(written)]
    try:
        return Augment(steps)
    except TutelageError as error:
        raise type(error)(f"{key}: got {[each.name for each in written]}: {error}") from error
