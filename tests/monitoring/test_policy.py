"""Policies: what follows from which evidence, and never twice."""

import json
import threading

import pytest

from tutelage.core.errors import RecipeError
from tutelage.monitoring.actions import act, read_actions
from tutelage.monitoring.judge import Finding, Looked
from tutelage.monitoring.policy import CAUSES, Evidence, Policy, decide, policy_of

ROLLBACK = Policy(do="rollback", name="fashion")
NEW, OLD = "b" * 64, "a" * 64


def looked(*causes, of=CAUSES):
    findings = tuple(Finding(cause, cause, "D", 0.5, 0.1, 9.0, cause in causes) for cause in of)
    return Looked(0.0, 1.0, 100, NEW, findings, 4.0, 0.5)


def evidence(now, before=((), ()), older=OLD, of_before=CAUSES):
    series = {"traffic": [looked(*causes) for causes in now]}
    earlier = {"traffic": [looked(*causes, of=of_before) for causes in before]} if older else {}
    return Evidence(NEW, series, earlier, older)


BAD = evidence([("accuracy",), ("accuracy",)])


def test_a_policy_file_is_read_and_its_mistakes_are_named():
    made = policy_of(
        {
            "policy": {
                "on": ["inputs", "accuracy"],
                "after": "2 consecutive windows",
                "do": "rollback",
                "name": "fashion",
                "cool_down": "2 hours",
                "dry_run": True,
            }
        }
    )
    assert made == Policy(("inputs", "accuracy"), 2, 2, "rollback", "fashion", 7200.0, True)
    assert policy_of({"policy": {"after": 3}}).of == 3
    for wrong, told in (
        ({}, "policy"),
        ({"polcy": {}}, "policy"),
        ({"policy": {"onn": 1}}, "Did you mean"),
        ({"policy": {"on": ["acuracy"]}}, "Did you mean 'accuracy'"),
        ({"policy": {"on": []}}, r"policy\.on"),
        ({"policy": {"after": "3 of 2 windows"}}, r"policy\.after"),
        ({"policy": {"after": "soon"}}, r"policy\.after"),
        ({"policy": {"do": "panic"}}, r"policy\.do"),
        ({"policy": {"do": "rollback"}}, r"policy\.name"),
        ({"policy": {"cool_down": "a while"}}, r"policy\.cool_down"),
        ({"policy": {"dry_run": 1}}, r"policy\.dry_run"),
        ({"policy": {"began": "yesterday"}}, r"policy\.began"),
    ):
        with pytest.raises(RecipeError, match=told):
            policy_of(wrong)


@pytest.mark.parametrize(
    ("seen", "does", "why"),
    [
        (evidence([("accuracy",), ()]), "nothing", "lasted"),
        (evidence([(), ("accuracy",)]), "nothing", "lasted"),
        (BAD, "rollback", "began with version bbbbbbbbbbbb"),
        (evidence([("disagreement",)] * 2), "rollback", "began"),
        (evidence([("predictions",)] * 2), "rollback", "began"),
        (evidence([("predictions", "inputs")] * 2), "notify", "sees the same inputs"),
        (evidence([("predictions",), ("predictions", "inputs")]), "notify", "same inputs"),
        (evidence([("accuracy", "inputs")] * 2), "rollback", "began"),
        (evidence([("accuracy",)] * 2, before=[("accuracy",), ()]), "notify", "drifted before"),
        (evidence([("accuracy",)] * 2, older=""), "notify", "no traffic of an older"),
        (evidence([("accuracy",)] * 2, before=()), "notify", "too little"),
        (
            evidence([("accuracy",)] * 2, of_before=["inputs"]),
            "notify",
            "nothing tells of accuracy",
        ),
        (evidence([("predictions",)] * 2, of_before=["inputs"]), "rollback", "began"),
        (
            evidence([("predictions",)] * 2, before=[("inputs",)] * 2, of_before=["inputs"]),
            "notify",
            "inputs drifted before",
        ),
        (evidence([("inputs",)] * 2), "nothing", "lasted"),
    ],
)
def test_a_version_is_rolled_back_for_what_it_did_itself(seen, does, why):
    found = decide(ROLLBACK, seen)
    assert found.do == does
    assert why in found.why


def test_drift_of_inputs_is_told_of_where_asked_and_rolled_back_only_on_demand():
    inputs = evidence([("inputs",)] * 2)
    asked = Policy(("inputs",), do="rollback", name="fashion")
    assert decide(asked, inputs).do == "notify"
    assert "same inputs" in decide(asked, inputs).why
    demanded = Policy(("inputs",), do="rollback", name="fashion", began="whenever")
    assert decide(demanded, inputs).do == "rollback"


