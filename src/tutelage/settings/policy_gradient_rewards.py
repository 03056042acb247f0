"""(No situation) What an answer is worth: a check, or a teacher's judgement."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Answers, dense
from tutelage.settings.probing import frozen
from tutelage.settings.rollouts import answers_in, log_probs_of, words

Check = Callable[[Sequence[int], Sequence[int]], float]
"""From the tokens of a prompt and of an answer to a number: the higher the better."""


class AbstractReward(nn.Module, ABC):
    """What written answers are worth."""

    @abstractmethod
    def of(self, batch: Batch) -> Tensor:
        """One number a row, ``(N,)``: targets are the written tokens, and the mask keeps them."""


class ByCheck(AbstractReward):
    """What a function of plain numbers says: a test that passes, a result that is right.

    Args:
        check: Called with prompt and answer, its end token included.

    Example:
        >>> batch = Batch({"input_ids": torch.tensor([[5, 6, 7]])}, torch.tensor([[-1, 7, 2]]))
        >>> ByCheck(lambda prompt, answer: float(len(prompt) * 10 + len(answer))).of(batch)
        tensor([22.])
    """

    def __init__(self, check: Check):
        super().__init__()
        self.check = check

    def of(self, batch: Batch) -> Tensor:
        """One number a row, ``(N,)``.

        Raises:
            DataError: The check gave something that is no finite number.
        """
        found = []
        for prompt, answer in answers_in(batch):
            value = self.check(prompt, answer)
            try:
                found.append(float(value))
            except (TypeError, ValueError) as error:
                raise _no_number(value) from error
        rewards = torch.tensor(found)
        if not bool(rewards.isfinite().all()):
            raise _no_number(rewards[~rewards.isfinite()][0].item())
        return rewards.to(words(batch)[0].device)


class ByTeacher(AbstractReward):
    """How likely the teacher finds an answer: the mean log-probability of its tokens, in nats.

    Args:
        teacher: A live one, of the student's vocabulary.
    """

    def __init__(self, teacher: Answers):
        super().__init__()
        self.teacher = frozen(teacher)

    @torch.no_grad()
    def of(self, batch: Batch) -> Tensor:
        """One number a row, ``(N,)``."""
        _, mask = words(batch)
        log_p = log_probs_of(dense(self.teacher(batch), "a judging teacher"), batch)
        return torch.where(mask, log_p, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def reward_of(given: object) -> AbstractReward:
    """A reward, or a function made one.

    Raises:
        RecipeError: It is neither.
    """
    if isinstance(given, AbstractReward):
        return given
    if isinstance(given, nn.Module) or not callable(given):
        raise RecipeError(
            "policy_gradient: reward must be a function of (prompt, answer), or ByTeacher(model), "
            f"got {type(given).__name__}."
        )
    return ByCheck(given)


def _no_number(value: object) -> DataError:
    return DataError(
        f"the check gave {value!r} for an answer, expected a finite number: the higher the better."
    )
