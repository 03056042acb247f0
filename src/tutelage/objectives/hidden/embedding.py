"""Where an objective finds the embeddings of whole texts."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs, dense
from tutelage.objectives.hidden.tokens import Pooling, one_of, pooled_tokens
from tutelage.objectives.units import counted_examples


@dataclass(frozen=True)
class Embeddings:
    """The embedding of each text, of either network.

    Attributes:
        student: Student feature, ``(N, D)``, or states ``(N, T, D)`` to be pooled; None where its
            answer is the embedding.
        teacher: The teacher's.
        pool: How states become an embedding: the ``mean`` of the real tokens, the ``first``, the
            ``last``.
        asker: In whose name others are refused.
    """

    student: str | None
    teacher: str | None
    pool: str
    asker: str

    @classmethod
    def named(cls, student: str | None, teacher: str | None, pool: str, asker: str) -> Self:
        """From options.

        Raises:
            RecipeError: One of them is none.
        """
        for path in (student, teacher):
            if path is not None and not (isinstance(path, str) and path):
                raise RecipeError(
                    f"{asker}: student and teacher are named by feature, or left out for the "
                    f"networks' answers, got {path!r}."
                )
        return cls(student, teacher, one_of(pool, "pool", Pooling, asker), asker)

    @property
    def taps(self) -> tuple[list[str], list[str]]:
        """What to tap."""
        return [self.student] if self.student else [], [self.teacher] if self.teacher else []

    def of(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both, ``(N, D)`` and ``(N, D')``; answers are embeddings already, and not pooled."""
        return (
            self._one(student, self.student, batch),
            self._one(teacher, self.teacher, batch),
        )

    def _one(self, answer: Outputs, path: str | None, batch: Batch) -> Tensor:
        if path is None:
            return dense(answer, self.asker)
        return pooled_tokens(answer[path], batch, self.pool, self.asker)

    def counted(self, student: Outputs, teacher: Outputs, batch: Batch) -> tuple[Tensor, Tensor]:
        """Both, of the texts that count alone, ``(M, D)`` and ``(M, D')``."""
        ours, theirs = self.of(student, teacher, batch)
        return (
            counted_examples(ours, batch, self.asker),
            counted_examples(theirs, batch, self.asker),
        )