class Registry:
    """Versions that can be rolled back until none is older."""

    def __init__(self, older=(OLD,)):
        self.older, self.calls = list(older), []

    def __call__(self, name, why):
        self.calls.append((name, why))
        if not self.older:
            raise RecipeError("fashion has no older version.")
        return self.older.pop()


def test_one_alarm_is_rolled_back_once_and_written_down_with_its_evidence(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry()
    first = act(ROLLBACK, BAD, log, rollback=registry, now=1000.0)
    assert (first["do"], first["result"]) == ("rolled back", OLD)
    for later in (1001.0, 1e6):
        again = act(ROLLBACK, BAD, log, rollback=registry, now=later)
        assert again["do"] in ("nothing", "notify")
    assert len(registry.calls) == 1
    assert registry.calls[0][0] == "fashion"
    entries = read_actions(log)
    assert [one["do"] for one in entries] == ["rollback", "rolled back", "notify"]
    assert entries[0]["evidence"]["now"]["traffic"][0]["findings"][0]["value"] == 0.5
    assert entries[0]["version"] == NEW


def test_nothing_beyond_what_exists_and_no_second_try(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry(older=())
    failed = act(ROLLBACK, BAD, log, rollback=registry, now=1000.0)
    assert failed["do"] == "failed"
    assert "no older version" in failed["result"]
    act(ROLLBACK, BAD, log, rollback=registry, now=1e9)
    assert len(registry.calls) == 1


def test_a_version_that_a_rollback_brought_back_is_not_rolled_back(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry(older=["x" * 64, OLD])
    act(ROLLBACK, BAD, log, rollback=registry, now=1000.0)
    back = Evidence(OLD, BAD.series, BAD.before, NEW)
    found = act(ROLLBACK, back, log, rollback=registry, now=1e9)
    assert found["do"] == "notify"
    assert "people must look" in found["why"]


def test_the_cool_down_holds_for_other_versions_too(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry(older=["y" * 64, OLD])
    act(ROLLBACK, BAD, log, rollback=registry, now=1000.0)
    other = Evidence("c" * 64, BAD.series, BAD.before, OLD)
    held = act(ROLLBACK, other, log, rollback=registry, now=1000.0 + 3599)
    assert "cool-down" in held["why"]
    assert act(ROLLBACK, other, log, rollback=registry, now=1000.0 + 3601)["do"] == "rolled back"


def test_a_notice_is_given_once_within_the_cool_down(tmp_path):
    log, policy = tmp_path / "actions.jsonl", Policy()
    done = [act(policy, BAD, log, now=now)["do"] for now in (0.0, 10.0, 3700.0)]
    assert done == ["notify", "nothing", "notify"]
    assert act(policy, evidence([(), ()]), log, now=9e9)["do"] == "nothing"
    assert len(read_actions(log)) == 2


def test_a_dry_run_changes_nothing_and_does_not_stop_the_real_one(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry()
    dry = Policy(do="rollback", name="fashion", dry_run=True)
    assert "dry run" in act(dry, BAD, log, rollback=registry, now=0.0)["result"]
    assert registry.calls == []
    assert act(ROLLBACK, BAD, log, rollback=registry, now=1.0)["do"] == "rolled back"


def test_without_a_registry_people_are_told(tmp_path):
    found = act(ROLLBACK, BAD, tmp_path / "actions.jsonl", now=0.0)
    assert found["do"] == "notify"
    assert "no registry" in found["why"]


def test_a_monitor_that_dies_amid_a_rollback_does_not_try_again(tmp_path):
    log = tmp_path / "actions.jsonl"

    def dies(name, why):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        act(ROLLBACK, BAD, log, rollback=dies, now=0.0)
    registry = Registry()
    act(ROLLBACK, BAD, log, rollback=registry, now=9e9)
    assert registry.calls == []


def test_two_monitors_at_once_roll_back_once(tmp_path):
    log, registry = tmp_path / "actions.jsonl", Registry(older=["x" * 64, OLD])
    threads = [
        threading.Thread(
            target=act, args=(ROLLBACK, BAD, log), kwargs={"rollback": registry, "now": 5.0}
        )
        for _ in range(6)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(registry.calls) == 1


def test_a_line_cut_short_costs_that_line_alone(tmp_path):
    log = tmp_path / "actions.jsonl"
    act(Policy(), BAD, log, now=0.0)
    with log.open("a") as file:
        file.write('{"do": "roll')
    act(Policy(), BAD, log, now=1e6)
    assert [one["do"] for one in read_actions(log)] == ["notify", "notify"]
    assert all(json.dumps(one) for one in read_actions(log))
