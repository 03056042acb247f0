"""Branches that learn from a classifier over all of them, and from each other's past.

Wu, Gong: Peer Collaborative Learning for Online Knowledge Distillation, 2020, arXiv:2006.04147.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.settings.branches import answers_of, check_branched, exchange_of, paths_of, vectors
from tutelage.settings.peers import averaged, summed
from tutelage.settings.probing import probed
from tutelage.settings.views import View, views


class _Count(nn.Module):
    """Updates so far."""

    done: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))


@register("setting", "pcl")
class PeerCollaborative(AbstractSetting[Batch]):
    r"""PCL: a peer ensemble teacher over joined features, and peer mean teachers.

    .. math:: \sum_k CE(z_k, y) + CE(z_e, y) + w(t) \, T^2 \sum_k \Big[ KL(p_e^T \| p_k^T) +
        \frac{1}{K - 1} \sum_{j \neq k} KL(\bar p_j^T \| p_k^T) \Big]

    z_e is what one more linear layer makes of the features of all peers side by side; it learns by
    its cross entropy, and is held fixed where peers learn from it. The mean teachers are one
    moving average of the whole network, after update g

    .. math:: \bar\theta_g = \phi_g \bar\theta_{g-1} + (1 - \phi_g) \theta_g, \quad
        \phi_g = \min(1 - 1/g, \phi)

    Where the batch holds versions of its examples (``Batch.variant``), peer k and its mean see
    version k (modulo their number). ``setting.mean.model.single()`` is the averaged network of
    branch 0, ``student.model.model.single()`` the learnt one: either can be deployed.

    Neighbours: `OneBranches` mixes logits; `Mutual` learns from others as they are now.

    Source: the published abstract and later papers that restate the equations; they were not held
    against the full text.

    Deviations: the mean teachers answer in eval mode, with averaged BatchNorm statistics. All rows
    run through all branches and each branch's own are kept: one forward pass, at the price of
    unused answers where there are versions.

    Args:
        student: Its model is a `tutelage.models.Branched` of two branches or more.
        feature: What is joined: a path inside each branch; its mean over places.
        temperature: T.
        weight: Of the divergences, at the end of the ramp.
        ramp: Updates until then, from 0.0067 (the paper: 80 epochs); 0 for the whole weight at
            once.
        decay: The largest share of the old average, in [0, 1).

    Raises:
        MissingFeature: A branch has no such feature.
        RecipeError: The student has no branches, or options are out of range.
    """

    def __init__(
        self,
        student: Learner,
        *,
        feature: str = "linear:in",
        temperature: float = 3.0,
        weight: float = 1.0,
        ramp: int = 0,
        decay: float = 0.999,
    ):
        self.count = check_branched(student)
        self.student, self.own, self.feature = student, CrossEntropy(), feature
        self.exchange = exchange_of(temperature, weight, ramp)
        self.decay = number_within(decay, "decay", least=0, below=1)
        self.mean = copy.deepcopy(student.model).requires_grad_(False).eval()
        self.updated = _Count()
        self.classifier: nn.Linear | None = None
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Make the classifier over joined features.

        Raises:
            DataError: The item is no batch, or lacks versions of an example.
            RecipeError: The branches give no logits ``(N, C)``.
            ShapeMismatch: The student cannot read it.
        """
        self._tap()
        answer = probed(self.student, item)
        views(item, self.count)
        if answer.logits.ndim != 2:
            raise RecipeError(
                f"pcl joins one feature an example, and logits are {tuple(answer.logits.shape)}: "
                "take 'one' or 'okddip' for several answers an example."
            )
        self.mean.to(answer.logits.device)
        width = sum(vectors(answer[path]).shape[-1] for path in self._features)
        if self.classifier is None:
            self.classifier = nn.Linear(width, answer.logits.shape[-1]).to(answer.logits.device)
        self.student.adopt(self.classifier)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update of everybody and the classifier; then the averages follow."""
        yield Update(self.student, self.compare, item)
        self.exchange.advance()
        self.follow()

    def compare(self, batch: Batch) -> Terms:
        """Everybody under the labels; peers under the ensemble and the others' averages."""
        assert self.classifier is not None
        seen, answer = views(batch, self.count), self.student(batch)
        with torch.no_grad():
            before = self.mean(batch)
        peers, means = self._each(answer, seen), self._each(before, seen)
        features = zip(self._features, seen, strict=True)
        joined = [vectors(view.pick(answer[path])) for path, view in features]
        ensemble = Outputs(self.classifier(torch.cat(joined, -1)))
        teacher, terms, past = ensemble.detach(), [], []
        for k, (peer, view) in enumerate(zip(peers, seen, strict=True)):
            others = [mean for j, mean in enumerate(means) if j != k]
            terms += [self.own(peer, teacher, view.batch), self.exchange(peer, teacher, view.batch)]
            past.append(averaged([self.exchange(peer, mean, view.batch) for mean in others]))
        own = self.own(ensemble, teacher, seen[0].batch)["ce"]
        return {**summed(terms), "kd_mean": summed(past)["kd"], "ce_ensemble": own}

    @torch.no_grad()
    def follow(self) -> None:
        """Let the averages take one step after the student."""
        self.updated.done += 1
        decay = min(1 - 1 / int(self.updated.done), self.decay)
        now = self.student.model.state_dict()
        for name, old in self.mean.state_dict().items():
            if old.is_floating_point():
                old.lerp_(now[name], 1 - decay)
            else:
                old.copy_(now[name])

    def _each(self, outputs: Outputs, seen: Sequence[View]) -> list[Outputs]:
        """What each branch answered to its own version."""
        said = answers_of(outputs, self.count)
        return [Outputs(view.pick(one.logits)) for one, view in zip(said, seen, strict=True)]

    @property
    def _features(self) -> list[str]:
        return paths_of(self.count, self.feature)

    def _tap(self) -> None:
        self.student.model.tap([*paths_of(self.count), *self._features])
        self.mean.tap(paths_of(self.count))
