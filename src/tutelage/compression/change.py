"""What a compression did, in figures."""

from dataclasses import dataclass, field
from typing import Any

from tutelage.compression.agreement import Agreement


@dataclass(frozen=True)
class Change:
    """What one compression did to a model or a file.

    Attributes:
        method: The name that it is registered under.
        bytes_before: Of the file, or of the weights of a model in memory.
        bytes_after: The same afterwards.
        parameters_before: Numbers learned. In an int8 file the scales count too.
        parameters_after: The same afterwards.
        agreement: The answers before and after, on the examples given.
        details: What is particular to the method, as plain data.
        macs_before: Multiply-accumulates of one answer, where they change; None if they do not,
            or cannot be counted.
        macs_after: The same afterwards.

    Example:
        >>> Change("prune", 100, 25, 20, 5, Agreement(0.1, 1.0, 8)).times_smaller
        4.0
    """

    method: str
    bytes_before: int
    bytes_after: int
    parameters_before: int
    parameters_after: int
    agreement: Agreement
    details: dict[str, Any] = field(default_factory=dict)
    macs_before: int | None = None
    macs_after: int | None = None

    @property
    def times_smaller(self) -> float:
        """Bytes before over bytes after."""
        return self.bytes_before / self.bytes_after
