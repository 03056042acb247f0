"""What is kept of an answer."""

from dataclasses import dataclass
from typing import Any, Literal

from tutelage.core.errors import RecipeError

Precision = Literal["fp16", "fp32", "int8"]


@dataclass(frozen=True)
class Form:
    """What is kept of an answer.

    Attributes:
        form: ``dense`` logits, or the ``top`` k classes with the mass of all others.
        k: Classes kept of ``top``.
        precision: ``fp16``; ``fp32``, every bit of dense logits; or ``int8`` of ``top``:
            log-probabilities in 8 bits with a scale a unit, class numbers packed.
        draws: Classes drawn from the tail of ``top`` besides, for data seen once.
        length: Positions kept of each example where texts are of unlike lengths: shorter ones
            are filled up, and cut again when read. None where all answers have one shape.
    """

    form: Literal["dense", "top"] = "dense"
    k: int = 10
    precision: Precision = "fp16"
    draws: int = 0
    length: int | None = None

    def __post_init__(self) -> None:
        if self.form not in ("dense", "top") or self.precision not in ("fp16", "fp32", "int8"):
            raise RecipeError(
                f"form, precision are {self.form!r}, {self.precision!r}, expected 'dense' or "
                "'top', 'fp16', 'fp32' or 'int8'."
            )
        if self.form == "dense" and (self.precision == "int8" or self.draws):
            raise RecipeError(
                "precision 'int8' and draws belong to form 'top': dense logits have none."
            )
        for name, value, least, what in (
            ("k", self.k, 1, "the classes kept"),
            ("draws", self.draws, 0, "the classes drawn besides"),
            ("length", 1 if self.length is None else self.length, 1, "the positions of an example"),
        ):
            if value < least:
                raise RecipeError(f"{name} is {value}, expected at least {least}: {what}.")

    def told(self) -> dict[str, Any]:
        """What a manifest says of it: only what makes a difference."""
        top = {"k": self.k, "draws": self.draws} if self.form == "top" else {}
        return {"form": self.form, "precision": self.precision, **top, "length": self.length}
