import copy

import pytest
import torch
from recipe_samples import content, small
from torch import nn

import tutelage
from tutelage.core.errors import DataError, RecipeError, TutelageError
from tutelage.data import from_tensors
from tutelage.evaluation.schema import validate_report
from tutelage.models import Intake, Observed
from tutelage.objectives import CrossEntropy, Match, SoftTarget

QUICK = {"train": {"epochs": 2, "batch_size": 32}, "export": False, "quiet": True}


@pytest.fixture(scope="module")
def data():
    made = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 12, generator=made)
    return inputs, (inputs[:, :3] + 0.1 * torch.randn(500, 3, generator=made)).argmax(1)


def big():
    return nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3))


def little():
    return nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))


@pytest.fixture(scope="module")
def teacher(data):
    """A network of the user's own, trained by the user's own means."""
    torch.manual_seed(0)
    model, (inputs, targets) = big(), data
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return model


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_modules_and_tensors_are_enough(teacher, data):
    torch.manual_seed(1)
    student = little()
    before = state(teacher), state(student), teacher.training, student.training
    result = tutelage.distill(teacher, student, data, **QUICK)
    validate_report(result.report)
    assert result.passed
    assert result.folder is None
    assert result.report["models"]["teacher"]["accuracy"] > 0.9
    assert result.report["models"]["student"]["accuracy"] > 0.5
    assert isinstance(result.student.model, nn.Sequential)
    for model, kept in zip((teacher, student), before[:2], strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert (teacher.training, student.training) == before[2:]
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(not module._forward_hooks for module in teacher.modules())


def test_nothing_is_written_where_no_folder_is_asked_for(teacher, data, tmp_path):
    tutelage.distill(teacher, little, data, **QUICK)
    assert not any(tmp_path.iterdir())


def test_nothing_is_said_where_quiet_is_asked_for(teacher, data, capsys):
    tutelage.distill(teacher, little, data, **QUICK)
    assert capsys.readouterr() == ("", "")


def test_a_function_makes_a_student_for_every_seed(teacher, data):
    result = tutelage.distill(teacher, little, data, seeds=[1, 2, 3], **QUICK)
    seeds = result.report["comparison"]["seeds"]
    assert [row["seed"] for row in seeds] == [1, 2, 3]
    assert len({row["student"] for row in seeds}) > 1
    with pytest.raises(RecipeError, match=r"seeds: got \[1, 2\].*give a function"):
        tutelage.distill(teacher, little(), data, seeds=[1, 2], **QUICK)


def test_the_same_call_gives_the_same_student(teacher, data):
    torch.manual_seed(8)
    first = tutelage.distill(teacher, little, data, **QUICK).student
    torch.manual_seed(9)
    second = tutelage.distill(teacher, little, data, **QUICK).student
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))


def test_an_objective_object_is_used_and_not_changed(teacher, data):
    objective = 0.5 * CrossEntropy() + 2.0 * SoftTarget(3) + 0.1 * Match({"0": "0"})
    names = [name for name, _ in objective.named_parameters()]
    result = tutelage.distill(teacher, little, data, objective=objective, **QUICK)
    assert any({"ce", "kd", "match"} <= set(row) for row in result.report["curves"]["student-0"])
    assert [name for name, _ in objective.named_parameters()] == names == []


def test_names_of_the_zoo_and_sections_of_a_recipe_go_as_well(archive, tmp_path):
    recipe = small(archive)
    result = tutelage.distill(
        recipe["teacher"],
        {"mlp": {"hidden": [8]}},
        recipe["data"]["source"],
        objective=recipe["objective"],
        baseline=False,
        out=tmp_path / "out",
        **QUICK,
    )
    assert result.report["models"]["teacher"]["name"] == "mlp(hidden=[32])"
    assert (result.folder / "report.json").exists()


def test_a_teacher_keeps_its_own_normalisation(teacher, data):
    inputs, targets = data
    shifted = inputs * 4 + 1
    seen = Observed(teacher, intake=Intake([1.0], [4.0]))
    result = tutelage.distill(seen, little, (shifted, targets), **QUICK)
    assert result.report["models"]["teacher"]["accuracy"] > 0.9


