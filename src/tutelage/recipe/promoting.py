"""A version is held against the one in production, on the same examples, before it takes its place.

The figures and the gates are the house's own: the version in production stands where a report has
the teacher, and the one that wants its place where it has the student.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tutelage.core.errors import RecipeError, suggest
from tutelage.data import Splits
from tutelage.deployment.manifest import MODELS
from tutelage.deployment.registry import Registry, Version
from tutelage.deployment.registry.lineage import own_gates, report_of
from tutelage.deployment.registry.words import PRODUCTION
from tutelage.evaluation import (
    GATES,
    DataFacts,
    Latency,
    Measured,
    Report,
    check_gates,
    environment,
    file_bytes,
    onnx_latency,
    predict,
)
from tutelage.evaluation.gates.gauges import compared_share
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.recipe.arms import Desk
from tutelage.recipe.candidates import candidate
from tutelage.recipe.evaluating import plain
from tutelage.recipe.reading import Data
from tutelage.recipe.shelf import Shelf, data_of

DEFAULTS: Mapping[str, Any] = {
    "negative_flips": {"at_most": 0.02, "by": "shown"},
    "accuracy_drop": {"at_most": 0.0, "by": "not_refuted"},
}
"""What a promotion is held to: at most 2 % negative flips, shown by the upper end of Wilson's
interval; and the accuracy is not shown to be lower, by Newcombe's paired interval."""

_ALLOWED = tuple(name for name in GATES if name != "gain")  # there is no baseline
_ROLES = ("teacher", "student")  # in production, candidate


@dataclass(frozen=True)
class Promotion:
    """What came of asking for a promotion.

    Attributes:
        version: The one that was to be promoted.
        before: The version that the alias pointed to; None for none.
        evidence: What decided; None where it went without gates.
        passed: Whether it is promoted.
    """

    version: Version
    before: Version | None
    evidence: Mapping[str, Any] | None
    passed: bool


def promote(
    registry: Registry,
    name: str,
    number: int,
    *,
    alias: str = PRODUCTION,
    data: str | Data | None = None,
    gates: Mapping[str, Any] | None = None,
    without_gates: str | None = None,
    desk: Desk | None = None,
) -> Promotion:
    """Promote a version if it passes its gates; a refusal is written down, and moves nothing.

    The first version has nobody to be compared with: the gates of its own run must have passed.

    Args:
        registry: Where it is.
        name: Of the model.
        number: Of the version.
        alias: What is to point to it.
        data: Whose test split decides, as `tutelage.recipe.evaluating.evaluate` takes it; None
            for the data of the recipe in the version's own report.
        gates: Over `DEFAULTS`, by name, as a recipe gives them.
        without_gates: Why no gate is asked; it stays in the history.
        desk: Where progress is told.

    Raises:
        TutelageError: One line: a word is wrong, or the models cannot answer the data.
    """
    asked = _checked({**DEFAULTS, **(gates or {})})
    version = registry.resolve(f"{name}/{number}")
    before = _holder(registry, name, alias)
    if without_gates is not None:
        if not without_gates.strip():
            raise RecipeError("--without-gates: say why, in words: they stay in the history.")
        why = f"without gates: {without_gates}"
        moved = registry.promote(name, number, alias=alias, why=why)
        return Promotion(moved, before, None, True)
    if before is not None and before.number == version.number:
        raise RecipeError(f"{version.words} is in {alias} already: there is nothing to do.")
    evidence = (
        _first(version)
        if before is None
        else held_against(registry, version, before, _data(version, data), asked, desk)
    )
    if not evidence["passed"]:
        registry.refuse(name, number, alias=alias, evidence=evidence)
        return Promotion(version, before, evidence, False)
    return Promotion(
        registry.promote(name, number, alias=alias, evidence=evidence), before, evidence, True
    )


