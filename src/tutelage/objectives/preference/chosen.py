"""The better answer of each pair stays likely: what preference losses by themselves forget.

Pang, Yuan, Cho, He, Sukhbaatar, Weston: Iterative Reasoning Preference Optimization, 2024,
arXiv:2404.19733.
"""

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.preference.sequences import answers_of, mean_of


@register("objective", "chosen_answer")
class ChosenAnswer(AbstractLoss):
    r"""Negative log-likelihood per token of the chosen answers, each of equal weight.

    .. math:: -\frac{1}{|y_w|} \log \pi(y_w | x), \quad \text{mean over chosen answers}

    Neighbours: `CrossEntropy` is a mean over all tokens of all rows, rejected answers too, and
    long answers weigh more; beside `DPO` and `SimPO`, whose means are over questions, take this.

    Suggested weight: 1 beside 1 of `DPO` (the paper).

    Scale: mean over the tokens of an answer, then over answers.

    Deviations: the paper adds it to DPO as one loss, over chains of thought and answers written by
    the model itself.
    """

    name = "chosen_answer"
    needs_targets = True
    needs_teacher = False
    needs_ids = True
    needs_variants = True
    batchwise = True

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Mean over chosen answers."""
        answers = answers_of(batch, student.logits, self.name)
        said = answers.of(student.logits, self.name, per_token=True)
        return -mean_of(said[answers.variant == 0])