def test_gates_labels_and_names_are_options_as_in_a_recipe(teacher, data):
    own = {"labels": 30, "name": "mine", "gates": {"accuracy": 0.999}, "baseline": {"epochs": 50}}
    result = tutelage.distill(teacher, little, data, **own, **QUICK)
    assert not result.passed
    assert result.report["data"]["labelled"] == 30
    assert result.report["recipe"]["name"] == "mine"


def test_splits_that_are_there_already_are_taken(teacher, data):
    splits = from_tensors(*data, validation=100, test=150)
    result = tutelage.distill(teacher, little, splits, **QUICK)
    assert result.report["data"]["test"] == 150
    with pytest.raises(DataError, match="already opened for 'the report'"):
        tutelage.distill(teacher, little, splits, **QUICK)


def test_a_run_from_python_goes_on_only_with_the_same_networks(teacher, data, tmp_path):
    tutelage.distill(teacher, little, data, out=tmp_path / "out", **QUICK)
    before = content(tmp_path)
    tutelage.distill(teacher, little, data, out=tmp_path / "out", resume=True, **QUICK)
    assert content(tmp_path) == before
    other = copy.deepcopy(teacher)
    other[0].bias.data += 1
    for wrong in ((other, little), (teacher, big)):
        with pytest.raises(RecipeError, match="another recipe or other data"):
            tutelage.distill(*wrong, data, out=tmp_path / "out", resume=True, **QUICK)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sead": [1]}, r"distill has no option 'sead'. Did you mean 'seeds'\?"),
        ({"epochs": 3}, r"distill has no option 'epochs'. Did you mean|Known"),
        ({"train": {"epoch": 3}}, r"train.epoch: there is no such key .* Did you mean 'epochs'"),
        ({"objective": ["kdd"]}, "objective.0: there is no objective called 'kdd'"),
        ({"objective": []}, "objective: got"),
        ({"objective": CrossEntropy()}, "CrossEntropy does not look at the teacher"),
        ({"objective": Match({"9": "0"})}, "objective: student: .*'9'"),
        ({"objective": Match({"0": "0"}, adapter=None)}, r"objective: .*\(8, 4\).*\(8, 32\)"),
        ({"gates": {"acuracy": 1}}, "gates.acuracy: .*Did you mean 'accuracy'"),
        ({"train": {"learning_rate": torch.tensor(0.1)}}, "plain values only"),
    ],
)
def test_a_wrong_option_is_one_line(teacher, data, options, says):
    options = {**QUICK, **options}
    with pytest.raises(TutelageError, match=says) as caught:
        tutelage.distill(teacher, little, data, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("teacher_", "student", "says"),
    [
        (3, little, "teacher is a int: give a torch module"),
        (big, 3, "student is a int"),
        (lambda: 3, little, "teacher: the function made a int, not a torch module"),
        (nn.Linear(12, 4), little, r"teacher.model: it gives logits of shape \(8, 4\).* 3 classes"),
        (nn.Linear(7, 3), little, r"teacher.model: it cannot read 8 examples of shape \(12,\)"),
        (big, nn.Linear(12, 2), "student.model: it gives logits"),
        (big, nn.Identity(), "student"),
    ],
)
def test_networks_that_do_not_fit_are_one_line(data, teacher_, student, says):
    with pytest.raises(RecipeError, match=says) as caught:
        tutelage.distill(teacher_, student, data, **QUICK)
    assert "\n" not in str(caught.value)


def test_data_of_another_kind_is_one_line(teacher):
    inputs = torch.randn(300, 12)
    with pytest.raises(DataError, match=r"data.source: tensors has no labels.*give targets"):
        tutelage.distill(teacher, little, (inputs, None), **QUICK)
    with pytest.raises(DataError, match=r"data.source: tensors has the class '0' alone"):
        tutelage.distill(teacher, little, (inputs, torch.zeros(300).long()), **QUICK)
    with pytest.raises(RecipeError, match="data is a int: give Splits"):
        tutelage.distill(teacher, little, 5)
    with pytest.raises(RecipeError, match=r"there is no data called 'imagnet'"):
        tutelage.distill(teacher, little, "imagnet")


def test_an_objective_of_another_house_is_one_line(data, teacher):
    with pytest.raises(RecipeError, match=r"objective: got a MSELoss: give one of tutelage.obj"):
        tutelage.distill(teacher, little, data, objective=nn.MSELoss(), **QUICK)
