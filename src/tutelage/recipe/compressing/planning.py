"""What can be known of a recipe's ``compress`` before anything is trained."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from tutelage.compression.calibration import LEAST
from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError, TutelageError
from tutelage.models import Observed
from tutelage.recipe.compressing.stages import Stage, stages_of
from tutelage.recipe.compressing.tree import Node, nodes_of
from tutelage.recipe.equipment import check_train
from tutelage.recipe.plan import Plan
from tutelage.recipe.sections import Train

Meet = Callable[[Plan, Observed], None]
"""Tries a plan with a network of one's own on a few examples."""

_ROWS = 8
_SURELY: Mapping[str, Mapping[str, Any]] = {"low_rank": {"energy": 1e-6}}
"""Options with which a stage changes the structure of a network whose weights are noise."""


def steps(made: Plan) -> list[Node]:
    """All steps of the plan's ways, each after the one that it needs."""
    assert made.compress is not None
    return nodes_of(stages_of(made.compress, made.train))


def healing(made: Plan, heal: Train) -> Plan:
    """The plan by which a compressed student is taught again."""
    return replace(made, train=heal, way=replace(made.way, epochs=heal.epochs))


def check_compress(made: Plan, meet: Meet) -> None:
    """Refuse what cannot be done, as far as a student that was never trained can show it.

    Raises:
        TutelageError: One line naming key, value and remedy.
    """
    if made.compress is None:
        return
    _check_around(made)
    _check_budget(made)
    nodes = steps(made)
    for node in nodes:
        _check_options(node.stage, made)
    networks = untrained(made, nodes)
    for node in nodes:
        if node.stage.heal is not None:
            _check_heal(node.stage, node.stage.heal, networks[node.name], made, meet)


def untrained(made: Plan, nodes: list[Node]) -> dict[str, Observed]:
    """The networks of a sweep, by step, made of a student with its first weights.

    Raises:
        TutelageError: A stage cannot be done to this network.
    """
    first = made.student(made.seeds[0])
    rows = torch.arange(min(_ROWS, len(made.splits.validation)))
    check = made.splits.validation.batch(rows)
    found: dict[str, Observed] = {}
    for node in nodes:
        before = first if node.before is None else found.get(node.before, first)
        if node.stage.kind == "file":
            continue
        try:
            found[node.name] = _structure(node.stage, before, check)
        except TutelageError as error:
            raise type(error)(f"{node.stage.key}: {error}") from error
    return found


def _structure(stage: Stage, before: Observed, check: Batch) -> Observed:
    if stage.kind == "taught":
        learning: Observed = stage.act(before, [check], **stage.options)
        return learning
    try:
        smaller: Observed = stage.act(before, check, **stage.options)[0]
    except ModelError:
        if stage.name not in _SURELY:
            raise
        smaller = stage.act(before, check, **{**stage.options, **_SURELY[stage.name]})[0]
    return smaller


def _check_around(made: Plan) -> None:
    """Other keys of the recipe that this one does not go with."""
    if not made.export:
        raise RecipeError(
            "compress: its files are ONNX, and export is false: set export: true, or remove "
            "compress."
        )
    if made.train.parallel != "none":
        raise RecipeError(
            f"compress: train.parallel is {made.train.parallel!r}, and compression runs in one "
            "process: set train.parallel: none, or remove compress."
        )
    if made.join is not None:
        raise RecipeError(
            "compress: the student has a graft (student.graft), whose parts cannot be made "
            "smaller apart: remove one of the two."
        )


def _check_budget(made: Plan) -> None:
    assert made.compress is not None
    if not made.compress.ways:
        raise RecipeError("compress.ways: got {}: name at least one way, like {int8: [int8]}.")
    if all(limit is None for _, limit in made.compress.budget):
        raise RecipeError(
            "compress.budget: it limits nothing: write bytes, p99_ms or accuracy_drop, like "
            "{accuracy_drop: 0.01}, or leave budget out."
        )


def _check_options(stage: Stage, made: Plan) -> None:
    examples, there = stage.option("examples"), len(made.splits.train)
    if examples is None:
        return
    if not LEAST <= examples <= there:
        raise RecipeError(
            f"{stage.key}.examples: got {examples}, and {there:,} training examples are there to "
            f"calibrate on: write {LEAST} to {there}."
        )


def _check_heal(stage: Stage, heal: Train, network: Observed, made: Plan, meet: Meet) -> None:
    key = f"{stage.key}.heal"
    if heal.parallel != "none":
        raise RecipeError(f"{key}.parallel: got {heal.parallel!r}, and healing is one process.")
    if made.way.peers > 1:
        raise RecipeError(
            f"{key}: in the setting {made.way.named.name} the peers would be untrained: leave heal "
            "out, or teach by another setting."
        )
    _check_views(key, heal, made)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            check_train(heal, made.splits.train, key)
            meet(healing(made, heal), copy.deepcopy(network))
    except TutelageError as error:
        told = str(error)
        raise type(error)(told if told.startswith(key) else f"{key}: {told}") from error


def _check_views(key: str, heal: Train, made: Plan) -> None:
    """A cache holds answers to views of one kind."""
    cache = made.cache
    if cache is None:
        return
    if heal.augment and cache.views is None:
        raise RecipeError(
            f"{key}.augment: got {[each.name for each in heal.augment]}, and teacher.cache has no "
            "views: write teacher.cache.views: 4, say, or leave cache out."
        )
    same = heal.augment == made.train.augment and heal.precision == made.train.precision
    if cache.folder is not None and not same:
        raise RecipeError(
            f"{key}: its augment or precision is not that of train, which needs answers of its "
            f"own, and teacher.cache.folder is one place, {cache.folder!r}: leave folder out."
        )
