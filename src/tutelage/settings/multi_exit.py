"""One student with several exits: each learns from the labels and from the last exit.

Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher: Improve the Performance of Convolutional
Neural Networks via Self Distillation, 2019, arXiv:1905.08094.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers, Outputs, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.models.exits import exits_of, with_exits
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.response.soft_target import SoftTarget
from tutelage.settings.probing import asked, check_student, frozen, probed


@register("setting", "multi_exit")
class MultiExit(AbstractSetting[Batch]):
    r"""All exits of a `tutelage.models.WithExits` learn in one update.

    .. math:: w_K L(z_K) + \sum_{k<K} w_k \big[ (1 - \alpha) L(z_k) + \alpha \, T^2
        KL(\sigma(z_K / T) \| \sigma(z_k / T)) \big]

    where L is the objective (usually `CrossEntropy`) of exit k's logits z, and the last one's are
    detached: no exit pulls its teacher down.

    Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher: Improve the Performance of Convolutional
    Neural Networks via Self Distillation, 2019, arXiv:1905.08094. Gradient equilibrium: Li, Zhang,
    Qi, Yang, Huang: Improved Techniques for Training Adaptive Deep Networks, 2019,
    arXiv:1908.06294.

    Deviations: without the first paper's matching of features (1e-6 of its loss). In the second
    one's own setting ``share`` is 0.9; with few labels that starves the early exits.

    Args:
        student: Its model is an `Observed` of a `WithExits`.
        objective: What every exit should become; of logits alone.
        teacher: Whom the objective asks, the same for every exit; None where it asks nobody.
        share: α, of the last exit's answer in what the others learn; 0 for none.
        temperature: T.
        weights: w, one an exit, the last one's last; 1 each where left out.
        equilibrium: Rescale gradients at the branches.

    Raises:
        RecipeError: An option is out of its range; the objective reads features, or has no teacher
            to ask.
        ModelError: The student has one exit.
    """

    def __init__(
        self,
        student: Learner,
        objective: AbstractObjective,
        teacher: Answers | None = None,
        *,
        share: float = 0.1,
        temperature: float = 3.0,
        weights: Sequence[float] | None = None,
        equilibrium: bool = True,
    ):
        check_student(student)
        exits = with_exits(student.model)
        exits.equilibrium = equilibrium
        if any(objective.taps) or any(objective.borrows):
            raise RecipeError(
                "multi_exit asks its objective at every exit, and this one reads features: use "
                "one of logits alone (ce, kd)."
            )
        if objective.needs_teacher and teacher is None:
            raise RecipeError("this objective needs a teacher: give one, or learn from targets.")
        self.student, self.objective, self.names = student, objective, exits.names
        self.teacher = frozen(teacher)
        self.share = number_within(share, "multi_exit: share", least=0, most=1)
        self.distil = SoftTarget(temperature)
        self.weights = [1.0] * (len(self.names) + 1) if weights is None else list(weights)
        if len(self.weights) != len(self.names) + 1:
            raise RecipeError(
                f"multi_exit: weights must be {len(self.names) + 1}, one an exit with the last, "
                f"got {len(self.weights)}."
            )
        for weight in self.weights:
            number_within(weight, "multi_exit: each of weights", least=0)

    def prepare(self, item: Batch) -> None:
        """Show the exits; bind the objective.

        Raises:
            DataError: The item is no batch.
            ShapeMismatch: Student or teacher cannot read it.
        """
        self.student.model.tap(self.names)
        answer = probed(self.student, item)
        self.objective.bind(answer, asked(self.teacher, item) if self.teacher else answer)
        self.student.adopt(self.objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update an item."""
        yield Update(self.student, self.compare, item)
        self.objective.advance()

    def compare(self, batch: Batch) -> Terms:
        """What every exit has to learn, by exit; the last one's terms have plain names."""
        exits = exits_of(self.student.model, self.student(batch))
        last = Outputs(exits[-1].detach())
        answer = self.teacher(batch).detach() if self.teacher else last
        terms: dict[str, Tensor] = {}
        for number, (logits, weight) in enumerate(zip(exits, self.weights, strict=True)):
            early = number < len(self.names)
            start = f"exit{number}_" if early else ""
            scale = weight * (1 - self.share) if early else weight
            for name, term in self.objective(Outputs(logits), answer, batch).items():
                terms[f"{start}{name}"] = scale * term
            if early and self.share:
                [pulled] = self.distil(Outputs(logits), last, batch).values()
                terms[f"{start}last"] = weight * self.share * pulled
        return terms
