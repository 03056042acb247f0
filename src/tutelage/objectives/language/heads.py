r"""Two language models compared through their own heads, from hidden states alone.

Hsu, Dai, Kothapalli, Song, Tang, Zhu, Shimizu, Sahni, Ning, Chen: Liger Kernel: Efficient Triton
Kernels for LLM Training, 2024, arXiv:2410.10989.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.language.divergences import parts_of
from tutelage.objectives.language.linear_head import linear_divergence
from tutelage.objectives.language.sparse import sparse_linear_divergence
from tutelage.objectives.response.buckets import at_one
from tutelage.objectives.units import number, whole


@register("objective", "linear_head")
class LinearHead(AbstractLoss):
    r"""One-pass linear head: a divergence of two language models without their logits.

    .. math:: T^2 D(p^T \| q^T) - \lambda \log q_y, \quad \text{mean over tokens}
        \quad (linear\_divergence)

    It taps what both heads read, borrows the heads, and multiplies them a few rows at a time; the
    gradient is formed on the way. Memory does not grow with the number of tokens, but for the
    hidden states themselves. A teacher of sparse answers (a cache of its top k with tail) has no
    head to multiply: with ``teacher: null`` those are compared over k + 1 buckets, or with their
    draws (`sparse_linear_divergence`).

    Neighbours: `SoftTarget`, `ReverseKL`, `JensenShannon`, `SkewKL`, `SkewReverseKL` and
    `AlphaBeta` are the same divergences of logits that are there already, `CrossEntropy` the term
    with the labels.

    Suggested weight: 1 alone, forward at T = 1, or with cross_entropy of 0.5 to 1 beside it.

    Scale: that of the neighbours: sum over classes, mean over tokens, T squared inside. The weight
    of the labels' term is an option because both terms share one pass and one gradient.

    Traps: a model that answers with logits has made them already, and nothing is saved: let its
    reader stop before the head. What a model does after its head (soft-capping, a scale, a second
    bias) is not seen. Vocabularies of different sizes are compared over the smaller, which is right
    for padding within one family only. The teacher's hidden states and head are taken as constants.
    Sparse answers are of temperature 1, and refused at another.

    Args:
        student: Student feature that its head reads, ``(N, T, H)``, such as ``lm_head:in``.
        teacher: The teacher's, likewise; None where its answers are sparse.
        student_head: Path of the student's head, a linear module, borrowed: it learns.
        teacher_head: Path of the teacher's; None where its answers are sparse.
        divergence: ``forward``, ``reverse``, ``js``, ``skew``, ``skew_reverse`` or ``alpha_beta``.
        temperature: T > 0.
        alpha: Share or power of ``skew``, ``skew_reverse`` (0.1) and ``alpha_beta`` (0.8).
        beta: Share or power of ``js`` (0.5) and ``alpha_beta`` (0.3).
        cross_entropy: lambda, at least 0; above 0 it needs targets.
        vocabulary: How many leading classes take part; all that both have if None.
        tile_rows: Tokens that are looked at together; by the vocabulary if None.
    """

    name = "linear_head"
    needs_features = True
    example: ClassVar[Mapping[str, Any]] = {
        "student": "feature",
        "teacher": "feature",
        "student_head": "head",
        "teacher_head": "head",
    }

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        student_head: str = "lm_head",
        teacher_head: str | None = None,
        *,
        divergence: Literal[
            "forward", "reverse", "js", "skew", "skew_reverse", "alpha_beta"
        ] = "forward",
        temperature: float = 1.0,
        alpha: float | None = None,
        beta: float | None = None,
        cross_entropy: float = 0.0,
        vocabulary: int | None = None,
        tile_rows: int | None = None,
    ):
        super().__init__()
        theirs = [] if teacher is None and teacher_head is None else [teacher, teacher_head]
        for path in (student, student_head, *theirs):
            if not isinstance(path, str) or not path:
                raise RecipeError(
                    f"linear_head: features and heads are named by path, got {path!r}"
                    + (": give teacher and teacher_head, or neither." if path is None else ".")
                )
        parts_of(divergence, alpha, beta, self.name)
        self.taps = ([student], [] if teacher is None else [teacher])
        self.borrows = ([student_head], [] if teacher_head is None else [teacher_head])
        self.options: dict[str, Any] = {"divergence": divergence, "alpha": alpha, "beta": beta}
        self.options["temperature"] = number(temperature, "temperature", self.name, above=0)
        for option, value in (("vocabulary", vocabulary), ("tile_rows", tile_rows)):
            self.options[option] = None if value is None else whole(value, option, self.name)
        self.cross_entropy = number(cross_entropy, "cross_entropy", self.name, least=0)
        self.needs_targets = self.cross_entropy > 0
        self.divergence = self.cross_entropy == 0

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Mean over tokens, the whole of it in one pass."""
        ours = linear_of(self.lent.student(self.borrows[0][0]), self.borrows[0][0], self.name)
        common: dict[str, Any] = {
            "mask": batch.mask,
            "labels": batch.targets if self.needs_targets else None,
            "cross_entropy": self.cross_entropy,
            "student_bias": ours.bias,
        }
        hidden = student[self.taps[0][0]]
        if not self.taps[1]:
            return self._sparse(hidden, ours.weight, teacher, common)
        theirs = linear_of(self.lent.teacher(self.borrows[1][0]), self.borrows[1][0], self.name)
        return linear_divergence(
            hidden,
            ours.weight,
            teacher[self.taps[1][0]],
            theirs.weight,
            teacher_bias=theirs.bias,
            **common,
            **self.options,
        )

    def _sparse(
        self, hidden: Tensor, weight: Tensor, teacher: Outputs, common: Mapping[str, Any]
    ) -> Tensor:
        """Against the teacher's kept answers."""
        if not isinstance(teacher, SparseOutputs):
            raise RecipeError(
                "linear_head without teacher and teacher_head needs sparse answers, and this "
                "teacher gives logits: keep its answers with form 'top', or name both paths."
            )
        options = dict(self.options)
        at_one(teacher, options.pop("temperature"), self.name)
        return sparse_linear_divergence(hidden, weight, teacher, **common, **options)


def linear_of(head: nn.Module, path: str, asker: str) -> nn.Linear:
    """The head itself, where it is nothing but a linear module.

    Raises:
        RecipeError: It is another module, or has modules inside (LoRA, a parametrisation), which a
            product with its weight would leave out.
    """
    if isinstance(head, nn.Linear) and not list(head.children()):
        return head
    inside = ", ".join(name for name, _ in head.named_children())
    raise RecipeError(
        f"{asker} multiplies the weight of a linear head itself, and {path!r} is a "
        f"{type(head).__name__}{f' with {inside} inside' if inside else ''}: merge it into a plain "
        "linear head, or compare logits with 'kd'."
    )
