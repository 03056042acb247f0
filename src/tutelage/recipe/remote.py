"""A teacher behind a server: ``teacher: {server: {url: ..., model: ..., top: 20}}``."""

import math
import os

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError, TutelageError
from tutelage.core.outputs import Answers, SparseOutputs
from tutelage.core.text import TextTokenizer
from tutelage.data import Examples
from tutelage.models import Observed
from tutelage.recipe.sections import Cache, Recipe, Server
from tutelage.teachers.remote import (
    Bill,
    Budget,
    Echo,
    Estimate,
    Limits,
    Prices,
    PromptLogprobs,
    RemoteTeacher,
)
from tutelage.teachers.remote import Server as Place

NAME = "server"
"""What stands for the model of such a teacher."""

_ALONE = ("weights", "train", "classes", "expect", "tokenizer")


class Elsewhere(nn.Module):
    """Stands for a network that is not here, and says so to whoever wants its answers.

    Args:
        what: What the teacher is called.
    """

    def __init__(self, what: str):
        super().__init__()
        self.what = what

    def forward(self, inputs: object) -> Tensor:
        """Refuse.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            f"the teacher {self.what} is behind a server, and there is no network of it here: its "
            "kept answers teach, and nothing else of it can be had."
        )


class Unasked:
    """Answers in the form of a server that knows nothing, for trials in which nobody is asked.

    Args:
        top: Candidates at each position.
        classes: How many tokens there are.

    Example:
        >>> answer = Unasked(2, 5)(Batch({"input_ids": torch.zeros(1, 3, dtype=torch.int64)}))
        >>> answer.logits.exp().sum(-1) + answer.log_tail.exp()
        tensor([[1., 1., 1.]])
    """

    def __init__(self, top: int, classes: int):
        self.top, self.classes = top, classes

    def __call__(self, batch: Batch) -> SparseOutputs:
        """Every token is as likely as any other."""
        ids = batch.inputs if isinstance(batch.inputs, Tensor) else batch.inputs["input_ids"]
        shape, top = ids.shape, torch.arange(self.top, device=ids.device)
        log_p = torch.full((*shape, self.top), -math.log(self.classes), device=ids.device)
        tail = torch.full(shape, math.log1p(-self.top / self.classes), device=ids.device)
        return SparseOutputs(log_p, top=top.expand(*shape, self.top).clone(), log_tail=tail)


def with_server(recipe: Recipe) -> Recipe:
    """The recipe as it is meant where its teacher is behind a server: kept answers are sparse.

    Raises:
        RecipeError: The teacher is nowhere, in two places, or has what belongs to a network.
    """
    teacher = recipe.teacher
    named = teacher.model.name
    if teacher.server is None:
        if named == NAME:
            told = "this key is needed and is not there: add it."
            raise RecipeError(f"teacher.model: {told}")
        return recipe
    if named != NAME:
        raise RecipeError(
            f"teacher.model: got {named!r}, and teacher.server is given too: leave one of them out."
        )
    for key in _ALONE:
        if (value := getattr(teacher, key)) is not None:
            raise RecipeError(
                f"teacher.{key}: got {value!r:.80}, and the teacher is behind a server, where "
                "nothing but its answers is to be had: leave it out."
            )
    cache = _sparse(teacher.cache or Cache(), teacher.server)
    return recipe.model_copy(update={"teacher": teacher.model_copy(update={"cache": cache})})


def check_server(recipe: Recipe, examples: Examples) -> None:
    """Refuse what a server cannot do, before anybody is asked.

    Raises:
        RecipeError: One line naming the key.
    """
    server = recipe.teacher.server
    if server is None:
        return
    vocabulary = getattr(examples, "vocabulary", None)
    if vocabulary is None:
        raise RecipeError(
            f"teacher.server: got {server.model!r}, which tells tokens of text, and this data "
            "is none: take a source of text, or a model (teacher.model)."
        )
    if server.key_env and not server.key_env.isidentifier():
        raise RecipeError(
            "teacher.server.key_env: this is no name of an environment variable: write one such "
            "as TEACHER_KEY, and put the key into that variable, never into the recipe."
        )
    if server.key_env and not os.environ.get(server.key_env, "").strip():
        raise RecipeError(
            f"teacher.server.key_env: the variable {server.key_env} holds no key: set it."
        )
    if recipe.student.graft is not None or recipe.student.model.name == "shrunk":
        raise RecipeError(
            "student: it is made of its teacher's network, and the teacher is behind a server: "
            "give a model of its own."
        )
    if recipe.setting.name != "classic":
        raise RecipeError(
            f"setting: got {recipe.setting.name!r}, and the teacher's answers are asked of its "
            "server once and kept: write classic, or a model (teacher.model)."
        )
    remote_of(server, *facts_of_text(examples)).close()


def remote_of(server: Server, classes: int, tokenizer: TextTokenizer | None) -> RemoteTeacher:
    """The teacher itself; nobody is asked until it answers.

    Raises:
        RecipeError: A value is out of range, with its key.
    """
    prompt = server.telling == "prompt_logprobs"
    if prompt and server.send != "tokens":
        raise RecipeError(
            f"teacher.server.send: got {server.send!r}, and prompt_logprobs takes tokens alone: "
            "leave it out, or write telling: echo."
        )
    try:
        place = Place(
            server.url,
            server.model,
            key_env=server.key_env,
            key_in_clear=server.key_in_clear,
            ca_file=server.ca_file,
            client_certificate=server.client_certificate,
            timeout=server.timeout,
        )
        return RemoteTeacher(
            place,
            server.top,
            classes,
            telling=PromptLogprobs() if prompt else Echo(send=server.send),
            tokenizer=tokenizer,
            limits=Limits(server.lanes, server.requests_per_minute, server.tokens_per_minute),
            prices=Prices(**server.prices.model_dump()),
            budget=Budget(**server.budget.model_dump()),
        )
    except TutelageError as error:
        raise type(error)(f"teacher.server: {error}") from error


def absent(server: Server, seed: int) -> Observed:
    """What stands for the teacher's network, of whatever seed."""
    return Observed(Elsewhere(server.model))


