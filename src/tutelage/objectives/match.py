"""Feature matching: make chosen student features look like chosen teacher features.

Romero, Ballas, Kahou, Chassang, Gatta, Bengio: FitNets: Hints for Thin Deep Nets, 2014,
arXiv:1412.6550.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build, get, register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.pairs import Pairs, pairs_of, paths_of
from tutelage.objectives.units import average, paired

Maker = Callable[[Tensor, Tensor], nn.Module]
"""From one student feature and one teacher feature, a module that maps the first to the second."""


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean squared difference of each example's features.

    .. math:: \frac{1}{D} \sum_d (s_d - t_d)^2

    Args:
        student: ``(N, ...)``.
        teacher: The same shape.

    Returns:
        ``(N, ...)`` unreduced squares, in squared units of the feature; their mean is the loss.

    Example:
        >>> squared_error(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor([[0., 4.]])
    """
    student, teacher = paired(student, teacher, "match")
    return (student - teacher).square()


@register("objective", "match")
class Match(AbstractLoss):
    r"""FitNet hints: the squared error between paired features, through an adapter.

    .. math:: \sum_{(i, j) \in pairs} \mathrm{mean} \, \big(a_{ij}(s_i) - t_j\big)^2

    The mean is over all numbers of the teacher's feature, the sum over pairs. The adapter
    (regressor) a is trained with the student and is not part of it afterwards.

    Neighbours: `Attention` compares maps without channels, and needs no adapter; `Similarity`
    compares relations between examples. On pairs of unlike architecture hints can be worse than
    no teacher at all (MobileNetV2 under a VGG or ResNet: 64.1 against 64.6 alone).

    Suggested weight: 100 (RepDistiller, one hint in the middle) beside cross entropy.

    Deviations: one stage, where the paper trains up to the hint first; adapters are linear, where
    ports add BatchNorm and ReLU (a ReLU cannot reach a teacher's negative features).

    Args:
        pairs: Student feature to teacher feature, or to several.
        adapter: ``auto`` looks at the shapes; else the name of a registered adapter, or
            ``{name: options}``, or (from Python) a function that makes one; None asks for
            equal shapes and compares as they are.
    """

    name = "match"
    needs_features = True
    example: ClassVar[Mapping[str, Any]] = {"pairs": {"feature": "feature"}}

    def __init__(
        self,
        pairs: Pairs,
        adapter: str | Mapping[str, Mapping[str, Any] | None] | Maker | None = "auto",
    ):
        super().__init__()
        self.pairs = pairs_of(pairs, self.name)
        self.taps = paths_of(self.pairs)
        self.divergence = adapter is None
        self.adapters = nn.ModuleDict()
        self._maker = _maker(adapter)

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Make one adapter a pair, from torch's random state, in the student feature's precision.

        An adapter that is there already and fits (from a run before this one) stays as it is.

        Raises:
            ShapeMismatch: An adapter cannot give the teacher's shape.
        """
        student, teacher = student.float(), teacher.float()
        for ours, theirs in self.pairs:
            s, t = student[ours], teacher[theirs]
            if self._fits(_key(ours, theirs), s, t):
                continue
            try:
                adapter = self._maker(s, t).to(device=s.device, dtype=s.dtype)
                with torch.no_grad():
                    shown = adapter(s).shape
            except ShapeMismatch as error:
                raise ShapeMismatch(f"match of {ours!r} with {theirs!r}: {error}") from error
            if shown != t.shape:
                raise ShapeMismatch(
                    f"match: student {ours!r} gives {tuple(shown)} where teacher {theirs!r} gives "
                    f"{tuple(t.shape)}: choose another pair, or another adapter (auto)."
                )
            self.adapters[_key(ours, theirs)] = adapter

    def _fits(self, key: str, student: Tensor, teacher: Tensor) -> bool:
        """Whether there is an adapter under ``key`` that still leads from one to the other."""
        if key not in self.adapters:
            return False
        adapter = self.adapters[key].to(device=student.device, dtype=student.dtype)
        try:
            with torch.no_grad():
                return bool(adapter(student).shape == teacher.shape)
        except RuntimeError:  # made for features of another shape
            return False

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Sum over pairs of the mean over examples."""
        if len(self.adapters) == 0:
            raise RecipeError("match is not bound yet: call bind(student, teacher) on a probe.")
        total = student.logits.new_zeros(())
        for ours, theirs in self.pairs:
            adapted = self.adapters[_key(ours, theirs)](student[ours])
            total = total + average(squared_error(adapted, teacher[theirs]), batch, self.name)
        return total


def _key(ours: str, theirs: str) -> str:
    # torch forbids dots in the names of modules.
    return f"{ours}>{theirs}".replace(".", "/")


def _build(
    name: str, options: Mapping[str, Any] | None, student: Tensor, teacher: Tensor
) -> nn.Module:
    made: nn.Module = build("adapter", name, options, student=student, teacher=teacher)
    return made


def _maker(adapter: str | Mapping[str, Mapping[str, Any] | None] | Maker | None) -> Maker:
    if adapter is None:
        adapter = "identity"
    if isinstance(adapter, str):
        adapter = {adapter: None}
    if isinstance(adapter, Mapping):
        if len(adapter) != 1:
            raise RecipeError(
                f"match: adapter must be one name, or one name with options, got {adapter!r}."
            )
        [(name, options)] = adapter.items()
        if options is not None and not isinstance(options, Mapping):
            raise RecipeError(
                f"match: options of the adapter {name!r} must be by name, such as "
                f"{{bias: false}}, got {options!r}."
            )
        get("adapter", name)  # refuse a wrong name now, not at the first batch
        return partial(_build, name, options)
    if not callable(adapter):
        raise RecipeError(
            f"match: adapter must be a name, a name with options, or a function, got {adapter!r}."
        )
    return adapter
