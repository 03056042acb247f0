"""A loss of your own: a name and a formula. It adds and scales like those of the house."""

import torch
from torch import Tensor, nn

from tutelage import Batch, Frozen, Learner, Observed, Outputs, fit
from tutelage.core.outputs import dense
from tutelage.core.reduce import mean
from tutelage.engine import Record, adamw
from tutelage.objectives import AbstractLoss, CrossEntropy
from tutelage.settings import Classic
from tutelage.testing import objective_contracts


class LogitDistance(AbstractLoss):
    """Mean squared difference of centred logits."""

    name = "distance"
    divergence = True  # zero, with zero gradient, where student and teacher agree

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        # `dense` refuses a teacher that keeps only its top k answers, in one line.
        logits = (dense(answer, self.name) for answer in (student, teacher))
        s, t = (z - z.mean(-1, keepdim=True) for z in logits)
        return mean((s - t).square().mean(-1), batch)


for sentence, holds in objective_contracts(LogitDistance).items():
    holds()  # raises where the loss breaks a promise
    print("holds:", sentence)

torch.manual_seed(0)
inputs = torch.randn(256, 8)
batches = [Batch(part, part[:, :3].argmax(-1)) for part in inputs.split(64)]
student = Learner(Observed(nn.Linear(8, 3)), adamw(learning_rate=0.05))
teacher = Frozen(Observed(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))))
record = Record()
objective = 0.5 * CrossEntropy() + 2.0 * LogitDistance()
fit(Classic(student, teacher, objective), batches, steps=60, hooks=[record])
print("from", record.updates[0][2], "to", record.updates[-1][2])
assert record.updates[-1][2]["distance"] < record.updates[0][2]["distance"]
