"""What a registry answers with: a version, and an event of its history."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["promote", "rollback", "refuse", "alias", "outside"]
"""What an event is: ``alias`` gave a name that no gate guards; ``outside`` was another tool."""


@dataclass(frozen=True)
class Version:
    """A package under a name.

    Attributes:
        name: Of the model.
        number: Of the version, from 1.
        folder: Its package, unpacked and verified when it was added.
        digest: SHA-256 of the package's ``manifest.json``, 64 hexadecimal digits.
        aliases: That point to it.
        added: When, ISO 8601 in UTC.
        lineage: Where it comes from: ``student``, ``teacher``, ``data``, ``recipe``, ``figures``,
            ``gates``, ``tutelage``, ``packed``, ``signature``.
    """

    name: str
    number: int
    folder: Path
    digest: str
    aliases: tuple[str, ...]
    added: str
    lineage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """As `tutelage.deployment.registry.Registry.resolve` takes it.

        >>> Version("digits", 3, Path("x"), 64 * "0", (), "").words
        'digits/3'
        """
        return f"{self.name}/{self.number}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "folder": str(self.folder), "aliases": list(self.aliases)}


@dataclass(frozen=True)
class Event:
    """Something that happened to an alias; nothing of it is ever changed.

    Attributes:
        key: Orders events.
        when: ISO 8601 in UTC.
        who: The user's name on that machine.
        kind: See `Kind`.
        alias: Which one.
        before: The version it pointed to; None for none.
        after: The version it was to point to; for a refusal, the version that was refused.
        why: In words.
        evidence: Digest of the evidence; None where there is none.
        data: Fingerprint of the test examples that decided; None where none were asked.
        done: Whether it took effect: False for what was refused, or stopped on the way.
    """

    key: str
    when: str
    who: str
    kind: Kind
    alias: str
    before: int | None
    after: int | None
    why: str = ""
    evidence: str | None = None
    data: str | None = None
    done: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))
