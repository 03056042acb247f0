"""The student of a teacher that knows nothing."""

import torch
from test_recipe_ways import distil
from torch import nn

from tutelage.core.batch import Batch
from tutelage.models import Observed
from tutelage.recipe.control import unknowing


class Odd(nn.Module):
    """A module with weights of its own, and no way to draw them anew."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.arange(12.0).view(3, 4))

    def forward(self, x):
        return x @ self.table.T


def test_nothing_of_what_the_teacher_knows_is_left_and_the_teacher_stays():
    teacher = Observed(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Odd()))
    teacher.model[1].running_mean.fill_(3.0)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    state = torch.get_rng_state()
    found = unknowing(teacher, 5)
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key])
    drawn = found.observed.model
    assert not torch.equal(drawn[0].weight, teacher.model[0].weight)
    assert torch.equal(drawn[1].running_mean, torch.zeros(4))
    assert not torch.equal(drawn[2].table, teacher.model[2].table)
    assert torch.equal(drawn[2].table.flatten().sort().values, torch.arange(12.0))
    again = unknowing(teacher, 5)(Batch(torch.ones(2, 4))).logits
    assert torch.equal(found(Batch(torch.ones(2, 4))).logits, again)


def test_the_report_compares_with_it(tmp_path):
    result = distil("classic", tmp_path / "run", control=True, report="fidelity", objective=["kd"])
    figures = result.report["parts"]["fidelity"]["figures"]
    agreement = {role: figures["models"][role]["agreement"]["mean"] for role in figures["models"]}
    assert set(agreement) >= {"student", "baseline", "control"}
    assert agreement["student"] > agreement["control"]
    assert figures["taught_beyond_control"] is not None
    assert (tmp_path / "run" / "checkpoint" / "control-0").exists()
    assert any("control" in note for note in result.report["notes"])  # what it took


def test_it_is_there_only_where_it_was_asked_for():
    result = distil("classic", report="fidelity")
    assert result.report["parts"]["fidelity"]["figures"]["taught_beyond_control"] is None
