"""One student of a plan: taught by a teacher, by kept answers, by nobody; or by labels alone."""

from tutelage.core.outputs import Answers
from tutelage.core.seeds import derive
from tutelage.data import labelled
from tutelage.models import Observed
from tutelage.objectives import CrossEntropy
from tutelage.recipe.arms import Desk, Trained, train_arm
from tutelage.recipe.kept import fixed_views
from tutelage.recipe.plan import Plan
from tutelage.settings import Alone


def student_of(
    made: Plan,
    network: Observed,
    teacher: Answers,
    seed: int,
    label: str,
    desk: Desk,
    *,
    may_collapse: bool = False,
) -> Trained:
    """Train it, or take it from the folder where it is finished already.

    Args:
        made: The plan.
        network: The teacher's network, of which a student may borrow modules.
        teacher: Who answers: that network, or its kept answers.
        seed: Of first weights, order, augmentation and dropout.
        label: Names the arm.
        desk: Folder and console.
        may_collapse: Whether a network that learnt nothing is a result.
    """
    return train_arm(
        label,
        lambda: made.learning(seed, network),
        lambda learner: made.setting(learner, teacher, seed),
        made.splits.train,
        train=made.train,
        seed=derive(seed, "run"),
        validation=made.splits.validation,
        desk=desk,
        fixed=fixed_views(made.cache),
        several=made.several,
        may_collapse=may_collapse,
    )


def baseline_arm(made: Plan, seed: int, label: str, desk: Desk) -> Trained:
    """The same student, first weights and order of examples, from labels alone."""
    assert made.baseline is not None
    return train_arm(
        label,
        lambda: made.student(seed),
        lambda learner: Alone(learner, CrossEntropy()),
        labelled(made.splits.train),
        train=made.baseline,
        seed=derive(seed, "run"),
        validation=made.splits.validation,
        desk=desk,
    )
