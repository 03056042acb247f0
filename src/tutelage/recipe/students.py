"""One student of a plan: taught by a teacher, by kept answers, by nobody; or by labels alone."""

from collections.abc import Callable
from dataclasses import replace

from tutelage.core.outputs import Answers
from tutelage.core.seeds import derive
from tutelage.data import labelled
from tutelage.models import Observed
from tutelage.objectives import CrossEntropy
from tutelage.recipe.arms import Desk, Trained, train_arm
from tutelage.recipe.headless import whole
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
    """The plan's student with its first weights, taught; see `taught_arm`.

    Args:
        made: The plan.
        network: The teacher's network, of which a student may borrow modules.
        teacher: Who answers: that network, or its kept answers.
        seed: Of first weights, order, augmentation and dropout.
        label: Names the arm.
        desk: Folder and console.
        may_collapse: Whether a network that learnt nothing is a result.
    """
    found = taught_arm(
        made,
        lambda: made.learning(seed, network),
        teacher,
        seed,
        label,
        desk,
        may_collapse=may_collapse,
    )
    return replace(found, model=whole(found.model))


def taught_arm(
    made: Plan,
    make: Callable[[], Observed],
    teacher: Answers,
    seed: int,
    label: str,
    desk: Desk,
    *,
    purpose: str = "run",
    may_collapse: bool = False,
) -> Trained:
    """Teach a network as the plan teaches, or take it from the folder where it is finished already.

    Args:
        made: The plan.
        make: Makes the network with the weights it starts from.
        teacher: Who answers.
        seed: Of order, augmentation and dropout, together with ``purpose``.
        label: Names the arm.
        desk: Folder and console.
        purpose: Another one draws other orders of the same seed.
        may_collapse: Whether a network that learnt nothing is a result.
    """
    return train_arm(
        label,
        make,
        lambda learner: made.setting(learner, teacher, seed),
        made.splits.train,
        train=made.train,
        seed=derive(seed, purpose),
        validation=made.splits.validation,
        desk=desk,
        fixed=fixed_views(made.cache),
        several=made.several,
        may_collapse=may_collapse,
    )


def baseline_arm(made: Plan, network: Observed, seed: int, label: str, desk: Desk) -> Trained:
    """The same student, first weights and order of examples, from labels alone.

    ``network`` is the teacher, of which a student may begin.
    """
    assert made.baseline is not None
    return train_arm(
        label,
        lambda: made.alone(seed, network),
        lambda learner: Alone(learner, CrossEntropy()),
        labelled(made.splits.train),
        train=made.baseline,
        seed=derive(seed, "run"),
        validation=made.splits.validation,
        desk=desk,
    )
