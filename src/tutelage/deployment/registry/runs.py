"""Runs of MLflow: parameters, curves and figures, written once for each identity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tutelage.core.errors import RecipeError
from tutelage.deployment.registry.store import Store, spoken

EXPERIMENT = "tutelage"
REPORT = "tutelage.report"
"""Tag of a run: SHA-256 of its ``report.json``."""

_KEY, _KIND = "tutelage.identity", "tutelage.kind"
_METRICS, _WORDS = 1000, 100  # of one call: MLflow's limits
_LONGEST = 5000  # characters of a value
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Told:
    """What is to be known of a run.

    Attributes:
        name: Of the run.
        identity: Two of the same identity and kind are one run.
        kind: ``run`` for a run's folder, ``package`` for what a package says of its own.
        when: Milliseconds since 1970, of its end.
        params: By name.
        metrics: Name, value and step of each.
        tags: By name.
        files: To keep with it.
    """

    name: str
    identity: str
    kind: str
    when: int
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[tuple[str, float, int]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()


def run_of(store: Store, identity: str, kind: str, tags: Mapping[str, str]) -> str | None:
    """The id of a finished run that has these tags; None for none."""
    for found in _found(store, identity, kind):
        has = found.data.tags
        if found.info.status == "FINISHED" and all(has.get(k) == v for k, v in tags.items()):
            return str(found.info.run_id)
    return None


def write_run(store: Store, told: Told) -> tuple[str, bool]:
    """Write a run, unless it is there.

    Whoever is killed while writing leaves a run that MLflow shows as running; it is marked as
    deleted when the run is written again.

    Returns:
        Its id, and whether it is new.
    """
    known = run_of(store, told.identity, told.kind, {})
    if known is not None:
        return known, False
    for left in _found(store, told.identity, told.kind):
        with spoken(store.uri):
            store.runs.delete_run(left.info.run_id)
    return _write(store, told), True


def _write(store: Store, told: Told) -> str:
    from mlflow.entities import Metric, Param, RunStatus, RunTag

    tags = {_KEY: told.identity, _KIND: told.kind, **told.tags}
    with spoken(store.uri):
        made = store.runs.create_run(
            _experiment(store), "tutelage", told.when, [RunTag(*each) for each in tags.items()],
            told.name,
        )  # fmt: skip
        number = made.info.run_id
        for some in _parted(told.params.items(), _WORDS):
            words = [Param(key, value[:_LONGEST]) for key, value in some]
            store.runs.log_batch(number, [], words, [])
        for parts in _parted(told.metrics, _METRICS):
            points = [Metric(key, value, told.when, step) for key, value, step in parts]
            store.runs.log_batch(number, points, [], [])
        _keep(store, made.info.artifact_uri, told.files)
        store.runs.update_run_info(number, RunStatus.FINISHED, told.when, told.name)
    return str(number)


def _keep(store: Store, place: str, files: Sequence[Path]) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    kept: Any = get_artifact_repository(place, tracking_uri=store.uri)
    try:
        for file in files:
            kept.log_artifact(str(file))
    except OSError as error:
        raise RecipeError(
            f"files of the run cannot be kept in {place} ({error.strerror or error})."
        ) from error


def _experiment(store: Store) -> str:
    found = store.runs.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return str(store.runs.create_experiment(EXPERIMENT, None, []))


def _found(store: Store, identity: str, kind: str) -> Iterable[Any]:
    from mlflow.entities import ViewType

    wanted = f"tags.`{_KEY}` = '{identity}' AND tags.`{_KIND}` = '{kind}'"
    with spoken(store.uri):
        place = [_experiment(store)]
        return list(store.runs.search_runs(place, wanted, ViewType.ACTIVE_ONLY))


def _parted(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    left = iter(items)
    while some := list(islice(left, size)):
        yield some
