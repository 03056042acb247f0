"""Killed at any moment, or out of room: the registry is whole and the old version is there."""

import resource
import shutil
import signal
import socket

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from registry_samples import die, filled, lived, packages, states
from tutelage.core.errors import TutelageError
from tutelage.deployment.registry import Registry, entering, moves, runs, store
from tutelage.deployment.registry import packages as kept
from tutelage.deployment.registry.store import Store

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Four versions, the second in production."""
    place = filled(tmp_path_factory.mktemp("registry") / "home")
    with Registry(place) as registry:
        registry.promote("digits", 1, why="first")
        registry.promote("digits", 2, why="second")
    return place


@pytest.fixture
def place(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "home")


def _at_commit(number):
    """Killed when a transaction is about to be committed; all statements were sent."""
    count = iter(range(number))

    def stop(_):
        if next(count, None) is None:
            die()

    event.listen(Engine, "commit", stop)


POINTS = {
    "while it is checked": lambda: setattr(kept, "verify", die),
    "before it gets its name": lambda: setattr(kept, "_synced", die),
    "before its run": lambda: setattr(entering, "write_run", die),
    "inside its run": lambda: setattr(runs, "_keep", die),
    "before its model": lambda: setattr(Store, "add_model", die),
    "before its version": lambda: setattr(Store, "add_version", die),
    "before its event": lambda: setattr(Store, "tag_model", die),
    "before its alias": lambda: setattr(Store, "point", die),
    "inside the first transaction": lambda: _at_commit(0),
    "inside the third transaction": lambda: _at_commit(2),
}


def _add(place, plant):
    with Registry(place) as registry:
        plant()
        registry.add("letters", packages()[4], alias="candidate")


@pytest.mark.parametrize("plant", POINTS.values(), ids=POINTS)
def test_a_killed_add_is_there_whole_or_not_at_all(plant, place):
    before = states(place)
    assert lived(_add, place, plant) == KILLED
    assert states(place) == before
    with Registry(place) as registry:
        assert registry.resolve("digits").number == 2
        assert registry.names() in (["digits"], ["digits", "letters"])
        for version in registry.versions("letters"):
            assert version.lineage["student"]
            kept.Packages(place).check(version.digest)
        done = registry.add("letters", packages()[4], alias="candidate")
        assert (done.words, done.aliases) == ("letters/1", ("candidate",))
        assert registry.names() == ["digits", "letters"]
    left = [path.name for path in (place / "packages").iterdir()]
    assert len(left) == 5
    assert not [name for name in left if name.startswith(".")]


MOVES = {
    "before its evidence": lambda: setattr(kept.Packages, "keep", die),
    "inside its evidence": lambda: setattr(kept, "_sync", die),
    "before its event": lambda: setattr(Store, "tag_model", die),
    "before the alias moves": lambda: setattr(Store, "point", die),
    "inside the event": lambda: _at_commit(1),
    "inside the move": lambda: _at_commit(2),
}


def _promote(place, plant):
    with Registry(place) as registry:
        plant()
        evidence = {"passed": True, "against": 2, "data": {"test": "a"}}
        registry.promote("digits", 3, evidence=evidence)


@pytest.mark.parametrize("plant", MOVES.values(), ids=MOVES)
def test_a_killed_promotion_leaves_the_old_version(plant, place):
    assert lived(_promote, place, plant) == KILLED
    with Registry(place) as registry:
        assert registry.resolve("digits").number == 2
        stopped = [each for each in registry.history("digits") if not each.done]
        assert [(each.before, each.after) for each in stopped] in ([], [(2, 3)])
        assert registry.rollback("digits").number == 1
        assert registry.resolve("digits").number == 1
        done = [each.after for each in registry.history("digits") if each.done]
        assert done == [1, 2, 1]
    assert not list((place / "evidence").glob(".*"))


def _rollback(place, plant):
    with Registry(place) as registry:
        plant()
        registry.rollback("digits")


BACK = {
    "before its event": lambda: setattr(Store, "tag_model", die),
    "before the alias moves": lambda: setattr(Store, "point", die),
    "inside the move": lambda: _at_commit(1),
}


@pytest.mark.parametrize("plant", BACK.values(), ids=BACK)
def test_a_killed_rollback_can_be_made_again(plant, place):
    assert lived(_rollback, place, plant) == KILLED
    with Registry(place) as registry:
        assert registry.resolve("digits").number == 2
        assert registry.rollback("digits").number == 1


def _after_the_move(place):
    def move(self, *given, **more):
        was(self, *given, **more)
        die()

    was = moves.Moves.move
    moves.Moves.move = move
    with Registry(place) as registry:
        registry.promote("digits", 3, why="third")


def test_a_kill_after_the_move_is_a_promotion(place):
    assert lived(_after_the_move, place) == KILLED
    with Registry(place) as registry:
        assert registry.resolve("digits").number == 3
        assert registry.history("digits")[-1].done
        assert registry.rollback("digits").number == 2


def _first(place):
    count = iter(range(60))

    def stop(*_):
        if next(count, None) is None:
            die()

    event.listen(Engine, "before_cursor_execute", stop)
    Registry(place).add("digits", packages()[0])


def test_a_kill_while_the_tables_are_made_leaves_no_half_of_them(tmp_path):
    place = tmp_path / "new"
    assert lived(_first, place) == KILLED
    assert not (place / "registry.db").exists()
    assert Registry(place).names() == []
    assert [path.name for path in place.iterdir() if "tmp" in path.name]
    assert lived(_again, place) == 0
    assert Registry(place).names() == ["digits"]
    assert not [path.name for path in place.iterdir() if "tmp" in path.name]


def _again(place):
    Registry(place).add("digits", packages()[0])


def _full(place, most):
    """A disk that takes files of so many bytes; EFBIG stands for ENOSPC."""
    with Registry(place) as registry:
        registry._store()
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        try:
            registry.add("letters", packages()[4], alias="candidate")
        except TutelageError as error:
            words = str(error)
            assert "\n" not in words
            assert "cannot be written" in words or "full" in words or "I/O" in words, words
            return
    raise AssertionError("there was room")


@pytest.mark.parametrize("most", [2_000, -1])
def test_a_full_disk_is_one_line_and_nothing_half_there(most, place):
    size = (place / "registry.db").stat().st_size
    before = states(place)
    assert lived(_full, place, size // 2 if most < 0 else most) == 0
    assert states(place) == before
    assert not [path for path in (place / "packages").iterdir() if path.name.startswith(".")]
    with Registry(place) as registry:
        assert registry.add("letters", packages()[4], alias="candidate").number == 1


def _offline(place):
    def refuse(*_):
        raise AssertionError("it wanted to reach the network")

    socket.socket.connect = refuse
    socket.getaddrinfo = refuse
    with Registry(place) as registry:
        registry.add("digits", packages()[4])
        registry.promote("digits", 3, why="x")


def test_nothing_is_sent_anywhere(place, capfd):
    assert lived(_offline, place) == 0
    assert capfd.readouterr() == ("", "")
    assert store._UNSAID["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_server_that_is_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as taken:  # a port where nobody listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(TutelageError, match=r"the registry at http://127.0.0.1:.* says: "):
            Registry(tmp_path, uri).names()
