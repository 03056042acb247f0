"""``manifest.json``: which files a package holds, and what each must be."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import PackageError

FORM = 1
"""Version of the form of packages."""

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
EXITS, REFERENCE = "student.exits.json", "reference.safetensors"
MODELS = ("student.onnx", "student.safetensors", EXITS, REFERENCE)
"""Files of a model that a package may hold: what answers (it must have that one), the weights in
full, the policy of exits, and how validation examples were answered, for watching."""

PAPERS = (
    "preprocessing.json",
    "labels.json",
    "MODEL_CARD.md",
    "DATA_CARD.md",
    "report.json",
    "nist_ai_rmf.md",
    "sbom.json",
)
"""What every package holds beside its models."""

SUFFIXES = (".onnx", ".safetensors", ".json", ".md")
"""Nothing else is shipped, and never a pickle."""

LARGEST = 8 * 2**30  # bytes of a whole package
SMALL = 2**20  # bytes of manifest and signature, which are read before anything is checked
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_HASH = re.compile(r"[0-9a-f]{64}")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    >>> sha256_of(Path(__file__)) == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    True
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_of(folder: Path, *, run: Mapping[str, Any], version: str, date: str) -> dict[str, Any]:
    """The manifest of all files of a folder.

    Args:
        folder: Flat: files alone.
        run: ``name`` and ``identity`` of the run, and fingerprints of its ``data``.
        version: Of tutelage.
        date: When it was packed, ``2026-01-31``.
    """
    files = {
        path.name: {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in (MANIFEST, SIGNATURE)
    }
    return {"package": FORM, "tutelage": version, "date": date, "run": dict(run), "files": files}


def parsed(content: bytes, name: str) -> dict[str, Any]:
    """A JSON object from bytes that nobody vouches for yet.

    Raises:
        PackageError: It is no whole JSON object, or says a thing twice.
    """
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise PackageError(
            f"{name} is no whole JSON: {' '.join(str(error).split())[:120]}."
        ) from error
    if not isinstance(found, dict):
        raise PackageError(f"{name} holds no object.")
    return found


def read_manifest(content: bytes) -> dict[str, Any]:
    """A manifest whose form is right; whether the files are is not looked at.

    Raises:
        PackageError: With the first thing that is wrong.
    """
    found = parsed(content, MANIFEST)
    if found.get("package") != FORM:
        raise PackageError(
            f"{MANIFEST}: the form of the package is {found.get('package')!r:.40}, and {FORM} is "
            "known here: it is of another version."
        )
    run, files = found.get("run"), found.get("files")
    texts = [found.get("tutelage"), found.get("date")]
    texts += [run.get("name"), run.get("identity")] if isinstance(run, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise PackageError(f"{MANIFEST}: tutelage, date, run.name and run.identity must be texts.")
    if not isinstance(files, dict):
        raise PackageError(f"{MANIFEST} lists no files.")
    for name, facts in files.items():
        _entry(name, facts)
    for name in (MODELS[0], *PAPERS):
        if name not in files:
            raise PackageError(f"{MANIFEST} does not list {name}, which every package holds.")
    if sum(facts["bytes"] for facts in files.values()) > LARGEST:
        raise PackageError(f"{MANIFEST}: the files are said to be larger than {LARGEST:,} bytes.")
    return found


def check_name(name: str) -> None:
    """Refuse whatever is no plain name of a file that a package may hold.

    Raises:
        PackageError: It has a folder in it, is hidden, or of another kind.
    """
    if not _NAME.fullmatch(name):
        raise PackageError(f"{name!r:.120} is no plain file name: a package has no folders.")
    if not name.endswith(SUFFIXES):
        raise PackageError(
            f"{name}: a package holds {', '.join(SUFFIXES)} alone (a pickle could run any code)."
        )


def check_names(found: list[str], listed: Mapping[str, Any], signed: bool) -> None:
    """Every file listed, none besides, none twice.

    Raises:
        PackageError: With the first name that is wrong.
    """
    seen: set[str] = set()
    for name in found:
        check_name(name)
        if name.lower() in seen:
            raise PackageError(f"{name} is in the package twice.")
        seen.add(name.lower())
    besides = set(found) - set(listed) - {MANIFEST} - ({SIGNATURE} if signed else set())
    if besides:
        raise PackageError(f"{min(besides)} is in the package, and {MANIFEST} does not list it.")
    missing = set(listed) - set(found)
    if missing:
        raise PackageError(f"{min(missing)} is missing, and {MANIFEST} lists it.")


def check_file(path: Path, facts: Mapping[str, Any]) -> None:
    """Size and hash of one file.

    Raises:
        PackageError: One of them is another.
    """
    size = path.stat().st_size
    if size != facts["bytes"]:
        raise PackageError(f"{path.name} has {size:,} bytes, and {facts['bytes']:,} are listed.")
    if sha256_of(path) != facts["sha256"]:
        raise PackageError(f"{path.name} is not what was packed: its SHA-256 is another.")


def _entry(name: str, facts: Any) -> None:
    check_name(name)
    if name in (MANIFEST, SIGNATURE):
        raise PackageError(f"{MANIFEST} lists {name}, which cannot be.")
    size = facts.get("bytes") if isinstance(facts, dict) else None
    digest = facts.get("sha256") if isinstance(facts, dict) else None
    if type(size) is not int or size < 0:
        raise PackageError(f"{MANIFEST}: {name} has no size.")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise PackageError(f"{MANIFEST}: {name} has no SHA-256 of 64 hexadecimal digits.")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.60} is said twice")
    return found
