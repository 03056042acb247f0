"""Several networks that teach each other while they learn, without a teacher.

Zhang, Xiang, Hospedales, Lu: Deep Mutual Learning, 2017, arXiv:1706.00384.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, Terms
from tutelage.core.registry import register
from tutelage.engine.learner import Learner
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.objectives.response.soft_target import SoftTarget
from tutelage.settings.peers import Shared, averaged, check_peers, copies_of, listen
from tutelage.settings.probing import lend, probed


@register("setting", "mutual")
class Mutual(AbstractSetting[Batch]):
    r"""DML: every peer learns from the labels and from what all others answer.

    .. math:: L_k = CE(z_k, y) + \frac{1}{K - 1} \sum_{j \neq k} KL(p_j \| p_k)

    Nobody learns through another's answer. As published, peers are updated in turn: before each
    update all answer again, so the second learns from the first as it has become. That is K
    forward passes of K networks. With ``joint`` they answer once, before the first update, and
    every update uses those old answers: K passes, and peers that do not depend on their order.
    The joint update is exactly that of one gradient step on the sum of all L, others' answers
    held fixed; the one in turn agrees with it to first order in the learning rate.

    Neighbours: `Collaborative` makes one target of all answers; `OneBranches`, `OKDDip` and
    `PeerCollaborative` let branches share their first layers.

    Deviations: the paper says T = 1 and the plain mean over the others; other objectives may be
    given. Answering for another does not move a peer's running BatchNorm statistics, which
    published code moves K times a batch.

    Args:
        peers: At least two learners with parameters of their own; networks may differ.
        objective: What each becomes under each other's answer; the mean over the others is
            taken. ``CrossEntropy() + SoftTarget(1)`` where left out. Each peer gets a copy.
        joint: One answer of each for all updates.

    Raises:
        RecipeError: Too few peers, shared parameters, or an objective that borrows modules.
    """

    def __init__(
        self,
        peers: Sequence[Learner],
        objective: AbstractObjective | None = None,
        *,
        joint: bool = False,
    ):
        self.peers, self.joint = check_peers(peers), joint
        objective = objective or CrossEntropy() + SoftTarget(1.0)
        if objective.borrows[1]:
            raise RecipeError(
                f"this objective runs modules of the teacher ({', '.join(objective.borrows[1])}), "
                "and peers are several teachers: take one that compares answers."
            )
        self.objectives = copies_of(objective, len(self.peers))
        self._tap()

    def prepare(self, item: Batch) -> None:
        """Bind each peer's objective to its shapes and those of the next peer.

        Raises:
            DataError: The item is no batch.
            ShapeMismatch: A peer cannot read it, or two do not answer alike.
        """
        self._tap()
        answers = [probed(peer, item) for peer in self.peers]
        for k, (peer, objective) in enumerate(zip(self.peers, self.objectives, strict=True)):
            lend(objective, peer, None)
            objective.bind(answers[k], answers[(k + 1) % len(answers)])
            peer.adopt(objective)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update a peer."""
        answers = Shared(self.answer)
        for k, peer in enumerate(self.peers):
            learn = partial(self.together, answers, k) if self.joint else partial(self.in_turn, k)
            yield Update(peer, learn, item, f"peer{k}")
            self.objectives[k].advance()

    def in_turn(self, k: int, batch: Batch) -> Terms:
        """All answer now; peer k learns."""
        answers = [
            peer(batch) if j == k else listen(peer, batch) for j, peer in enumerate(self.peers)
        ]
        return self.compare(k, answers, batch)

    def together(self, answers: Shared[list[Outputs]], k: int, batch: Batch) -> Terms:
        """All have answered before anybody learnt; peer k learns."""
        return self.compare(k, answers(k, batch), batch)

    def compare(self, k: int, answers: list[Outputs], batch: Batch) -> Terms:
        """The mean of what the objective says of peer k under each of the others."""
        own, objective = answers[k], self.objectives[k]
        others = [answer.detach() for j, answer in enumerate(answers) if j != k]
        return averaged([objective(own, other, batch) for other in others])

    def answer(self, batch: Batch) -> list[Outputs]:
        """What each says."""
        return [peer(batch) for peer in self.peers]

    def _tap(self) -> None:
        for peer in self.peers:  # each is a student in its own update, a teacher in others'
            peer.model.tap([*self.objectives[0].taps[0], *self.objectives[0].taps[1]])
