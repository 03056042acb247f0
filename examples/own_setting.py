"""A way of teaching of your own: deep mutual learning (Zhang et al., 2017, arXiv:1706.00384).

Peers learn in turn from the labels and from each other; the engine does everything else.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from tutelage import Batch, Learner, Observed, fit
from tutelage.core.outputs import Terms
from tutelage.engine import AbstractSetting, Record, Update, adamw
from tutelage.objectives import AbstractObjective, CrossEntropy, SoftTarget


class Mutual(AbstractSetting[Batch]):
    def __init__(self, peers: list[Learner], objective: AbstractObjective):
        self.peers, self.objective = peers, objective

    def updates(self, item: Batch) -> Iterator[Update]:
        for i, peer in enumerate(self.peers):
            # Each is updated before the next one looks: the next sees the changed peer.
            others = [other for other in self.peers if other is not peer]
            yield Update(peer, partial(self.compare, peer, others), item, name=f"peer{i}")

    def compare(self, peer: Learner, others: list[Learner], batch: Batch) -> Terms:
        mine, total = peer(batch), {}
        for other in others:
            terms = self.objective(mine, other(batch).detach(), batch)
            total = {k: total.get(k, 0) + v / len(others) for k, v in terms.items()}
        return total


torch.manual_seed(0)
inputs = torch.randn(256, 8)
batches = [Batch(part, part[:, :3].argmax(-1)) for part in inputs.split(64)]
peers = [
    Learner(
        Observed(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))),
        adamw(learning_rate=0.01),
    )
    for _ in range(3)
]
record = Record()
fit(Mutual(peers, CrossEntropy() + SoftTarget(1.0)), batches, steps=60, hooks=[record])
for name in ("peer0", "peer1", "peer2"):
    losses = [terms["ce"] for _, who, terms in record.updates if who == name]
    print(name, f"{losses[0]:.3f} -> {losses[-1]:.3f}")
    assert losses[-1] < losses[0]
