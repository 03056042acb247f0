"""From a finished run's folder to a package: which of its files, facts and words go in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tutelage import __version__
from tutelage.core.errors import DataError, PackageError, RecipeError, TutelageError
from tutelage.deployment.card import shipped_note, task_of
from tutelage.deployment.data_facts import data_facts
from tutelage.deployment.licences import with_data_licence, with_licences
from tutelage.deployment.manifest import EXITS, MODELS, REFERENCE, sha256_of
from tutelage.deployment.package import pack, refuse_unfinished
from tutelage.deployment.preprocessing import STORED, labels_file, preprocessing
from tutelage.deployment.rmf import nist_ai_rmf
from tutelage.deployment.sbom import sbom
from tutelage.deployment.shipped import Shipped, shipped, sweep_of
from tutelage.deployment.verify import Checked
from tutelage.evaluation.schema import validate_report
from tutelage.models.tempered import KEY as TEMPERATURE
from tutelage.models.tempered import temperature_of
from tutelage.models.weights import read_metadata
from tutelage.recipe.reading import parse

_NEEDED = ("report.json", "resolved.yaml", "MODEL_CARD.md", *MODELS[:2])
_Files = dict[str, Path | str | Mapping[str, Any]]


@dataclass(frozen=True)
class _Run:
    """What a finished run's folder says of itself."""

    folder: Path
    report: Mapping[str, Any]
    prints: Mapping[str, str]
    identity: str
    stored: Mapping[str, Any]
    ships: Shipped

    @property
    def name(self) -> str:
        recipe = self.report["recipe"]
        found = recipe.get("name", self.folder.name) if isinstance(recipe, Mapping) else recipe
        return str(found)


def package_run(
    run: str | Path,
    out: str | Path,
    *,
    key: str | Path | None = None,
    force: bool = False,
    weights: bool = False,
    licences: Mapping[str, str] | None = None,
) -> Checked:
    """Ship a run's student with everything that a stranger needs to use, judge and trust it.

    The data are not read again, and the test set stays closed. A compressed file that the recipe
    chose (``shipped.onnx``) is shipped in place of ``student.onnx``, and then without the weights
    in full. ``MODEL_CARD.md`` goes in as it lies in the run's folder, with what was written into it
    by hand. ``DATA_CARD.md`` is that of an audit that was put there (``tutelage audit RECIPE --out
    RUN``) if it is of the run's data, and is made from the report otherwise.

    Args:
        run: The run's folder.
        out: ``NAME.zip``, or a folder to make.
        key: A file to sign with; see `tutelage.deployment.signature.sign`.
        force: Whether an older package is replaced.
        weights: Whether ``student.safetensors`` goes in beside a compressed file too.
        licences: Of ``student``, ``teacher`` and ``data``, where the cards do not state them.

    Returns:
        What checking the package found.

    Raises:
        TutelageError: One line: the run is not finished or broken, the target is there or cannot
            be written, the key is none, or a card states another licence.
    """
    found, stated = _read(Path(run)), licences or {}
    date = datetime.now(UTC).date().isoformat()
    models = _models(found, weights)
    return pack(
        _files(found, models, stated, signed=key is not None, date=date),
        Path(out),
        run={
            "name": found.name,
            "identity": found.identity,
            "data": dict(found.prints),
            "student": found.ships.facts,
        },
        version=__version__,
        date=date,
        key=None if key is None else Path(key),
        force=force,
    )


def _read(folder: Path) -> _Run:
    if not folder.is_dir():
        raise RecipeError(
            f"there is no run {str(folder)!r:.200}: give the folder of a finished run."
        )
    refuse_unfinished(folder, _NEEDED)
    report, resolved = _report(folder), parse((folder / "resolved.yaml").read_text("utf-8"))
    identity = resolved.get("identity")
    if not isinstance(identity, str):
        raise PackageError(f"{folder / 'resolved.yaml'} names no run (identity): it was changed.")
    prints, stored = _fingerprints(resolved), _stored(folder)
    return _Run(folder, report, prints, identity, stored, shipped(folder, report))


def _models(found: _Run, weights: bool) -> dict[str, Path]:
    """By the name in the package. A compressed file answers by its last exit alone."""
    full, folder = not found.ships.compressed, found.folder
    wanted = {
        MODELS[1]: full or weights,
        EXITS: full and (folder / EXITS).is_file(),
        REFERENCE: (folder / REFERENCE).is_file(),
    }
    more = {name: folder / name for name, yes in wanted.items() if yes}
    return {MODELS[0]: found.ships.path, **more}


def _files(
    found: _Run, models: Mapping[str, Path], licences: Mapping[str, str], *, signed: bool, date: str
) -> _Files:
    labels, report, ships = found.report["data"]["classes"], found.report, found.ships
    stated = preprocessing(
        ships.path,
        labels,
        _temperature(found),
        ships=ships,
        stored=found.stored,
        weights=MODELS[1] in models,
    )
    bill = sbom(
        found.name,
        __version__,
        hashes={each: sha256_of(path) for each, path in models.items()},
        used=report["environment"].get("versions", {}),
        identity=found.identity,
        date=date,
        properties={key: str(value) for key, value in ships.facts.items()},
    )
    card = (found.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    shapes = [each["shape"] for each in stated["inputs"].values()]
    return {
        **models,
        "preprocessing.json": stated,
        "labels.json": labels_file(labels, ships),
        "MODEL_CARD.md": with_licences(card, licences)
        + (shipped_note(ships) if ships.compressed else ""),
        "DATA_CARD.md": _data_card(found, licences, task_of(shapes[0])),
        "report.json": found.folder / "report.json",
        "nist_ai_rmf.md": nist_ai_rmf(report, signed=signed, ships=ships, files=models),
        "sbom.json": bill,
    }


def _refuse_text(path: Path) -> None:
    """A package answers with classes, which a model that writes has none of."""
    try:
        kind = json.loads(path.read_text(encoding="utf-8")).get("kind")
    except (ValueError, AttributeError):
        return  # what is broken is told where it is read
    if kind == "language":
        raise RecipeError(
            f"{path.parent} is a run on text, and a package holds a model that answers with "
            "classes: ship its folder student, student.onnx, or what export --to gguf makes."
        )


def _report(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    _refuse_text(path)
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


def _stored(folder: Path) -> dict[str, Any]:
    """What the data source did to stored examples; nothing where the run does not say."""
    path = folder / STORED
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackageError(f"{path} is no whole JSON: make the run again.") from error
    if not isinstance(found, dict):
        raise PackageError(f"{path} holds no object: make the run again.")
    return found


def _temperature(found: _Run) -> float | None:
    """What the shipped file divides its logits by: a healed network has one of its own."""
    if found.ships.compressed:
        chosen = sweep_of(found.report)
        if chosen is not None:
            temperature: float | None = chosen[0]["temperature"]
            return temperature
    path = found.folder / MODELS[1]
    return temperature_of(path) if TEMPERATURE in read_metadata(path) else None


def _data_card(found: _Run, licences: Mapping[str, str], task: str) -> str:
    """An audit's card, where its fingerprints are the run's; else the report's facts."""
    path, prints = found.folder / "DATA_CARD.md", found.prints
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        if prints and all(value[:16] in text for value in prints.values()):
            return with_data_licence(text, licences)
    columns = found.stored.get("columns") or ()
    made = data_facts(found.report, prints, task=task, columns=columns)
    return with_data_licence(made, licences)
