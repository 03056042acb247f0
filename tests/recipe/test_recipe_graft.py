"""Students that end in the teacher's classifier, and batches of several versions of an example."""

import pytest
import torch
from recipe_samples import changed, quiet_run, small
from safetensors.torch import load_file

from tutelage.core.errors import TutelageError
from tutelage.models import Frozen, Grafted, Observed
from tutelage.recipe import run, students
from tutelage.recipe.arms import Trained
from tutelage.recipe.check import check
from tutelage.recipe.equipment import loader
from tutelage.recipe.plan import Given, load_data
from tutelage.recipe.teaching import Taught
from tutelage.recipe.trying import planned
from tutelage.recipe.validated import recipe_from

GRAFT = {
    "student_feature": "layer2",
    "teacher_feature": "layer2",
    "head": ["pool2", "pool", "linear"],
}


def maps(archive, **student):
    """Both networks have maps."""
    return {
        **small(archive),
        "teacher": {"model": {"vgg": {"widths": [8, 16], "per_stage": 1}}, "train": {"epochs": 8}},
        "student": {"model": {"vgg": {"widths": [4, 8], "per_stage": 1}}, **student},
        "train": {"epochs": 6, "batch_size": 50, "learning_rate": 0.1},
        "baseline": False,
    }


def simkd(archive):
    objective = [{"simkd": {"pairs": {"projector": "layer2"}}}]
    return {**maps(archive, graft=GRAFT), "objective": objective}


def sskd(archive):
    several = {"sskd": {"student": "layer2", "teacher": "layer2"}}
    recipe = {**maps(archive), "objective": [{"ce": {"weight": 0.4}}, several]}
    return changed(recipe, "data/variants", {"rotations": {"labels": "plain"}})


def try_out(recipe):
    parsed = recipe_from(recipe)
    return planned(parsed, Given(load_data(parsed)))


@pytest.fixture(scope="module")
def grafted(archive, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("run") / "out"
        return quiet_run(simkd(archive), folder), folder


def test_a_grafted_student_learns_and_ends_in_the_teachers_classifier(grafted):
    result, folder = grafted
    assert isinstance(result.student.model, Grafted)
    head, theirs = result.student.model.head[2], result.teacher.model.linear
    assert torch.equal(head.weight, theirs.weight)
    assert "head.2.weight" in load_file(folder / "student.safetensors")
    told = result.report["models"]["student"]
    assert told["parameters"] == result.student.model.sizes()["deployed"]
    assert told["accuracy"] > 0.2


def test_a_finished_grafted_run_comes_back_as_it_was(grafted, archive):
    result, folder = grafted
    again = quiet_run(simkd(archive), folder, resume=True).student.model.state_dict()
    for name, value in result.student.model.state_dict().items():
        assert torch.equal(again[name], value), name


def test_a_grafts_first_weights_follow_from_the_seed_alone(archive):
    made = try_out(simkd(archive))
    teacher = made.teacher.make(0)

    def projector(seed):
        torch.rand(1)
        return made.learning(seed, teacher).model.projector.layers[0].weight

    assert torch.equal(projector(0), projector(0))
    assert not torch.equal(projector(0), projector(1))


def test_a_graft_gives_the_datas_classes_where_the_teacher_has_another_order(archive):
    recipe = simkd(archive)
    classes = list(load_data(recipe_from(recipe)).classes)
    made = try_out(changed(recipe, "teacher/classes", classes[::-1]))
    teacher = made.teacher.make(0)
    student = made.learning(0, teacher)
    assert isinstance(student, Observed)
    assert student.classes.tolist() == teacher.classes.tolist() == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("student/graft/head", ["pool"], r"student\.graft: the head pool does not give"),
        ("student/graft/head", [], r"student\.graft\.head: got \[\]"),
        ("student/graft/factor", 0, r"student\.graft\.factor: got 0"),
        ("student/graft/teacher_feature", "layer9", r"student\.graft: the teacher has no module"),
        ("student/graft/student_feature", "linear", r"student\.graft: the student's feature"),
        ("student/intake", {"size": 14}, r"student\.graft: the student reads .* give both one"),
    ],
)
def test_a_graft_that_does_not_fit_is_refused_in_one_line(archive, key, value, says):
    with pytest.raises(TutelageError, match=says) as caught:
        try_out(changed(simkd(archive), key, value))
    assert "\n" not in str(caught.value)


def arms_of(recipe, monkeypatch):
    """What each arm of a run would be trained with."""
    made, found = try_out(recipe), {}
    taught = Taught(Frozen(made.teacher.make(0)), None, 0.0, [], None)

    def spy(label, make, setting, examples, *, several=None, **rest):
        batches = loader(examples, made.train, 0)
        batches = several(batches) if several else batches
        network = make()
        found[label] = (network.model, next(iter(batches.epoch(0))).variant)
        return Trained(label, network, 0.0, 0, 0.0)

    monkeypatch.setattr(students, "train_arm", spy)
    run.student_arm(made, taught, 0, "student", None)
    students.baseline_arm(made, None, 0, "baseline", None)
    return found


def test_the_baseline_of_a_grafted_student_keeps_its_own_classifier(archive, monkeypatch):
    found = arms_of({**simkd(archive), "baseline": {}}, monkeypatch)
    assert isinstance(found["student"][0], Grafted)
    assert found["baseline"][0].linear.weight.requires_grad


def test_the_student_and_its_teacher_see_all_turns_and_the_baseline_does_not(archive, monkeypatch):
    found = arms_of({**sskd(archive), "baseline": {}}, monkeypatch)
    assert found["student"][1].tolist() == [0, 1, 2, 3] * 50
    assert found["baseline"][1] is None


def test_a_check_knows_turns_and_grafts(archive):
    assert {share.term for share in check(sskd(archive)).shares} == {"ce", "sskd", "sskd_head"}
    assert {share.term for share in check(simkd(archive)).shares} == {"simkd"}


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("data/variants", "rotation", r"data\.variants: there is no variant called 'rotation'"),
        ("data/variants", {"rotations": {"labels": "none"}}, r"data\.variants\.rotations\.labels"),
        ("data/variants", {"rotations": {"turns": 4}}, r"data\.variants\.rotations\.turns"),
        ("data/variants", None, "sskd needs several versions of each example"),
    ],
)
def test_wrong_variants_are_refused_in_one_line(archive, key, value, says):
    with pytest.raises(TutelageError, match=says) as caught:
        try_out(changed(sskd(archive), key, value))
    assert "\n" not in str(caught.value)
