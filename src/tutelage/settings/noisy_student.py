"""A teacher labels clean images, and a student learns them noised.

Xie, Luong, Hovy, Le: Self-training with Noisy Student improves ImageNet classification, 2019,
arXiv:1911.04252.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Terms, dense
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.settings.counting import Counts
from tutelage.settings.probing import asked, check_student, frozen, probed
from tutelage.settings.weak_strong import both_views, labelled_rows, view_of


@register("setting", "noisy_student")
class NoisyStudent(AbstractSetting[Batch]):
    r"""The student's noised view of each example must give its label, true or of the teacher.

    .. math:: \frac{1}{N} \Big[ \sum_{labelled} CE\big(y_n, f(\tilde x_n)\big)
        + \sum_{others} w_n \, CE\big(\sigma(t(x_n)), f(\tilde x_n)\big) \Big]

    where x is the clean view and :math:`\tilde x` the noised one, and w is 0 where the teacher's
    largest probability is below ``confidence``. Noise in the model (dropout, stochastic depth) is
    the student's own affair. Labelled and unlabelled examples come in one batch, any share of
    each, of two views (`tutelage.data.StrongViews`); for another round of the paper's loop, the
    student that came out is the next teacher.

    Xie, Luong, Hovy, Le: Self-training with Noisy Student improves ImageNet classification, 2019,
    arXiv:1911.04252.

    Deviations: the paper labels all images ahead, keeps the 130,000 surest of each class, and
    repeats those of classes with fewer. Here images stream, and ``balance`` weighs each kept one
    by how rarely its class was kept up to the batch before: mean count over its class's count,
    between 1/``most`` and ``most``.

    Args:
        student: Who learns, in train mode.
        teacher: Whatever answers a batch with outputs; sees clean views only.
        confidence: The least of the teacher's largest probability; 0.3 in the paper.
        hard: Its likeliest class alone is the label, and not its probabilities.
        balance: Weigh the teacher's labels by class.
        most: Of a class's weight.
        label_smoothing: Of true labels and the teacher's alike.

    Raises:
        RecipeError: An option is out of its range.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        *,
        confidence: float = 0.3,
        hard: bool = False,
        balance: bool = True,
        most: float = 10.0,
        label_smoothing: float = 0.0,
    ):
        check_student(student)
        self.student = student
        self.teacher = frozen(teacher)
        self.confidence = number_within(confidence, "noisy_student: confidence", least=0, most=1)
        self.most = number_within(most, "noisy_student: most", least=1)
        self.hard, self.balance, self.objective = hard, balance, CrossEntropy(label_smoothing)
        self.kept = Counts()

    def prepare(self, item: Batch) -> None:
        """Look at one batch; begin to count classes.

        Raises:
            DataError: The item is no batch of two views.
            RecipeError: The teacher does not answer batches.
            ShapeMismatch: One of the two cannot read this one, or they answer other classes.
        """
        pairs = both_views(item, "noisy_student")
        ours = probed(self.student, view_of(pairs, "strong")).logits
        theirs = dense(asked(self.teacher, view_of(pairs, "weak")), "noisy_student")
        if ours.shape != theirs.shape or ours.ndim != 2:
            raise RecipeError(
                f"noisy_student: the student answers {tuple(ours.shape)} and the teacher "
                f"{tuple(theirs.shape)}: both must give logits (N, C) of the same classes."
            )
        self.kept = Counts(ours.shape[-1]).to(ours.device)

    def updates(self, item: Batch) -> Iterator[Update]:
        """Label, then one update."""
        pairs = both_views(item, "noisy_student")
        with torch.no_grad():
            answer = dense(self.teacher(view_of(pairs, "weak")), "noisy_student").float()
        kept = (answer.softmax(-1).amax(-1) >= self.confidence) & ~labelled_rows(pairs)
        batch = replace(view_of(pairs, "strong"), targets=self.labels(pairs, answer, kept))
        yield Update(self.student, self.compare, batch)
        self.kept.values += torch.bincount(answer.argmax(-1)[kept], minlength=answer.shape[-1])

    def labels(self, pairs: Batch, answer: Tensor, kept: Tensor) -> Tensor:
        """Probabilities ``(N, C)``: true ones, the teacher's times their weights, or zeros."""
        classes = answer.shape[-1]
        named = answer.argmax(-1)
        made = F.one_hot(named, classes).float() if self.hard else answer.softmax(-1)
        weight = kept.float()
        if self.balance:
            counts = self.kept.values + 1  # as if one of each had been kept before
            share = counts.double().mean() / counts
            weight = weight * share.clamp(1 / self.most, self.most).float()[named]
        made = made * weight[:, None]
        if pairs.targets is None:
            return made
        true = pairs.targets
        if not true.is_floating_point():
            true = F.one_hot(true.clamp(min=0), classes)
        return torch.where(labelled_rows(pairs)[:, None], true.to(made), made)

    def compare(self, batch: Batch) -> Terms:
        """Cross entropy with labels of all kinds."""
        student = self.student(batch)
        terms: Terms = self.objective(student, student.detach(), batch)
        return terms
