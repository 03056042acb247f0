"""From a finished run's folder to a package: which of its files, facts and words go in."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage import __version__
from tutelage.core.errors import DataError, PackageError, RecipeError, TutelageError
from tutelage.deployment.data_facts import data_facts
from tutelage.deployment.manifest import MODELS, sha256_of
from tutelage.deployment.package import pack, refuse_unfinished
from tutelage.deployment.preprocessing import labels_file, preprocessing
from tutelage.deployment.rmf import nist_ai_rmf
from tutelage.deployment.sbom import sbom
from tutelage.deployment.verify import Checked
from tutelage.evaluation.schema import validate_report
from tutelage.models.tempered import KEY as TEMPERATURE
from tutelage.models.tempered import temperature_of
from tutelage.models.weights import read_metadata
from tutelage.recipe.reading import parse

_NEEDED = ("report.json", "resolved.yaml", "MODEL_CARD.md", *MODELS[:2])


def package_run(
    run: str | Path, out: str | Path, *, key: str | Path | None = None, force: bool = False
) -> Checked:
    """Ship a run's student with everything that a stranger needs to use, judge and trust it.

    The data are not read again, and the test set stays closed. ``MODEL_CARD.md`` goes in as it
    lies in the run's folder, with what was written into it by hand. ``DATA_CARD.md`` is that of an
    audit that was put there (``tutelage audit RECIPE --out RUN``) if it is of the run's data, and
    is made from the report otherwise.

    Args:
        run: The run's folder.
        out: ``NAME.zip``, or a folder to make.
        key: A file to sign with; see `tutelage.deployment.signature.sign`.
        force: Whether an older package is replaced.

    Returns:
        What checking the package found.

    Raises:
        TutelageError: One line: the run is not finished or broken, the target is there or cannot
            be written, the key is none.
    """
    folder = Path(run)
    if not folder.is_dir():
        raise RecipeError(f"there is no run {str(run)!r:.200}: give the folder of a finished run.")
    refuse_unfinished(folder, _NEEDED)
    report, resolved = _report(folder), parse((folder / "resolved.yaml").read_text("utf-8"))
    prints = _fingerprints(resolved)
    identity = resolved.get("identity")
    if not isinstance(identity, str):
        raise PackageError(f"{folder / 'resolved.yaml'} names no run (identity): it was changed.")
    recipe = report["recipe"]
    name = str(recipe.get("name", folder.name) if isinstance(recipe, Mapping) else recipe)
    labels, date = report["data"]["classes"], datetime.now(UTC).date().isoformat()
    models = {each: folder / each for each in MODELS if (folder / each).is_file()}
    files: dict[str, Path | str | Mapping[str, Any]] = {
        **models,
        "preprocessing.json": preprocessing(folder / MODELS[0], labels, _temperature(folder)),
        "labels.json": labels_file(labels),
        "MODEL_CARD.md": folder / "MODEL_CARD.md",
        "DATA_CARD.md": _data_card(folder, report, prints),
        "report.json": folder / "report.json",
        "nist_ai_rmf.md": nist_ai_rmf(report, signed=key is not None),
        "sbom.json": sbom(
            name,
            __version__,
            hashes={each: sha256_of(path) for each, path in models.items()},
            used=report["environment"].get("versions", {}),
            identity=identity,
            date=date,
        ),
    }
    return pack(
        files,
        Path(out),
        run={"name": name, "identity": identity, "data": prints},
        version=__version__,
        date=date,
        key=None if key is None else Path(key),
        force=force,
    )


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        validate_report(found)
        if not isinstance(found["data"]["classes"], list) or "lost" not in found["verdict"]:
            raise DataError("it has no classes or no verdict.")
    except (ValueError, KeyError, TypeError, TutelageError) as error:
        line = " ".join(str(error).split())[:200]
        raise PackageError(f"{path} is no whole report: {line}: make the run again.") from error
    return found


def _fingerprints(resolved: Mapping[str, Any]) -> dict[str, str]:
    found = resolved.get("data")
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}


def _temperature(folder: Path) -> float | None:
    path = folder / MODELS[1]
    return temperature_of(path) if TEMPERATURE in read_metadata(path) else None


def _data_card(folder: Path, report: Mapping[str, Any], prints: Mapping[str, str]) -> str:
    """An audit's card, where its fingerprints are the run's; else the report's facts."""
    path = folder / "DATA_CARD.md"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        if prints and all(value[:16] in text for value in prints.values()):
            return text
    return data_facts(report, prints)
