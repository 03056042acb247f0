"""Finished runs in MLflow: what was asked, how it went, what came of it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError, RecipeError
from tutelage.deployment.manifest import sha256_of
from tutelage.deployment.registry import Registry
from tutelage.deployment.registry.lineage import figures_of
from tutelage.deployment.registry.runs import REPORT, Told
from tutelage.recipe.reading import parse

_FILES = ("report.html", "report.json", "MODEL_CARD.md", "resolved.yaml")


def track_run(run: str | Path, registry: Registry | str | None = None) -> tuple[str, bool]:
    """Write a finished run into MLflow; the same run is written once, however often it is asked.

    Parameters are the recipe's keys, with dots between the levels; metrics are the curves of
    ``log.jsonl`` by step (``student-0.kd``, ``student-0.validation_accuracy``) and the final
    figures of the report (``student.accuracy``); tags are its lineage; report and recipe are kept
    as files.

    Args:
        run: The run's folder.
        registry: Where to; or what ``--registry`` says; None for the default.

    Returns:
        MLflow's id of the run, and whether it is new.

    Raises:
        RecipeError: The folder holds no finished run, or the registry cannot be written.
        DataError: A file of the run is broken.
        NotInstalled: MLflow is not there.
    """
    if not isinstance(registry, Registry):
        with Registry.at(registry) as opened:
            return track_run(run, opened)
    return registry.write_run(_told(Path(run)))


def _told(folder: Path) -> Told:
    for name in ("resolved.yaml", "report.json"):
        if not (folder / name).is_file():
            raise RecipeError(
                f"there is no {name} in {str(folder)!r:.200}: give the folder of a finished run."
            )
    resolved = parse((folder / "resolved.yaml").read_text(encoding="utf-8"))
    report, identity = _json(folder / "report.json"), resolved.get("identity")
    if not isinstance(identity, str):
        raise DataError(f"{folder / 'resolved.yaml'} names no run (identity): it was changed.")
    recipe = resolved.get("recipe")
    recipe = recipe if isinstance(recipe, Mapping) else {}
    return Told(
        name=str(recipe.get("name", folder.name)),
        identity=identity,
        kind="run",
        when=int((folder / "report.json").stat().st_mtime * 1000),
        params=dict(_flat(recipe, "")),
        metrics=[*_curves(folder / "log.jsonl"), *((k, v, 0) for k, v in _final(report))],
        tags={REPORT: sha256_of(folder / "report.json"), **_tags(resolved, report)},
        files=[folder / name for name in _FILES if (folder / name).is_file()],
    )


def _tags(resolved: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, str]:
    prints, verdict = resolved.get("data"), report.get("verdict")
    found = {f"tutelage.data.{split}": str(value) for split, value in dict(prints or {}).items()}
    versions = report.get("environment", {}).get("versions", {})
    found["tutelage.version"] = str(versions.get("tutelage", ""))
    if isinstance(verdict, Mapping):
        found["tutelage.verdict"] = str(verdict.get("headline", ""))
    for role, model in report.get("models", {}).items():
        if model is not None:
            found[f"tutelage.{role}"] = str(model.get("name", ""))
    for gate in report.get("gates", ()):
        found[f"tutelage.gate.{gate['name']}"] = "passed" if gate["passed"] else "failed"
    return found


def _final(report: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    yield from figures_of(report).items()


def _curves(log: Path) -> Iterator[tuple[str, float, int]]:
    """Every term and validation of a log, as name, value and step; torn lines are left out."""
    if not log.is_file():
        return
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            arm, step = str(row["arm"]), int(row["step"])
        except (ValueError, KeyError, TypeError):
            continue
        values = dict(row.get("terms") or {})
        if row.get("validation") is not None:
            values["validation_accuracy"] = row["validation"]
        for name, value in values.items():
            if isinstance(value, int | float):
                yield f"{arm}.{name}", float(value), step


def _flat(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Keys with dots between the levels; lists as JSON.

    >>> dict(_flat({"train": {"epochs": 3}, "seeds": [0, 1]}, ""))
    {'train.epochs': '3', 'seeds': '[0, 1]'}
    """
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}".lstrip("."))
    else:
        yield place, value if isinstance(value, str) else json.dumps(value)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no whole report: make the run again.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is no report: make the run again.")
    return found
