"""Networks of any size that all learn from one target made of what they say together.

Guo, Wang, Wu, Yu, Liang, Hu, Luo: Online Knowledge Distillation via Collaborative Learning, 2020,
https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch, suggest
from tutelage.core.outputs import Outputs, Terms, dense
from tutelage.engine.learner import Learner
from tutelage.engine.options import whole_number
from tutelage.engine.setting import AbstractSetting, Update
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.objectives.response.soft_target import SoftTarget
from tutelage.objectives.units import class_numbers, raised
from tutelage.settings.kdcl_targets import (
    general_weights,
    linear_target,
    min_logit_target,
    naive_target,
)
from tutelage.settings.peers import Shared, check_peers
from tutelage.settings.probing import probe, probed
from tutelage.settings.views import View, views
from tutelage.teachers.ensemble import mean_of_probabilities

Way = Literal["naive", "linear", "min_logit", "general"]
_TARGETS = {"naive": naive_target, "linear": linear_target, "min_logit": min_logit_target}


class _Weights(nn.Module):
    """What the general way remembers."""

    values: Tensor
    step: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("values", torch.full((count,), 1 / count))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))


class Collaborative(AbstractSetting[Batch]):
    r"""KDCL: all answer, a target is made of all answers, and all learn from it.

    .. math:: L_k = CE(z_k, y) + w \, T^2 \, KL(t^T \| p_k^T), \quad t = h(z_1, \dots, z_K)

    Where the batch holds versions of its examples (``Batch.variant``), network k answers version
    k (modulo their number): the target is made of what was seen under different distortions.
    Everybody answers once a batch, before anybody learns.

    Neighbours: `Mutual` has no common target, so a weak network also teaches the strong one.

    Source: the equations are as later papers restate them; they were not held against the
    original's text.

    Deviations: the paper's h is per example here, also in the naive way; T and w are options.

    Args:
        peers: At least two learners with parameters of their own; networks may differ.
        ensemble: The target h: `naive_target`, `linear_target`, `min_logit_target`, or
            ``general``: a mixture by `general_weights`, which are taken anew on ``held_out``.
        temperature: T > 0.
        weight: w, of the term with the common target.
        held_out: Labelled batches that nobody learns from, for ``general``.
        every: Batches between two looks at them: an epoch, in the paper.

    Raises:
        RecipeError: Too few peers, shared parameters, or options that do not fit.
    """

    def __init__(
        self,
        peers: Sequence[Learner],
        *,
        ensemble: Way = "min_logit",
        temperature: float = 2.0,
        weight: float = 1.0,
        held_out: Sequence[Batch] = (),
        every: int = 100,
    ):
        self.peers, self.ensemble = check_peers(peers), ensemble
        if ensemble not in get_args(Way):
            raise RecipeError(
                f"there is no ensemble {ensemble!r}. {suggest(str(ensemble), get_args(Way))}"
            )
        if (ensemble == "general") != bool(held_out):
            raise RecipeError(
                "held_out batches are for ensemble 'general', which needs some, and for no other: "
                f"got {len(held_out)} for {ensemble!r}."
            )
        self.own, self.common = CrossEntropy(), weight * SoftTarget(temperature)
        self.weights = _Weights(len(self.peers))
        self.held_out, self.every = list(held_out), whole_number(every, "every")

    def prepare(self, item: Batch) -> None:
        """See that all read the item and answer alike.

        Raises:
            DataError: The item is no batch, or lacks versions of an example.
            ShapeMismatch: A peer cannot read it, or peers have other classes.
        """
        seen = views(item, len(self.peers)) if isinstance(item, Batch) else [View(item)]
        first = probed(self.peers[0], seen[0].batch).logits
        for k, (peer, view) in enumerate(zip(self.peers, seen, strict=True)):
            shape = probed(peer, view.batch).logits.shape
            if shape != first.shape:
                raise ShapeMismatch(
                    f"peers must answer alike: peer 0 gives logits {tuple(first.shape)} and peer "
                    f"{k} {tuple(shape)}: give all the same classes."
                )
        self.weights.to(first.device)

    def updates(self, item: Batch) -> Iterator[Update]:
        """One update a peer."""
        if self.ensemble == "general" and int(self.weights.step) % self.every == 0:
            self.weigh()
        answers = Shared(self.answer)
        for k, peer in enumerate(self.peers):
            yield Update(peer, partial(self.compare, answers, k), item, f"peer{k}")
        self.weights.step += 1

    def compare(
        self, answers: Shared[tuple[list[View], list[Outputs], Outputs]], k: int, batch: Batch
    ) -> Terms:
        """Peer k under the labels and the common target."""
        seen, said, target = answers(k, batch)
        own = self.own(said[k], target, seen[k].batch)
        return {**own, **self.common(said[k], target, seen[k].batch)}

    @torch.no_grad()
    def weigh(self) -> None:
        """Take the weights of the general way anew."""
        place = self.weights.values.device
        found = []
        for batch in (each.to(place) for each in self.held_out):
            said = torch.stack([raised(probe(peer, batch).logits) for peer in self.peers])
            targets = class_numbers(batch.targets, said[0], "kdcl")
            found.append((said[:, targets >= 0], targets[targets >= 0]))
        logits, labels = zip(*found, strict=True)
        self.weights.values.copy_(general_weights(torch.cat(logits, 1), torch.cat(labels)))

    def answer(self, batch: Batch) -> tuple[list[View], list[Outputs], Outputs]:
        """Who saw what, what each says, and the target made of it."""
        seen = views(batch, len(self.peers))
        said = [peer(view.batch) for peer, view in zip(self.peers, seen, strict=True)]
        logits = [raised(dense(each, "kdcl")).detach() for each in said]
        if self.ensemble == "general":
            return seen, said, Outputs(mean_of_probabilities(logits, self.weights.values))
        targets = class_numbers(seen[0].batch.targets, logits[0], "kdcl")
        return seen, said, Outputs(_TARGETS[self.ensemble](torch.stack(logits), targets))
