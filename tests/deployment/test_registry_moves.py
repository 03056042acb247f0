"""Aliases move by one step, on stated grounds, and every step can be read later."""

import threading
from contextlib import suppress

import pytest

from registry_samples import ended, filled, forked, home, packages
from tutelage.core.errors import PackageError, RecipeError
from tutelage.deployment.registry import Event, Registry
from tutelage.deployment.registry.history import standing, told
from tutelage.deployment.registry.store import Store


@pytest.fixture
def registry(tmp_path):
    with Registry(filled(tmp_path / "home")) as made:
        yield made


def good(against, **more):
    return {"passed": True, "against": against, "data": {"test": "f" * 64}, **more}


def test_promotions_and_rollbacks_keep_their_history(registry):
    assert registry.promote("digits", 1, evidence=good(None)).aliases == ("production",)
    registry.promote("digits", 2, evidence=good(1))
    registry.promote("digits", 3, evidence=good(2))
    assert registry.resolve("digits").number == 3
    assert registry.rollback("digits", why="alarm").number == 2
    assert registry.rollback("digits").number == 1
    with pytest.raises(RecipeError, match="nothing to go back to: digits/1 is in production"):
        registry.rollback("digits")
    registry.promote("digits", 4, why="by hand")
    assert registry.rollback("digits").number == 1
    told = [(e.kind, e.before, e.after, e.why, e.done) for e in registry.history("digits")]
    assert told == [
        ("promote", None, 1, "", True),
        ("promote", 1, 2, "", True),
        ("promote", 2, 3, "", True),
        ("rollback", 3, 2, "alarm", True),
        ("rollback", 2, 1, "", True),
        ("promote", 1, 4, "by hand", True),
        ("rollback", 4, 1, "", True),
    ]
    first = registry.history("digits")[0]
    assert registry.evidence(first.evidence) == good(None)
    assert first.data == "f" * 64
    assert first.who
    assert first.when.endswith("+00:00")


def test_what_evidence_does_not_allow_moves_nothing(registry):
    registry.promote("digits", 1, evidence=good(None))
    for evidence, says in (
        (None, "without evidence: hold it to gates, or say why"),
        ({**good(1), "passed": False}, "gates failed"),
        ({**good(1), "passed": 1}, "gates failed"),
        (good(None), "moved meanwhile: version 1 is there now"),
        (good(1, digest="0" * 64), "about another package"),
    ):
        with pytest.raises(RecipeError, match=says):
            registry.promote("digits", 2, evidence=evidence)
    with pytest.raises(RecipeError, match="in production already"):
        registry.promote("digits", 1, evidence=good(1))
    with pytest.raises(RecipeError, match="has no version 9"):
        registry.promote("digits", 9, why="x")
    registry.refuse("digits", 2, evidence={**good(1), "passed": False})
    assert registry.resolve("digits").number == 1
    last = registry.history("digits")[-1]
    assert (last.kind, last.after, last.done) == ("refuse", 2, False)
    with pytest.raises(RecipeError, match="nothing to go back to"):
        registry.rollback("digits")
    with pytest.raises(RecipeError, match="there is no model 'digit'"):
        registry.rollback("digit")


def test_evidence_that_was_changed_is_not_shown(registry):
    registry.promote("digits", 1, evidence=good(None))
    digest = registry.history("digits")[0].evidence
    (registry.home / "evidence" / f"{digest}.json").write_text("{}")
    with pytest.raises(PackageError, match="was changed"):
        registry.evidence(digest)


def test_a_rollback_to_a_damaged_package_is_refused(registry):
    registry.promote("digits", 1, why="x")
    registry.promote("digits", 2, why="x")
    (registry.resolve("digits/1").folder / "student.onnx").unlink()
    with pytest.raises(PackageError, match=r"student.onnx is missing"):
        registry.rollback("digits")
    assert registry.resolve("digits").number == 2


def test_an_alias_has_its_own_history(registry):
    registry.promote("digits", 1, why="x")
    registry.promote("digits", 2, alias="europe", why="x")
    registry.promote("digits", 3, alias="europe", why="x")
    assert registry.rollback("digits", alias="europe").number == 2
    assert registry.resolve("digits").number == 1
    with pytest.raises(RecipeError, match="gates guard it"):
        registry.add("digits", packages()[0], alias="europe")


def test_what_another_tool_moved_is_told_and_can_be_rolled_back(registry):
    registry.promote("digits", 1, why="x")
    store = Store(registry.uri, registry.home)
    store.point("digits", "production", 3)
    store.close()
    assert [event.kind for event in registry.history("digits")] == ["promote", "outside"]
    assert registry.rollback("digits").number == 1


def test_events_that_never_took_effect_are_known_by_what_came_after():
    moves = [(1, 2), (1, 3), (3, 4), (3, 5)]
    events = [Event(f"{n:020d}", "", "", "promote", "a", *m) for n, m in enumerate(moves, 1)]
    found = [each for each in told(events, {"a": 5}) if each.kind != "outside"]
    assert [each.done for each in found] == [False, True, False, True]
    assert standing(told(events, {"a": 5}), "a") == [1, 3, 5]
    assert standing(told(events, {"a": 3}), "a") == [1, 3]


def _many(place, mine):
    with Registry(place) as registry:
        for number, package in enumerate(packages()):
            registry.add(f"own-{mine}", package)
            registry.add("shared", package)
            registry.promote(f"own-{mine}", number + 1, why="x")
            _swap(registry, 1 + (mine + number) % 2)


def _swap(registry, number):
    with suppress(RecipeError):  # the other one was faster, or it is not there yet
        registry.promote("shared", number, why="x")


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    place = home(tmp_path / "home")
    children = [forked(_many, place, mine) for mine in (0, 1)]
    assert [ended(child) for child in children] == [0, 0]
    with Registry(place) as registry:
        assert registry.names() == ["own-0", "own-1", "shared"]
        assert [v.number for v in registry.versions("shared")] == [1, 2, 3, 4, 5]
        assert len({v.digest for v in registry.versions("shared")}) == 5
        assert registry.resolve("own-0").number == registry.resolve("own-1").number == 5
        events = registry.history("shared")
        ends = [event.after for event in events]
        assert [event.before for event in events] == [None, *ends[:-1]]
        assert registry.resolve("shared").number == ends[-1]
        assert all(event.done for event in events)


def _back_and_forth(place):
    with Registry(place) as registry:
        for turn in range(20):
            registry.promote("digits", 2 - turn % 2, why="x")


def test_a_server_that_polls_sees_the_old_version_or_the_new_one(registry):
    registry.promote("digits", 1, why="x")
    registry.close()
    seen, over = [], threading.Event()

    def poll():
        with Registry(registry.home) as polled:
            while not over.is_set():
                seen.append(polled.resolve("digits"))
            seen.append(polled.resolve("digits"))

    child = forked(_back_and_forth, registry.home)
    thread = threading.Thread(target=poll)
    thread.start()
    assert ended(child) == 0
    over.set()
    thread.join()
    assert {version.number for version in seen} == {1, 2}
    assert all("production" in version.aliases for version in seen)
    assert seen[-1].number == 1
