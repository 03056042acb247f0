"""A package that was kept becomes a version: run, model, version, in this order.

Whoever is stopped in between leaves a run without a version, or a name without one: neither is
shown, and the next try takes both up.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tutelage.deployment.manifest import sha256_of
from tutelage.deployment.registry.lineage import lineage_of
from tutelage.deployment.registry.packages import Packages
from tutelage.deployment.registry.reading import DIGEST, LINEAGE, Reader
from tutelage.deployment.registry.runs import REPORT, Told, run_of, write_run
from tutelage.deployment.registry.store import Store


def enter(
    store: Store, reader: Reader, packages: Packages, name: str, digest: str, signature: str
) -> int:
    """A new version of a kept package; returns its number.

    Args:
        store: Writes.
        reader: Reads the same.
        packages: Where the package is kept.
        name: Of the model.
        digest: Of the package.
        signature: What is known of who made it, in a clause.
    """
    folder = packages.folder(digest)
    words = lineage_of(folder, signature)
    identity, report = words["recipe"]["identity"], sha256_of(folder / "report.json")
    # The run that was tracked, if its report is this one: a student that was made smaller
    # afterwards has other figures.
    tracked = run_of(store, identity, "run", {REPORT: report})
    run = tracked or write_run(store, _run(digest, words, report))[0]
    if name not in reader.names():
        store.add_model(name)
    tags = {
        DIGEST: digest,
        LINEAGE: json.dumps(words, ensure_ascii=False),
        "tutelage.identity": identity,
    }
    return store.add_version(name, f"tutelage-package:/{digest}", run, tags)


def _run(digest: str, words: Mapping[str, Any], report: str) -> Told:
    """What a package alone says of its run."""
    packed = datetime.fromisoformat(words["packed"]).replace(tzinfo=UTC)
    return Told(
        name=words["recipe"]["name"],
        identity=digest,
        kind="package",
        when=int(packed.timestamp() * 1000),
        metrics=[(key, value, 0) for key, value in words["figures"].items()],
        tags={"tutelage.run": words["recipe"]["identity"], REPORT: report},
    )
