"""Where a package comes from, and what its report says of it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.deployment.manifest import MANIFEST, MODELS
from tutelage.deployment.shipped import sweep_of

_OF_MODEL = ("accuracy", "nll", "ece", "brier", "parameters", "bytes", "file_bytes", "macs")
_OF_PAIR = ("agreement", "negative_flip_rate", "positive_flip_rate", "predictive_kl")


def lineage_of(folder: Path, signature: str) -> dict[str, Any]:
    """From the student's file to teacher, data and recipe.

    Args:
        folder: An unpacked package that was verified.
        signature: What is known of who made it, in a clause.

    Returns:
        ``student`` (name, and SHA-256 of its file), ``teacher`` (what the report says of it; None
        where nobody taught), ``data`` (name, and fingerprint of each split), ``recipe`` (name and
        identity), ``gates`` (of the run, and whether each was passed), ``figures``, ``tutelage``,
        ``packed``, ``signature``: plain data.
    """
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    report = report_of(folder)
    models = _mapping(report.get("models"))
    student, teacher = _mapping(models.get("student")), models.get("teacher")
    return {
        "student": {
            "name": str(student.get("name", "")),
            "file": MODELS[0],
            "sha256": manifest["files"][MODELS[0]]["sha256"],
            "bytes": manifest["files"][MODELS[0]]["bytes"],
        },
        "teacher": None if teacher is None else _teacher(report, teacher),
        "data": {"name": _mapping(report.get("data")).get("name"), **_prints(manifest)},
        "recipe": {"name": manifest["run"]["name"], "identity": manifest["run"]["identity"]},
        "gates": own_gates(report),
        "figures": figures_of(report),
        "tutelage": manifest["tutelage"],
        "packed": manifest["date"],
        "signature": signature,
    }


def report_of(folder: Path) -> dict[str, Any]:
    """``report.json`` of a package."""
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return dict(_mapping(found))


def own_gates(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gates a run was held to: ``name``, ``passed``, ``value``, ``rule``, ``threshold``."""
    kept = ("name", "passed", "value", "rule", "threshold", "by")
    gates = report.get("gates")
    return [{key: gate.get(key) for key in kept} for gate in gates or () if isinstance(gate, dict)]


def figures_of(report: Mapping[str, Any]) -> dict[str, float]:
    """The final figures of a report by name: ``student.accuracy``, ``student.p50_ms``.

    Those of a compressed file that is shipped begin with ``shipped.``; against its teacher.

    Example:
        >>> figures_of({"models": {"student": {"accuracy": 0.9}, "teacher": None}})
        {'student.accuracy': 0.9}
    """
    found: dict[str, Any] = {}
    for role, model in _mapping(report.get("models")).items():
        model = _mapping(model)
        found |= {f"{role}.{key}": model.get(key) for key in _OF_MODEL}
        times = _mapping(model.get("latency_ms"))
        found |= {f"{role}.{key}_ms": times.get(key) for key in ("p50", "p99")}
    found |= _shipped(report)
    pair = _mapping(report.get("comparison"))
    found |= {key: pair.get(key) for key in _OF_PAIR}
    for key in ("accuracy_change", "gain"):
        found[key] = _mapping(pair.get(key)).get("mean")
    return {key: float(value) for key, value in found.items() if _is_number(value)}


def _shipped(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of the compressed file, where that is what is shipped."""
    chosen = sweep_of(report)
    if chosen is None:
        return {}
    point, test = chosen
    change = test["against"]["teacher"]
    return {
        "shipped.accuracy": test["accuracy"]["mean"],
        "shipped.accuracy_change": change["accuracy_change"]["mean"],
        "shipped.negative_flip_rate": change["negative_flip_rate"],
        "shipped.file_bytes": point["bytes"],
        "shipped.p50_ms": point["latency_ms"]["p50"],
        "shipped.p99_ms": point["latency_ms"]["p99"],
    }


def _teacher(report: Mapping[str, Any], teacher: Any) -> dict[str, Any]:
    words = _mapping(report.get("data")).get("teacher") or ""
    known = _mapping(teacher)
    return {
        "name": str(known.get("name", "")),
        "accuracy": known.get("accuracy"),
        "parameters": known.get("parameters"),
        "taught": str(words),
    }


def _prints(manifest: Mapping[str, Any]) -> dict[str, str]:
    return {str(k): str(v) for k, v in _mapping(manifest["run"].get("data")).items()}


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
