r"""Two language models compared through their own heads, from hidden states alone.

Hsu, Dai, Kothapalli, Song, Tang, Zhu, Shimizu, Sahni, Ning, Chen: Liger Kernel: Efficient Triton
Kernels for LLM Training, 2024, arXiv:2410.10989.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.language.divergences import parts_of
from tutelage.objectives.language.linear_head import linear_divergence
from tutelage.objectives.units import number, whole


@register("objective", "linear_head")
class LinearHead(AbstractLoss):
    r"""One-pass linear head: a divergence of two language models without their logits.

    .. math:: T^2 D(p^T \| q^T) - \lambda \log q_y, \quad \text{mean over tokens}
        \quad (linear\_divergence)

    It taps what both heads read, borrows the heads, and multiplies them a few rows at a time; the
    gradient is formed on the way. Memory does not grow with the number of tokens, but for the
    hidden states themselves.

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

    Args:
        student: Student feature that its head reads, ``(N, T, H)``, such as ``lm_head:in``.
        teacher: The teacher's, likewise.
        student_head: Path of the student's head, a linear module, borrowed: it learns.
        teacher_head: Path of the teacher's.
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
        teacher: str,
        student_head: str,
        teacher_head: str,
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
        for path in (student, teacher, student_head, teacher_head):
            if not isinstance(path, str) or not path:
                raise RecipeError(
                    f"linear_head: features and heads are named by path, got {path!r}."
                )
        parts_of(divergence, alpha, beta, self.name)
        self.taps, self.borrows = ([student], [teacher]), ([student_head], [teacher_head])
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
        theirs = linear_of(self.lent.teacher(self.borrows[1][0]), self.borrows[1][0], self.name)
        return linear_divergence(
            student[self.taps[0][0]],
            ours.weight,
            teacher[self.taps[1][0]],
            theirs.weight,
            mask=batch.mask,
            labels=batch.targets if self.needs_targets else None,
            cross_entropy=self.cross_entropy,
            student_bias=ours.bias,
            teacher_bias=theirs.bias,
            **self.options,
        )


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
