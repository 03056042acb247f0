"""The student writes whole texts, and each token answers for all that follows it.

Gu, Dong, Wei, Huang: MiniLLM: Knowledge Distillation of Large Language Models, 2023,
arXiv:2306.08543.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Terms, dense
from tutelage.core.reduce import full_precision, mean
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.models.observed import Observed
from tutelage.objectives.response.log_space import log_mixture
from tutelage.objectives.units import paired_logits
from tutelage.settings.minillm_terms import Weights, minillm_parts
from tutelage.settings.probing import asked, frozen, probed
from tutelage.settings.prompts import prompts_of
from tutelage.settings.rollouts import apart, words
from tutelage.settings.rollouts_setting import (
    AbstractWriting,
    Lesson,
    ids_of,
    pen,
    refuse_cache,
)


class Mixed(nn.Module):
    r"""Student and teacher as one writer: :math:`\tilde p = \alpha p + (1 - \alpha) q`.

    Args:
        student: Of whom q is.
        teacher: Of whom p is.
        share: Alpha.
    """

    def __init__(self, student: Observed, teacher: Answers, share: float):
        super().__init__()
        self.student, self.teacher, self.share = student, teacher, share

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Normalised log-probabilities ``(N, T, V)`` of the mixture."""
        batch = Batch(inputs)
        q, p = paired_logits(
            self.student(batch).logits, dense(self.teacher(batch), "minillm"), "minillm"
        )
        return log_mixture(p.log_softmax(-1), q.log_softmax(-1), self.share)


@register("setting", "minillm")
class MiniLLM(AbstractWriting):
    r"""MiniLLM: reverse KL of whole texts, by policy gradients.

    .. math:: \nabla L = E_{y \sim \tilde p} \sum_t \Big[ w_t \nabla KL\big(q(\cdot | y_{<t}) \,\|\,
        p(\cdot | y_{<t})\big) - w_t R^{norm}_{t+1} \nabla \log q(y_t | y_{<t}) \Big], \quad
        \tilde p = \alpha p + (1 - \alpha) q, \; w_t = \frac{q(y_t)}{\tilde p(y_t)}

    The first part, logged as ``minillm_single``, is exact over the vocabulary; the second,
    ``minillm_long``, is what a token does to the reward of all that follows
    (`tutelage.settings.minillm_terms`); its value means nothing, its gradient does. The mixture
    keeps a weak student from text that no teacher would score well. Where text is stale
    (``write_for``), w_t has the student of now over the mixture of then.

    Neighbours: `OnPolicy` with ``reverse_kl`` is the first part alone, unweighted, which looks no
    further than one token. `PolicyGradient` takes any reward.

    Scale: means over written tokens, as the authors' code has it.

    Deviations: the paper divides by T - t - 1 where T - t tokens follow; here it is the number
    that follow. The authors' code takes R_t, with the token's own reward, whitens it over the
    batch, clips rewards, weighs the second part alone, and adds a language modelling loss on
    another corpus: take turns with a `Classic` for that.

    Args:
        student: Who writes and learns: trained on answers first, the paper says.
        teacher: A live one, of the same vocabulary.
        mix: Alpha, the teacher's share of the writing, from 0 to below 1.
        weights: ``step`` is the paper's w_t; ``text`` weighs whole texts, which is exact where
            nothing else is divided or clipped; ``none`` has no weights.
        per_token: Divide what follows by its length (the paper's length normalisation).
        clip: PPO's bound on the second part's ratio, with ``step``; None for none.
        most: Tokens of an answer at most.
        end: Number of the token that ends an answer.
        write_for: Updates from one time of writing.

    Raises:
        RecipeError: An option is out of range, or the teacher is a cache.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        *,
        mix: float = 0.2,
        weights: Weights = "step",
        per_token: bool = True,
        clip: float | None = 0.2,
        most: int = 128,
        end: int | None = None,
        write_for: int = 1,
    ):
        name = "minillm"
        super().__init__(student, pen(most, 1.0, 1.0, None, end, name), write_for)
        self.mix = number_within(mix, f"{name}: mix", least=0, below=1)
        if weights not in ("step", "text", "none"):
            raise RecipeError(f"{name}: weights must be step, text or none, got {weights!r}.")
        if clip is not None:
            number_within(clip, f"{name}: clip", above=0)
        refuse_cache(teacher, name)
        self.teacher = frozen(teacher)
        self.weights, self.per_token, self.clip = weights, bool(per_token), clip

    def prepare(self, item: Batch) -> None:
        """Look at both answers.

        Raises:
            DataError: The item is no batch of text, or has several documents in a row.
            RecipeError: The teacher does not answer batches.
            ShapeMismatch: One of the two cannot read this one, or vocabularies differ.
            SparseAnswer: The teacher keeps only its top k.
        """
        prompts_of(item, "minillm")
        ours, theirs = probed(self.student, item), asked(self.teacher, item)
        paired_logits(ours.logits, dense(theirs, "minillm"), "minillm")

    def lessons(self, batches: Sequence[Batch], seed: int) -> list[Lesson]:
        """The mixture of both answers every prompt."""
        prompts = [prompts_of(batch, "minillm") for batch in batches]
        numbers = [ids_of(b)[each.rows] for b, each in zip(batches, prompts, strict=True)]
        writer = self.student.model
        if self.mix:
            writer = Observed(Mixed(writer, self.teacher, self.mix))
        texts = self.written(prompts, numbers, derive(seed, "text"), writer=writer)
        return [Lesson(text, "own") for text in texts if len(text)]

    def compare(self, batch: Batch) -> Terms:
        """Both parts on one batch of written text."""
        read, notes = apart(batch)
        ours, theirs = self.student(read), self.teacher(read).detach()
        logits, (tokens, mask) = dense(theirs, "minillm"), words(read)
        with full_precision(ours.logits):
            single, long = minillm_parts(
                ours.logits,
                logits,
                tokens.masked_fill(~mask, -1),
                notes["log_probs"],
                weights=self.weights,
                per_token=self.per_token,
                clip=self.clip,
            )
            return {"minillm_single": mean(single, read), "minillm_long": mean(long, read)}
