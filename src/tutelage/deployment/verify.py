"""Whether a package is what was packed, and works: everything a receiver can check by himself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, PackageError, TutelageError
from tutelage.deployment.loading import answers, opens
from tutelage.deployment.manifest import (
    MANIFEST,
    SIGNATURE,
    check_file,
    parsed,
    read_manifest,
)
from tutelage.deployment.raw_rows import check_columns
from tutelage.deployment.shipped import numbers_of
from tutelage.deployment.signature import check_signature
from tutelage.deployment.unpacking import opened


@dataclass(frozen=True)
class Checked:
    """A package that was found whole.

    Attributes:
        name: Of the run it came from.
        identity: Of that run: a hash of its recipe and data.
        version: Of tutelage that packed it.
        date: When it was packed.
        files: How many are listed.
        bytes: Of these together.
        models: Files that were loaded, in words.
        signature: What is known of who made it, in a clause.
    """

    name: str
    identity: str
    version: str
    date: str
    files: int
    bytes: int
    models: tuple[str, ...]
    signature: str


def verify(package: str | Path, key: str | Path | None = None) -> Checked:
    """Check a package: names, sizes, hashes, signature, and that its models load and answer.

    Nothing in it is run but its ONNX file, and that only after everything else was in order.
    Without a key nothing is known of who made it: hashes find damage, not forgery.

    Args:
        package: A ``.zip`` or a folder, as `tutelage.deployment.package.pack` writes it.
        key: The secret it was signed with, or the signer's public key; see `sign`. Where it is
            given, a package without a signature is refused.

    Returns:
        What it is.

    Raises:
        PackageError: With the first thing that is wrong.
        RecipeError: There is no package, or no such key.
        NotInstalled: A PEM key was given without the package ``cryptography``.
    """
    with opened(Path(package)) as folder:
        content = (folder / MANIFEST).read_bytes()
        manifest = read_manifest(content)
        told = _signature(folder, content, None if key is None else Path(key))
        for name, facts in manifest["files"].items():
            check_file(folder / name, facts)
        models = _models(folder, manifest["files"])
    run, files = manifest["run"], manifest["files"]
    return Checked(
        name=run["name"],
        identity=run["identity"],
        version=manifest["tutelage"],
        date=manifest["date"],
        files=len(files),
        bytes=sum(facts["bytes"] for facts in files.values()),
        models=models,
        signature=told,
    )


def _signature(folder: Path, content: bytes, key: Path | None) -> str:
    path = folder / SIGNATURE
    if not path.is_file():
        if key is not None:
            raise PackageError(
                f"there is no {SIGNATURE}: the package is unsigned, and a key was given."
            )
        return "unsigned: the checksums find damage, and say nothing of who made it"
    found = parsed(path.read_bytes(), SIGNATURE)
    if key is not None:
        return check_signature(content, found, key)
    algorithm, named = (" ".join(str(found.get(k)).split())[:40] for k in ("algorithm", "key_id"))
    return f"there is one ({algorithm}, key {named}), not checked: no key was given"


def _models(folder: Path, files: Mapping[str, Any]) -> tuple[str, ...]:
    for name in files:
        if name.endswith(".json"):
            parsed((folder / name).read_bytes(), name)
    stated = parsed((folder / "preprocessing.json").read_bytes(), "preprocessing.json")
    labels = parsed((folder / "labels.json").read_bytes(), "labels.json").get("labels")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise PackageError("labels.json: labels is no list of texts.")
    _columns(stated)
    told = []
    for name in files:
        if name.endswith(".safetensors"):
            told.append(f"{name}: {opens(folder / name)} tensors")
    for name in files:
        if name.endswith(".onnx"):
            exits = answers(folder / name, stated, len(labels))
            numbers = numbers_of(folder / name)
            _exits(folder / name, exits)
            more = f", {exits} exits" if exits > 1 else ""
            told.append(f"{name}: {len(labels)} classes, {numbers}{more}")
    return tuple(told)


def _columns(stated: Mapping[str, Any]) -> None:
    """The columns of a table make as many features as the model takes."""
    columns, inputs = stated.get("columns"), stated.get("inputs")
    if columns is None:
        return
    try:
        made = check_columns(columns)
    except DataError as error:
        raise PackageError(f"preprocessing.json: {error}") from error
    shapes = [each.get("shape") for each in inputs.values()] if isinstance(inputs, dict) else None
    if shapes != [[made]]:
        raise PackageError(
            f"preprocessing.json: its columns make {made} features, and its inputs are {shapes}."
        )


def _exits(path: Path, outputs: int) -> None:
    """A file of several exits has a policy of as many, and no other file has one."""
    policy = path.with_suffix(".exits.json")
    if not policy.is_file():
        if outputs > 1:
            raise PackageError(
                f"{path.name} has {outputs} exits, and there is no {policy.name}: nobody knows "
                "which answer counts."
            )
        return
    from tutelage.deployment.exit_policy import policy_inside
    from tutelage.evaluation.policy import ExitPolicy

    inside = policy_inside(path)
    try:
        found = ExitPolicy.from_json(policy.read_text(encoding="utf-8"))
        same = inside is None or ExitPolicy.from_json(inside) == found
    except TutelageError as error:
        raise PackageError(f"{policy.name}: {error}") from error
    if not same:
        raise PackageError(f"{policy.name} is not the policy that {path.name} was exported with.")
    if len(found.costs) != outputs:
        raise PackageError(
            f"{policy.name} is for {len(found.costs)} exits, and {path.name} has {outputs}."
        )
