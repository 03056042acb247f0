"""What an answer is worth, by name: ``setting: {policy_gradient: {reward: equals}}``."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Answers
from tutelage.core.registry import register
from tutelage.core.text import TextTokenizer
from tutelage.data.text import TokenSet
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.named import Named
from tutelage.settings.policy_gradient_rewards import ByTeacher
from tutelage.settings.prompts import prompts_of

Check = Callable[[Sequence[int], Sequence[int]], float]
TEACHER = "teacher"
_AT_ONCE = 1024
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*\.?\d*|\.\d+)")


class KnownAnswers:
    """The data's own answers, by the tokens of what was asked.

    Args:
        rows: Of one prompt and one answer each.
        tokenizer: What cut them.
    """

    def __init__(self, rows: TokenSet, tokenizer: TextTokenizer):
        self.tokenizer = tokenizer
        self._found: dict[tuple[int, ...], str] = {}
        for some in torch.split(torch.arange(len(rows)), _AT_ONCE):
            batch = rows.batch(some)
            assert batch.targets is not None
            assert batch.mask is not None
            prompts = prompts_of(batch, "a reward")
            for place, row in enumerate(prompts.rows.tolist()):
                asked = prompts.tokens[place][prompts.attention_mask[place].bool()]
                answer = batch.targets[row][batch.mask[row]].tolist()
                self._found[tuple(asked.tolist())] = tokenizer.decode(answer).strip()

    def to(self, prompt: Sequence[int]) -> str:
        """The data's answer to a prompt.

        Raises:
            DataError: Nobody asked this.
        """
        found = self._found.get(tuple(prompt))
        if found is None:
            raise DataError("a prompt is none of the training data's: rewards know those alone.")
        return found


@register("reward", "equals")
def equals(known: KnownAnswers) -> Check:
    """1 where an answer has the words of the data's own, else 0; blanks around do not count.

    Args:
        known: The data's own answers.
    """

    def check(prompt: Sequence[int], answer: Sequence[int]) -> float:
        return float(known.tokenizer.decode(list(answer)).strip() == known.to(prompt))

    return check


@register("reward", "number")
def number(known: KnownAnswers, tolerance: float = 1e-6) -> Check:
    """1 where the last number of an answer is the last one of the data's own, else 0.

    Args:
        known: The data's own answers.
        tolerance: By how much it may be off.

    Raises:
        RecipeError: The tolerance is below 0.
    """
    if not tolerance >= 0:
        raise RecipeError(f"tolerance is {tolerance}, expected at least 0.")

    def check(prompt: Sequence[int], answer: Sequence[int]) -> float:
        wanted = last_number(known.to(prompt))
        found = last_number(known.tokenizer.decode(list(answer)))
        if wanted is None or found is None:
            return 0.0
        return float(abs(wanted - found) <= tolerance)

    return check


def last_number(text: str) -> float | None:
    """The last number in a text; None where there is none.

    >>> last_number("2 and 1,250.5 make it."), last_number("none")
    (1250.5, None)
    """
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def reward_of(written: Any, rows: TokenSet | None, teacher: Answers) -> Any:
    """The reward that a recipe names.

    Args:
        written: ``teacher``, or a name of ``tutelage methods reward`` with options.
        rows: The training data.
        teacher: The recipe's.

    Raises:
        RecipeError: There is no such reward, or the data has no text.
    """
    key = "setting.policy_gradient"
    if written == TEACHER:
        return ByTeacher(teacher)
    named = _named(written, key)
    if rows is None or rows.tokenizer is None:
        raise RecipeError(f"{key}.reward: got {short(written)}: it needs data of text, as chat is.")
    known = KnownAnswers(rows, rows.tokenizer)
    return schema.build("reward", named, f"{key}.reward", known=known)


def _named(written: Any, key: str) -> Named:
    if isinstance(written, str):
        return Named(name=written)
    if isinstance(written, dict) and len(written) == 1:
        ((name, options),) = written.items()
        if options is None or isinstance(options, dict):
            return Named(name=name, options=options or {})
    raise RecipeError(
        f"{key}.reward: got {short(written)}: write teacher, equals, or {{number: {{...}}}}; a "
        "function of your own is for Python (tutelage.settings.PolicyGradient)."
    )