def facts_of_text(examples: Examples) -> tuple[int, TextTokenizer | None]:
    """How many tokens a text knows, and what cut it."""
    return examples.vocabulary, getattr(examples, "tokenizer", None)  # type: ignore[attr-defined]


def cost_told(server: Server, found: Estimate) -> list[str]:
    """What to say of the cost of asking for everything, and of a budget below it."""
    free = not (server.prices.read or server.prices.written)
    price = "no prices are stated" if free else f"{found.money:.4g} {found.currency}"
    said = [
        f"the server of the teacher {server.model} will be asked for {found.requests:,} texts "
        f"once, {found.tokens_read:,} tokens to read and {found.tokens_written:,} to write "
        f"({price}), less what is kept already."
    ]
    money, tokens = server.budget.money, server.budget.tokens
    most = found.tokens_read + found.tokens_written
    if (money is not None and money < found.money) or (tokens is not None and tokens < most):
        said.append(
            "teacher.server.budget is less than all of that costs: the run will stop when it is "
            "spent, and goes on with --resume and a new one."
        )
    return said


def spent_told(server: Server, spent: Bill) -> str:
    """What was asked and paid, in a sentence."""
    money = f", {spent.money:.4g} {spent.currency}" if spent.money else ""
    return (
        f"teacher {server.model}: asked {spent.requests:,} times now, {spent.tokens_read:,} tokens "
        f"read and {spent.tokens_written:,} written{money}"
    )


def unasked(server: Server, examples: Examples) -> Answers:
    """Answers of its form, for trials."""
    return Unasked(server.top, facts_of_text(examples)[0])


def _sparse(cache: Cache, server: Server) -> Cache:
    """The cache of such a teacher: its top k, and no features."""
    written = cache.model_fields_set
    if "form" in written and cache.form != "top":
        raise RecipeError(
            "teacher.cache.form: got 'dense', and a server tells its likeliest tokens alone: "
            "write top, or leave it out."
        )
    if "k" in written and cache.k != server.top:
        raise RecipeError(
            f"teacher.cache.k: got {cache.k}, and teacher.server.top is {server.top}: leave k out."
        )
    for key in ("draws", "features"):
        if getattr(cache, key):
            raise RecipeError(
                f"teacher.cache.{key}: got {getattr(cache, key)!r}, and a server tells its "
                "likeliest tokens alone: leave it out."
            )
    return cache.model_copy(update={"form": "top", "k": server.top})
