"""A small stage of reinforcement: answers that are worth more than their neighbours, more often.

Shao, Wang, Zhu, Xu, Song, Bi, Zhang, Zhang, Li, Wu, Guo: DeepSeekMath: Pushing the Limits of
Mathematical Reasoning in Open Language Models, 2024, arXiv:2402.03300.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.core.outputs import Answers, Outputs, Terms, dense
from tutelage.core.reduce import full_precision, mean
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within, whole_number
from tutelage.models.observed import Frozen
from tutelage.objectives.units import raised
from tutelage.settings.minillm_terms import clipped_surrogate
from tutelage.settings.policy_gradient_rewards import AbstractReward, Check, reward_of
from tutelage.settings.policy_gradient_terms import ADVANTAGES, PENALTIES
from tutelage.settings.probing import asked, frozen, probe, probed
from tutelage.settings.prompts import prompts_of
from tutelage.settings.rollouts import apart, log_probs_of, noted, words
from tutelage.settings.rollouts_setting import (
    AbstractWriting,
    Lesson,
    ids_of,
    pen,
    refuse_cache,
)


@register("setting", "policy_gradient")
class PolicyGradient(AbstractWriting):
    r"""GRPO: several answers to each prompt, and those above their group's mean become likelier.

    .. math:: -\frac{1}{g} \sum_i \frac{1}{|y_i|} \sum_t
        \min\big(\rho_{it} A_i, \; clamp(\rho_{it}, 1 - \epsilon, 1 + \epsilon) A_i\big)
        + \beta \, D(q \,\|\, q_{ref}), \quad \rho_{it} = \frac{q(y_{it})}{q_{then}(y_{it})}

    with A from the rewards of the g answers to one prompt. Where each time of writing serves one
    update, rho is 1 and this is REINFORCE with the group as baseline. Terms are logged as
    ``policy``, whose value means little, and ``kl``; mean rewards are in `rewards`.

    Neighbours: `MiniLLM` has the teacher's log-probabilities, token by token, as its reward;
    `OnPolicy` hands on the teacher's whole distribution, which tells far more than a number does.

    Scale: ``per: text`` is the published mean over tokens, then texts; ``per: token`` is one mean
    over all tokens, where long answers weigh more.

    Traps: where all answers of a group are worth the same, there is nothing to be learnt: a check
    that nobody or everybody passes teaches nothing. ``penalty: k3``, the published one, has the
    gradient of the other direction of KL (`tutelage.settings.reverse_kl_k3`).

    Deviations: there is one update for each text, where the paper may make several; the reference
    stays, where the paper may renew it. Deviations divide by g, not by g - 1. Of Dr. GRPO and RLOO
    only the advantage is theirs: the first divides no answer by its length, the second weighs whole
    answers, unclipped, which ``per: token`` with ``clip: null`` is but for a factor a batch.

    Args:
        student: Who writes and learns.
        reward: ``f(prompt, answer) -> float`` on the tokens of both, or `ByTeacher`.
        reference: Who the student shall stay near; None is a copy of it as it is now.
        group: g, answers to each prompt, at least 2.
        advantage: ``deviation`` (GRPO), ``mean`` (Dr. GRPO), ``others`` (RLOO).
        kl: Beta, weight of the divergence from the reference; at 0 it is not asked.
        penalty: ``k2`` or ``k3``.
        clip: Epsilon; None never clips.
        per: ``text`` or ``token``.
        most: Tokens of an answer at most.
        temperature: Of the draw, and so of the policy that learns; above 0.
        end: Number of the token that ends an answer.
        write_for: Updates from one time of writing.

    Raises:
        RecipeError: An option is out of range, or the reference is a cache.
    """

    def __init__(
        self,
        student: Learner,
        reward: AbstractReward | Check,
        *,
        reference: Answers | None = None,
        group: int = 8,
        advantage: Literal["deviation", "mean", "others"] = "deviation",
        kl: float = 0.04,
        penalty: Literal["k2", "k3"] = "k3",
        clip: float | None = 0.2,
        per: Literal["text", "token"] = "text",
        most: int = 128,
        temperature: float = 1.0,
        end: int | None = None,
        write_for: int = 1,
    ):
        name = "policy_gradient"
        super().__init__(student, pen(most, temperature, 1.0, None, end, name), write_for)
        number_within(temperature, f"{name}: temperature", above=0)
        self.group = whole_number(group, f"{name}: group")
        if self.group < 2:
            raise RecipeError(f"{name}: group must be at least 2, got {group}: a group of one.")
        self.kl = number_within(kl, f"{name}: kl", least=0)
        self.clip = None if clip is None else number_within(clip, f"{name}: clip", above=0)
        for option, value, known in (
            ("advantage", advantage, ADVANTAGES),
            ("penalty", penalty, PENALTIES),
            ("per", per, ("text", "token")),
        ):
            if value not in known:
                raise RecipeError(
                    f"{name}: there is no {option} {value!r}. {suggest(str(value), known)}"
                )
        refuse_cache(reference, name)
        if self.kl and reference is None:
            reference = Frozen(copy.deepcopy(student.model))
        self.reference = frozen(reference)
        self.reward, self.per = reward_of(reward), per
        self.advantage, self.penalty = ADVANTAGES[advantage], PENALTIES[penalty]
        self.rewards = Rewards()

    def prepare(self, item: Batch) -> None:
        """Look at the student's answer, and at the reference's.

        Raises:
            DataError: The item is no batch of text, or has several documents in a row.
            ShapeMismatch: One of the two cannot read this one.
        """
        prompts_of(item, "policy_gradient")
        probed(self.student, item)
        if self.kl and self.reference is not None:
            dense(asked(self.reference, item), "policy_gradient")

    def lessons(self, batches: Sequence[Batch], seed: int) -> list[Lesson]:
        """A group of answers to each prompt, and what each is worth in its group."""
        prompts = [prompts_of(batch, "policy_gradient") for batch in batches]
        numbers = [ids_of(b)[each.rows] for b, each in zip(batches, prompts, strict=True)]
        texts = self.written(prompts, numbers, derive(seed, "text"), copies=self.group)
        return [Lesson(self._judged(text), "own") for text in texts if len(text)]

    def compare(self, batch: Batch) -> Terms:
        """Both terms on one batch of judged text."""
        read, notes = apart(batch)
        ours = self.student(read)
        with full_precision(ours.logits):
            now = self._log_probs(ours, read)
            then = notes["then"] if self.write_for > 1 else now.detach()
            counted = notes["counted"] > 0
            ratio = torch.where(counted, now - then, 0.0).exp()
            gain = notes["advantage"][:, None].to(now)
            values = {"policy": clipped_surrogate(ratio, gain, self.clip)}
            if self.kl and self.reference is not None:
                before = self._log_probs(self.reference(read).detach(), read)
                # Elsewhere an estimate may be infinite, and nothing times its slope is NaN.
                both = (torch.where(counted, each, 0.0) for each in (now, before))
                values["kl"] = self.kl * self.penalty(*both)
            if self.per == "token":
                return {name: mean(value, read) for name, value in values.items()}
            lengths = counted.sum(1).clamp(min=1)
            return {
                name: mean(torch.where(counted, value, 0.0).sum(1) / lengths, read)
                for name, value in values.items()
            }

    def _judged(self, text: Batch) -> Batch:
        """The batch with advantages; where texts weigh alike, its units are rows."""
        read, _ = apart(text)
        rewards = self.reward.of(read).view(-1, self.group)
        self.rewards.add(rewards)
        gain, written = self.advantage(rewards).flatten(), words(read)[1].int()
        judged = noted(read, advantage=gain, counted=written, then=self._then(text))
        return judged if self.per == "token" else replace(judged, mask=None)

    def _then(self, text: Batch) -> Tensor:
        """Of the written tokens under the policy that writes, ``(N, T)``."""
        read, notes = apart(text)
        if self.write_for == 1 or self.pen.temperature == 1:
            return notes["log_probs"]
        return self._log_probs(probe(self.student, read), read)

    def _log_probs(self, outputs: Outputs, batch: Batch) -> Tensor:
        """Of the written tokens under the policy, ``(N, T)``."""
        logits = raised(dense(outputs, "policy_gradient")) / self.pen.temperature
        return log_probs_of(logits, batch)


class Rewards:
    """The mean reward of each judged batch, in order; checkpoints hold it.

    Args:
        size: So many of the latest are remembered.
    """

    def __init__(self, size: int = 10_000):
        self._size, self.means = size, list[float]()

    def add(self, rewards: Tensor) -> None:
        """Remember the mean of one more batch."""
        self.means.append(float(rewards.mean()))
        del self.means[: -self._size]

    def state_dict(self) -> dict[str, list[float]]:
        """All of them."""
        return {"means": list(self.means)}

    def load_state_dict(self, state_dict: dict[str, list[float]]) -> None:
        """Go back to what `state_dict` gave."""
        self.means = list(state_dict["means"])
