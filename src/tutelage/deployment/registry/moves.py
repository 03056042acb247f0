"""How an alias moves: intent first, then the alias in one transaction; evidence before both."""

from collections.abc import Mapping
from typing import Any

from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.registry import history
from tutelage.deployment.registry.packages import Packages
from tutelage.deployment.registry.reading import DIGEST, Reader
from tutelage.deployment.registry.store import Store
from tutelage.deployment.registry.version import Event, Kind, Version


class Moves:
    """What may be done to aliases; the caller holds the registry's lock.

    Args:
        store: Writes.
        reader: Reads the same.
        packages: Of the same registry.
    """

    def __init__(self, store: Store, reader: Reader, packages: Packages):
        self._store, self._reader, self._packages = store, reader, packages

    def promote(
        self, version: Version, alias: str, evidence: Mapping[str, Any] | None, why: str
    ) -> Version:
        """See `tutelage.deployment.registry.Registry.promote`."""
        now = self._reader.aliases(version.name).get(alias)
        if now == version.number:
            raise RecipeError(f"{version.words} is in {alias} already: there is nothing to do.")
        if evidence is None and not why.strip():
            raise RecipeError(
                f"{version.words} cannot go to {alias} without evidence: hold it to gates, or say "
                'why it goes without: --without-gates "WHY".'
            )
        if evidence is not None:
            _allows(evidence, version, alias, now)
        self._packages.check(version.digest)
        self.move("promote", version.name, alias, version.number, why=why, evidence=evidence)
        aliases = tuple(sorted({*version.aliases, alias}))
        return Version(**{**vars(version), "aliases": aliases})

    def refuse(self, version: Version, alias: str, evidence: Mapping[str, Any]) -> None:
        """Write down what did not pass."""
        now = self._reader.aliases(version.name).get(alias)
        self._write("refuse", version.name, alias, now, version.number, "", evidence)

    def rollback(self, name: str, alias: str, why: str) -> int:
        """Back to the version before; returns its number."""
        aliases = self._reader.aliases(name)
        events = history.told(history.of_tags(self._reader.tags(name)), aliases)
        before = history.standing(events, alias)[:-1]
        if alias not in aliases or not before:
            now = f"{name}/{aliases[alias]}" if alias in aliases else "no version"
            raise RecipeError(
                f"there is nothing to go back to: {now} is in {alias} of {name}, and none was "
                "before."
            )
        row = self._reader.row(name, None, before[-1])
        if row is None:
            raise PackageError(
                f"{name}/{before[-1]}, which was in {alias} before, was deleted by another tool: "
                f"promote a version that is there: `tutelage registry show {name}`."
            )
        self._packages.check(row.tags[DIGEST])
        self.move("rollback", name, alias, before[-1], why=why)
        return before[-1]

    def move(
        self,
        kind: Kind,
        name: str,
        alias: str,
        number: int,
        *,
        why: str = "",
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Say what will happen, and do it."""
        now = self._reader.aliases(name).get(alias)
        self._write(kind, name, alias, now, number, why, evidence)
        self._store.point(name, alias, number)

    def _write(
        self,
        kind: Kind,
        name: str,
        alias: str,
        now: int | None,
        number: int,
        why: str,
        evidence: Mapping[str, Any] | None,
    ) -> None:
        digest = None if evidence is None else self._packages.keep(evidence)
        if digest is not None:
            self._store.tag_version(name, number, f"tutelage.evidence.{alias}", digest)
        known = history.of_tags(self._reader.tags(name))
        made: Event = history.event(
            kind,
            alias,
            now,
            number,
            later_than=known[-1].key if known else "",
            why=why,
            evidence=digest,
            data=None if evidence is None else evidence.get("data", {}).get("test"),
        )
        self._store.tag_model(name, *history.as_tag(made))


def _allows(evidence: Mapping[str, Any], version: Version, alias: str, now: int | None) -> None:
    if evidence.get("passed") is not True:
        raise RecipeError(f"the evidence does not let {version.words} into {alias}: gates failed.")
    if evidence.get("digest", version.digest) != version.digest:
        raise RecipeError(f"the evidence is about another package than {version.words}.")
    if evidence.get("against") != now:
        stands = "no version" if now is None else f"version {now}"
        raise RecipeError(
            f"{alias} of {version.name} moved meanwhile: {stands} is there now, and the evidence "
            f"is against {evidence.get('against')}: promote again."
        )
