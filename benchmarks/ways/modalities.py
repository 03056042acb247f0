"""A student with a poorer camera than its teacher: 7 x 7 pixels where the teacher sees all 28 x 28.

`poor_alone` is the control of `cross_modal`: the gain over the student alone on whole images, which
the table shows for all ways, is not a fair one here; the difference of these two rows is.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from benchmarks.pairings import Setting
from benchmarks.ways import Way
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.data import Loader
from tutelage.engine import Learner, fit, one_cycle, sgd
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives import CrossEntropy, SoftTarget
from tutelage.settings import Alone, CrossModal


class Poor(nn.Module):
    """A quarter of the resolution each way, shown at the former size."""

    def forward(self, images: Tensor) -> Tensor:
        """Means of 4 x 4 pixels, each repeated."""
        return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4.0)


class Paired:
    """A loader's batches with both views of each example, by name."""

    def __init__(self, loader: Loader):
        self.loader, self.poor = loader, Poor()

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from one of them on."""
        for batch in self.loader.epoch(number, start):
            both = {"whole": batch.inputs, "poor": self.poor(batch.inputs)}
            yield Batch(both, batch.targets, batch.mask, batch.ids)


def cross_modal(setting: Setting, teacher: Frozen, seed: int) -> Observed:
    """The teacher sees whole images, the student poor ones; tested on poor ones."""
    torch.manual_seed(seed)
    network = setting.student()
    student = _learner(setting, network, setting.intake())
    objective = CrossEntropy() + 9.0 * SoftTarget(4.0)
    made = CrossModal(student, teacher, objective, student_inputs="poor", teacher_inputs="whole")
    fit(made, Paired(_loader(setting, seed)), steps=setting.steps, seed=seed)
    return Observed(network, intake=nn.Sequential(Poor(), setting.intake()))


def poor_alone(setting: Setting, teacher: Frozen, seed: int) -> Observed:
    """The student on poor images under its labels: the control of `cross_modal`."""
    torch.manual_seed(seed)
    student = _learner(setting, setting.student(), nn.Sequential(Poor(), setting.intake()))
    fit(Alone(student, CrossEntropy()), _loader(setting, seed), steps=setting.steps, seed=seed)
    return student.model


def _learner(setting: Setting, network: nn.Module, intake: nn.Module) -> Learner:
    model = Observed(network, intake=intake)
    return Learner(model, sgd(learning_rate=setting.rate), schedule=one_cycle(), clip=5.0)


def _loader(setting: Setting, seed: int) -> Loader:
    return Loader(setting.splits.train, setting.batch, seed=seed)


WAYS: dict[str, Way] = {"cross_modal": cross_modal, "poor_alone": poor_alone}
