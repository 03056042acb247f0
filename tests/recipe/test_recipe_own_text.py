"""Recipes whose student writes, or learns from pairs of answers: settings by name."""

import json

import pytest
from language_samples import quick_latency as quick_latency
from language_samples import recipe
from recipe_samples import quiet_run

from tutelage.core.errors import DataError, TutelageError
from tutelage.data.text import chat
from tutelage.recipe.check import check
from tutelage.recipe.pairs import Pairs
from tutelage.recipe.plan import Given, load_data, plan
from tutelage.recipe.rewards import KnownAnswers, equals, number
from tutelage.recipe.validated import recipe_from
from tutelage.settings import DistiLLM, MiniLLM, PolicyGradient, Preference

SUMS = [(a, b) for a in range(7) for b in range(7)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Sums as conversations, and as pairs of a right and a wrong answer."""
    folder = tmp_path_factory.mktemp("sums")
    said = [{"prompt": f"{a}+{b}", "answer": f"{a + b}"} for a, b in SUMS]
    pairs = [{"prompt": f"{a}+{b}", "chosen": f"{a + b}", "rejected": "none"} for a, b in SUMS]
    for name, rows in (("chat", said), ("pairs", pairs)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


def sums(files, setting, **changes):
    made = recipe("", "bytes")
    made["data"]["source"] = {
        "chat": {"path": str(files / "chat.jsonl"), "tokenizer": "bytes", "length": 32}
    }
    made["setting"] = setting
    made["teacher"]["train"] = {"epochs": 6, "batch_size": 8}
    if next(iter(setting)) in ("minillm", "policy_gradient"):
        del made["objective"]
    return {**made, **changes}


PAIRS = {"preference": {"pairs": "pairs.jsonl"}}
WAYS = [
    ({"minillm": {"most": 4}}, MiniLLM, "minillm_single"),
    ({"distillm": {"most": 4, "every": 1, "start": 0.5}}, DistiLLM, "kd"),
    ({"policy_gradient": {"reward": "teacher", "group": 2, "most": 4}}, PolicyGradient, "policy"),
    ({"policy_gradient": {"reward": "equals", "group": 2, "most": 4}}, PolicyGradient, "policy"),
]


@pytest.mark.parametrize(
    ("setting", "made", "term"), WAYS, ids=["minillm", "distillm", "teacher", "equals"]
)
def test_a_setting_in_which_the_student_writes_runs_by_name(files, tmp_path, setting, made, term):
    written = sums(files, setting)
    written["train"]["learning_rate"] = 0.003
    written["student"]["weights"] = str(warm(files, tmp_path))
    result = quiet_run(written, tmp_path / "out")
    curves = result.report["curves"]["student-0"]
    assert any(term in point for point in curves)
    asked = setting.get("policy_gradient", {}).get("reward") != "equals"
    assert asked != any("was not asked" in note for note in result.report["notes"])


def warm(files, folder):
    """A student that knows how answers look, as these settings want it to begin."""
    path = folder / "warm" / "student.safetensors"
    made = sums(files, {"classic": {}})
    made["train"] = {**made["train"], "epochs": 6, "batch_size": 8}
    quiet_run(made, folder / "warm")
    return path


@pytest.mark.parametrize("reference", ["teacher", "start"])
def test_pairs_as_synthesis_writes_them_teach_preference(files, tmp_path, monkeypatch, reference):
    monkeypatch.chdir(files)
    setting = {"preference": {"pairs": "pairs.jsonl", "reference": reference}}
    made = sums(files, setting, objective=["dpo", {"chosen_answer": {"weight": 1.0}}])
    result = quiet_run(made, tmp_path / "out")
    points = [point["dpo"] for point in result.report["curves"]["student-0"] if "dpo" in point]
    assert points[-1] < points[0]
    told = any("pairs of answers: the teacher" in note for note in result.report["notes"])
    assert told == (reference == "start")


def test_what_yaml_cannot_hold_is_handed_over(files):
    made = planned(sums(files, {"distillm": {"most": 4}}))
    setting = setting_of(made)
    rows = len(made.splits.train)
    assert setting.all_updates == 2 * -(-rows // 16)
    assert len(setting._held_out[0]) == len(made.splits.validation)
    assert setting.pen.end == 256  # the token that ends an answer in bytes
    group = setting_of(planned(sums(files, {"policy_gradient": {"reward": "number"}})))
    assert group.pen.end == 256
    pair = setting_of(planned(sums(files, pairs(files), objective=["dpo"])))
    assert isinstance(pair, Preference)
    assert pair.teacher is not None


def pairs(files):
    return {"preference": {"pairs": str(files / "pairs.jsonl")}}


def planned(written):
    read = recipe_from(written)
    return plan(read, Given(load_data(read)))


def setting_of(made):
    from tutelage.models import Frozen
    from tutelage.recipe.equipment import learner

    teacher = made.teacher.make(0)
    student = learner(made.learning(0, teacher), made.train)
    return made.setting(student, Frozen(teacher), 0)


def test_a_pair_is_one_question_with_both_answers(files):
    made = planned(sums(files, pairs(files), objective=["dpo"]))
    from tutelage.recipe.equipment import loader

    source = made.several(loader(made.splits.train, made.train, 0))
    assert isinstance(source, Pairs)
    batch = next(source.epoch(0))
    cutter = made.splits.train.tokenizer
    for row in range(0, len(batch), 2):
        assert batch.ids[row] == batch.ids[row + 1]
        assert batch.variant[row : row + 2].tolist() == [0, 1]
        right, wrong = (
            cutter.decode(targets[targets >= 0].tolist()).strip()
            for targets in batch.targets[row : row + 2]
        )
        asked = cutter.decode(batch.inputs["input_ids"][row].tolist()).split()[1]
        assert int(right) == sum(map(int, asked.split("+")))
        assert wrong == "none"
    later = next(source.epoch(1, start=1))
    assert later.ids.tolist() != batch.ids.tolist()


def test_named_rewards_hold_an_answer_to_the_datas_own(files):
    splits = chat(str(files / "chat.jsonl"), "bytes", length=32)
    known = KnownAnswers(splits.train, splits.train.tokenizer)
    prompt = list(b"User: 3+4\nAssistant:")
    if tuple(prompt) not in known._found:  # it may be held out
        prompt = list(next(iter(known._found)))
    right = known.to(prompt)
    same, close = equals(known), number(known, tolerance=0.5)
    assert same(prompt, [*right.encode(), 256]) == 1.0
    assert same(prompt, list(b" no")) == 0.0
    assert close(prompt, list(f"so it is {right}.2".encode())) == 1.0
    assert close(prompt, list(f"{right}, no, {int(right) + 1}".encode())) == 0.0
    assert close(prompt, list(b"nothing")) == 0.0
    with pytest.raises(DataError, match="none of the training data's"):
        same([1, 2], [3])


def test_check_tries_a_setting_with_a_loss_of_its_own(files):
    found = check(sums(files, {"minillm": {"most": 2}}))
    assert found.seconds["student"] > 0
    assert found.shares == []


@pytest.mark.parametrize(
    ("setting", "changes", "told"),
    [
        ({"minillm": {}}, {"objective": ["kd"]}, "objective: got .'kd'., and the setting minillm"),
        ({"minillm": {"mix": 2}}, {}, "setting.minillm.mix: "),
        ({"policy_gradient": {}}, {}, "setting.policy_gradient.reward: it is missing"),
        ({"policy_gradient": {"reward": "equal"}}, {}, "reward: .*Did you mean 'equals'"),
        ({"policy_gradient": {"reward": {"number": {"tolerance": -1}}}}, {}, "tolerance is -1"),
        ({"policy_gradient": {"reward": 3}}, {}, "reward: got 3: .* is for Python"),
        ({"preference": {}}, {"objective": ["dpo"]}, "preference.pairs: got None: name a file"),
        ({"preference": {"pairs": "no.jsonl"}}, {"objective": ["dpo"]}, "there is no file"),
        (PAIRS, {"objective": ["kd"]}, "preference: kd is no comparison|objective.0.kd"),
        ({"distillm": {"held_out": 3}}, {}, "setting.distillm.held_out: there is no such option"),
        ({"classic": {}}, {"objective": []}, "objective: got ..: write at least one entry"),
    ],
    ids=lambda value: None,
)
def test_a_wrong_setting_is_told_in_one_line(files, tmp_path, monkeypatch, setting, changes, told):
    monkeypatch.chdir(files)
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(sums(files, setting, **changes), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_kept_answers_are_no_use_to_who_writes(files, tmp_path):
    made = sums(files, {"minillm": {}})
    made["teacher"]["cache"] = {"form": "dense"}
    with pytest.raises(TutelageError, match=r"teacher.cache: in the setting minillm"):
        quiet_run(made, tmp_path / "out")
