"""Students with fewer tokens: smaller embeddings and head, and the map between both numberings."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.core.errors import DataError, ModelError
from tutelage.models.shrunk.families import family_of
from tutelage.models.shrunk.kept import Kept, cut_state
from tutelage.models.shrunk.pretrained import (
    described_in,
    description_of,
    instead,
    rebuilt,
    said_in,
)


@dataclass(frozen=True)
class TokenMap:
    """Two numberings of tokens.

    Attributes:
        kept: The old number of each new one, ``(V',)``, rising. As ``classes`` of an `Observed`
            teacher it puts the teacher's logits in the student's order.
        size: How many old ones there are.

    Example:
        >>> tokens = TokenMap(torch.tensor([0, 2, 5]), 6)
        >>> tokens.to_new(torch.tensor([[5, 0, 3]]), unknown=2), tokens.to_old(torch.tensor([1]))
        (tensor([[2, 0, 1]]), tensor([2]))
    """

    kept: Tensor
    size: int

    @property
    def new(self) -> Tensor:
        """The new number of each old one, ``(V,)``; -1 where it is not kept."""
        numbers = torch.full((self.size,), -1, dtype=torch.int64)
        numbers[self.kept] = torch.arange(len(self.kept))
        return numbers

    def to_new(self, tokens: Tensor, unknown: int | None = None) -> Tensor:
        """Old numbers as new ones; negative ones (nothing to predict) stay.

        Args:
            tokens: Of any shape.
            unknown: The old number of what stands for tokens that are not kept.

        Raises:
            DataError: A token is not kept and nothing stands for it.
        """
        if tokens.numel() and int(tokens.max()) >= self.size:
            raise DataError(
                f"token {int(tokens.max())} is none of the {self.size} that there were: give "
                "numbers of the tokenizer whose tokens were kept."
            )
        new = self.new.to(tokens.device)
        if unknown is not None:
            new = torch.where(new < 0, new[unknown], new)
        numbers = torch.where(tokens < 0, tokens, new[tokens.clamp(min=0)])
        lost = tokens[(tokens >= 0) & (numbers < 0)]
        if lost.numel():
            raise DataError(
                f"token {int(lost[0])} is not kept: keep it, or give the number of a kept token "
                "that stands for all others (unknown=)."
            )
        return numbers

    def to_old(self, tokens: Tensor) -> Tensor:
        """New numbers as old ones; negative ones stay."""
        return torch.where(tokens < 0, tokens, self.kept.to(tokens.device)[tokens.clamp(min=0)])


def fewer_tokens(model: nn.Module, keep: Iterable[int]) -> tuple[nn.Module, TokenMap]:
    """A copy of a model of a known family that knows only some tokens.

    Tokens that the configuration names (beginning, end, padding) are kept always, and their
    numbers in it follow. The rows of embeddings and head stay as they were, so the probabilities of
    kept tokens are the old ones divided by their sum.

    Args:
        model: A transformers model or gpt, or a module with one inside; it stays as it is.
        keep: Numbers of tokens, in any order.

    Returns:
        The smaller model and the map of numbers; its order is that of the old ones.

    Raises:
        ModelError: The family is not known, or a number is no token's.
    """
    inner = described_in(model)
    family = family_of(model if inner is None else inner)
    config, called = description_of(inner), family.names["vocabulary"]
    tokens = _map(config, keep, family.size(config, "vocabulary"))
    kept = Kept(vocabulary=tokens.kept)
    state = cut_state(inner, family, kept)
    setattr(config, called, len(tokens.kept))
    _rename(config, tokens)
    student = rebuilt(inner, config, state)
    if getattr(student, "generation_config", None) is not None:
        _rename(student.generation_config, tokens)
    return instead(model, inner, student), tokens


def _map(config: Any, keep: Iterable[int], size: int) -> TokenMap:
    asked = list(keep)
    for number in asked:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < size:
            raise ModelError(f"keep: got {number!r}, and tokens have numbers from 0 to {size - 1}.")
    named = {number for numbers in _named(config).values() for number in numbers}
    chosen = sorted({*asked, *(number for number in named if 0 <= number < size)})
    if len(chosen) < 2:
        raise ModelError(f"keep: a vocabulary has at least two tokens, got {chosen}.")
    return TokenMap(torch.tensor(chosen), size)


def _named(config: Any) -> dict[str, list[int]]:
    """Numbers of tokens in a configuration, by key."""
    found: dict[str, list[int]] = {}
    for key, value in said_in(config).items():
        numbers = value if isinstance(value, list) else [value]
        whole = all(isinstance(number, int) for number in numbers)
        if key.endswith(("_token_id", "suppress_tokens")) and whole and numbers:
            found[key] = numbers
    return found


def _rename(config: Any, tokens: TokenMap) -> None:
    new = tokens.new.tolist()
    for key, numbers in _named(config).items():
        inside = [new[n] for n in numbers if 0 <= n < len(new) and new[n] >= 0]
        single = not isinstance(getattr(config, key), list)
        setattr(config, key, (inside or [None])[0] if single else inside or None)
