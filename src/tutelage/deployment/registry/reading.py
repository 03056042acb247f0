"""What can be asked of a store of versions, however it is reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

DIGEST, LINEAGE = "tutelage.digest", "tutelage.lineage"
"""Tags of a version: of its package, and of where it comes from (JSON)."""


@dataclass(frozen=True)
class Row:
    """A version as it is stored.

    Attributes:
        number: Of the version.
        created: Milliseconds since 1970.
        tags: Of the version.
        aliases: That point to it, sorted.
    """

    number: int
    created: int
    tags: Mapping[str, str]
    aliases: tuple[str, ...]


class Reader(Protocol):
    """Reads models and versions; what is not there is empty, never an error."""

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        ...

    def rows(self, name: str) -> list[Row]:
        """All versions of a model, oldest first."""
        ...

    def row(self, name: str, alias: str | None, number: int | None) -> Row | None:
        """One version, by alias or number."""
        ...

    def aliases(self, name: str) -> dict[str, int]:
        """Where each alias points to."""
        ...

    def tags(self, name: str) -> dict[str, str]:
        """Tags of a model."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
