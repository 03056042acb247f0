"""The naive forms of response and hidden-state objectives, of several teachers, of weights."""

import pytest
import torch
from benchmarks.naive import basics, hidden, response_a, response_b, several, weighting

from tutelage.testing import default_probe, registered_objective

PARTS = (basics, hidden, response_a, response_b, several, weighting)
NAIVE = {name: form for part in PARTS for name, form in part.NAIVE.items()}


@pytest.mark.parametrize("name", NAIVE)
def test_naive_forms_have_the_same_value(name: str) -> None:
    make = registered_objective(name)
    probe, objective = default_probe(make), make()
    torch.manual_seed(0)
    probe.lend(objective)
    objective.bind(probe.student, probe.teacher)
    terms = objective(probe.student, probe.teacher, probe.batch).values()
    found = float(sum(term.detach() for term in terms))
    naive = NAIVE[name](probe.student, probe.teacher, probe.batch, objective)
    assert found > 0
    assert float(naive.detach()) == pytest.approx(found, rel=1e-5)