def held_against(
    registry: Registry,
    version: Version,
    before: Version,
    data: Splits,
    gates: Mapping[str, Any],
    desk: Desk | None = None,
) -> dict[str, Any]:
    """Both versions' files answer the same test examples; what is found, as plain data.

    Args:
        registry: Whose history says how often these examples have decided.
        version: The one that wants to be promoted.
        before: The one it is held against.
        data: Its test split is opened.
        gates: As a recipe gives them.
        desk: Where progress is told.

    Returns:
        ``passed``, ``against``, ``digest``, ``data`` (``name``, ``test``: its fingerprint,
        ``examples``, ``used``: how many promotions of this name it has decided, with this one),
        ``figures`` (accuracies, ``accuracy_change`` and ``negative_flips`` with their intervals,
        ``latency_ratio`` of medians, ``size_ratio`` of files: of the candidate over the other),
        ``gates``, ``notes``.
    """
    if desk is not None:
        desk.say(f"{before.words} and {version.words} answer the test split of {data.name}")
    shelf, pair = Shelf(), {"teacher": before, "student": version}
    models = {
        role: candidate(each.words, str(each.folder / MODELS[0]), data, shelf).answers
        for role, each in pair.items()
    }
    test = data.test.open(f"the promotion of {version.words}")
    files = {role: each.folder / MODELS[0] for role, each in pair.items()}
    times = onnx_latency(files, data.validation.batch(torch.arange(1)))
    measured = {
        role: _measured(model, predict(model, test), times[role])
        for role, model in models.items()
        if isinstance(model, OnnxModel)
    }
    report = Report(
        recipe={"promote": version.words, "against": before.words},
        seed=0,
        teacher=measured["teacher"],
        student=measured["student"],
        data=DataFacts(data.name, len(data.train), len(data.validation), len(test)),
        gates=gates,
        environment=environment(date=""),
    ).figures
    print_ = data.test.fingerprint()
    used = 1 + sum(each.data == print_ for each in registry.history(version.name))
    return {
        "passed": all(gate["passed"] for gate in report["gates"]),
        "against": before.number,
        "digest": version.digest,
        "data": {"name": data.name, "test": print_, "examples": len(test), "used": used},
        "figures": _figures(report),
        "gates": [_worded(gate) for gate in report["gates"]],
        "notes": _notes(version, before, data, used),
    }


def _first(version: Version) -> dict[str, Any]:
    """The first one in its place: what its own run was held to."""
    gates = own_gates(report_of(version.folder))
    return {
        "passed": bool(gates) and all(gate["passed"] is True for gate in gates),
        "against": None,
        "digest": version.digest,
        "gates": gates,
        "notes": [
            "nobody was there to be compared with: the gates of its own run decided"
            if gates
            else "nobody is there to be compared with, and its own run was held to no gates"
        ],
    }


def _holder(registry: Registry, name: str, alias: str) -> Version | None:
    held = [each for each in registry.versions(name) if alias in each.aliases]
    return held[0] if held else None


def _checked(gates: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in gates:
        if name not in _ALLOWED:
            raise RecipeError(
                f"--gate {name}: a promotion cannot be held to it. {suggest(name, _ALLOWED)}"
            )
    check_gates(gates)
    return gates


def _data(version: Version, words: str | Data | None) -> Splits:
    if words is not None:
        return data_of(plain(words) if isinstance(words, str) else words, Shelf())
    recipe = report_of(version.folder).get("recipe")
    source = recipe.get("data", {}).get("source") if isinstance(recipe, dict) else None
    if source is None or "python" in (source, *(source if isinstance(source, dict) else ())):
        raise RecipeError(
            f"{version.words} does not say what data it was tested on: name the data that "
            "decides: --data SOURCE, a recipe or a run folder."
        )
    return data_of(source, Shelf())


def _measured(model: OnnxModel, answers: Any, latency: Latency) -> Measured:
    heavy = file_bytes(model.path)
    return Measured(answers, model.parameters, model.bytes, None, [latency], "", heavy)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    old, new = (report["models"][role] for role in _ROLES)
    return {
        "accuracy": {"production": old["accuracy"], "candidate": new["accuracy"]},
        "accuracy_change": report["comparison"]["accuracy_change"],
        "negative_flips": compared_share(report, "negative_flip_rate"),
        "positive_flips": compared_share(report, "positive_flip_rate"),
        "p50_ms": {"production": _p50(old), "candidate": _p50(new)},
        "latency_ratio": _p50(new) / _p50(old),
        "bytes": {"production": old["file_bytes"], "candidate": new["file_bytes"]},
        "size_ratio": new["file_bytes"] / old["file_bytes"],
    }


def _p50(model: Mapping[str, Any]) -> float:
    return float(model["latency_ms"]["p50"])


def _worded(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate that speaks of a teacher means the version in production here."""
    words = str(gate["meaning"]).replace("the teacher", "the version in production")
    words = words.replace("teacher's over student's", "production's over candidate's")
    return {**gate, "meaning": words.replace("the student", "the candidate")}


def _notes(version: Version, before: Version, data: Splits, used: int) -> list[str]:
    times = "once, now" if used == 1 else f"{used} times, now included"
    found = [
        f"this test set has decided promotions of {version.name} {times}: the more often one set "
        "decides, the more what passes is fitted to it, and the less its intervals mean"
    ]
    learned = data.train.fingerprint()
    strange = [v.words for v in (before, version) if v.lineage["data"].get("train") != learned]
    if strange:
        found.append(
            f"{' and '.join(strange)} learned from other data than the training split of "
            f"{data.name}: whether these test examples were among them is not known"
        )
    return found
