"""What the student says surely of a weak view must hold for a strong one.

Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel: FixMatch: Simplifying
Semi-Supervised Learning with Consistency and Confidence, 2020, arXiv:2001.07685.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Outputs, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.settings.probing import asked, check_student, frozen, probed
from tutelage.settings.weak_strong import both_views, view_of


@register("setting", "consistency")
class Consistency(AbstractSetting[Batch]):
    r"""FixMatch: the likeliest class of the weak view is the label of the strong one.

    .. math:: L(x^{weak}) + \lambda \frac{1}{N} \sum_n \mathbb{1}[\max q_n \ge \tau] \;
        CE\big(\arg\max q_n, f(x_n^{strong})\big), \quad q_n = \sigma(f(x_n^{weak}))

    where L is the objective on the weak views (`CrossEntropy`, which leaves unlabelled examples
    out; a term that asks a teacher may stand beside it), and q is detached. Both views go through
    the student in one pass, as BatchNorm should see them. Batches hold labelled and unlabelled
    examples, of two views each (`tutelage.data.StrongViews`).

    Sohn, Berthelot, Li, Zhang, Carlini, Cubuk, Kurakin, Zhang, Raffel: FixMatch: Simplifying
    Semi-Supervised Learning with Consistency and Confidence, 2020, arXiv:2001.07685.

    Deviations: both terms are means over all N examples of the batch, where the paper divides the
    first by the labelled ones: with μ unlabelled to one labelled example its λ = 1 is λ = 1 /
    (1 + μ) here, at 1 + μ times the learning rate. As in the paper's data, labelled examples are
    in the second term as well.

    Args:
        student: Who learns.
        objective: L; of logits alone.
        teacher: Whom the objective asks about the weak views; None where it asks nobody.
        threshold: τ; 0.95 in the paper.
        weight: λ.

    Raises:
        RecipeError: An option is out of its range; the objective reads features, or has no teacher
            to ask.
    """

    def __init__(
        self,
        student: Learner,
        objective: AbstractObjective,
        teacher: Answers | None = None,
        *,
        threshold: float = 0.95,
        weight: float = 1.0,
    ):
        check_student(student)
        if any(objective.taps) or any(objective.borrows):
            raise RecipeError(
                "consistency asks its objective about half of the rows, and this one reads "
                "features: use one of logits alone (ce, kd)."
            )
        if objective.needs_teacher and teacher is None:
            raise RecipeError("this objective needs a teacher: give one, or learn from targets.")
        self.student, self.objective = student, objective
        self.teacher = frozen(teacher)
        self.threshold = number_within(threshold, "consistency: threshold", least=0, most=1)
        self.weight = number_within(weight, "consistency: weight", least=0)
        self.strong = CrossEntropy()

    def prepare(self, item: Batch) -> None:
        """Look at one batch; bind the objective.

        Raises:
            DataError: The item is no batch of two views.
            ShapeMismatch: Student or teacher cannot read it.
        """
        weak = view_of(both_views(item, "consistency"), "weak")
        answer = probed(self.student, weak)
        self.objective.bind(answer, asked(self.teacher, weak) if self.teacher else answer)
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item; its batch has one row an example."""
        yield Update(self.student, self.compare, both_views(item, "consistency"))
        self.objective.advance()

    def compare(self, pairs: Batch) -> Terms:
        """The objective on weak views, and the strong views held to them."""
        weak, strong = view_of(pairs, "weak"), view_of(pairs, "strong")
        assert isinstance(weak.inputs, Tensor)
        assert isinstance(strong.inputs, Tensor)
        logits = self.student(Batch(torch.cat([weak.inputs, strong.inputs]))).logits
        ours, theirs = Outputs(logits[: len(weak)]), Outputs(logits[len(weak) :])
        sure, named = ours.logits.detach().float().softmax(-1).max(-1)
        labels = replace(strong, targets=torch.where(sure >= self.threshold, named, -1))
        [held] = self.strong(theirs, theirs.detach(), labels).values()
        answer = self.teacher(weak).detach() if self.teacher else ours.detach()
        return {**self.objective(ours, answer, weak), "consistency": self.weight * held}
