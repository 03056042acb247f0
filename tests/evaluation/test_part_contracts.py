"""What every part of the proof must do, whoever wrote it."""

import functools
import json
from dataclasses import replace

import pytest
import torch
from evaluation_samples import subjects

from tutelage.evaluation.examining import examine, full
from tutelage.evaluation.faces.blocks import as_html, as_markdown
from tutelage.evaluation.gates.gate import Gate
from tutelage.evaluation.schema import _finite

PARTS = full()


@functools.cache
def sample():
    return subjects()


@functools.cache
def examined(name):
    """What a part finds on the whole sample; asked once for all tests that only look."""
    return examine(sample(), {name: PARTS[name]})[name]


@pytest.fixture(scope="module")
def whole():
    return sample()


@pytest.mark.parametrize("name", PARTS)
class TestPart:
    def found(self, name, trial):
        if trial is sample():
            return examined(name)
        return examine(trial, {name: PARTS[name]})[name]

    def test_figures_are_plain_finite_data_and_survive_json(self, name, whole):
        found = self.found(name, whole)
        assert found["left_out"] is None
        assert found["figures"]
        _finite(found["figures"], name)
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_it_says_in_sentences_what_it_found(self, name, whole):
        findings = self.found(name, whole)["findings"]
        assert findings
        for one in findings:
            assert one["status"] in ("fine", "notice", "warning")
            assert one["text"].endswith((".", "!", "?"))
            assert "\n" not in one["text"]

    def test_every_face_shows_it_from_json_alone(self, name, whole):
        figures = json.loads(json.dumps(self.found(name, whole)["figures"]))
        blocks = type(PARTS[name])().blocks(figures)
        assert blocks
        page = as_html(blocks)
        assert "<script" not in page.lower()
        assert 'src="http' not in page
        assert as_markdown(blocks)

    def test_the_models_stay_as_they_were(self, name):
        trial = subjects()
        before = {
            role: {key: value.clone() for key, value in model.state_dict().items()}
            for role, model in trial.models.items()
        }
        modes = {role: model.training for role, model in trial.models.items()}
        grads = {
            role: [p.requires_grad for p in m.parameters()] for role, m in trial.models.items()
        }
        state = torch.get_rng_state()
        self.found(name, trial)
        assert torch.equal(torch.get_rng_state(), state)
        for role, model in trial.models.items():
            assert model.training == modes[role]
            assert [p.requires_grad for p in model.parameters()] == grads[role]
            assert all(p.grad is None for p in model.parameters())
            for key, value in model.state_dict().items():
                assert torch.equal(value, before[role][key]), (role, key)

    def test_asked_twice_it_finds_the_same(self, name):
        first, second = examined(name), self.found(name, subjects())
        timeless = PARTS[name].measures_time
        assert timeless or first["figures"] == second["figures"]

    def test_without_teacher_baseline_and_more_it_works_or_says_why(self, name, whole):
        bare = replace(
            whole,
            models={"student": whole.models["student"]},
            validation=None,
            train=None,
            taught=None,
            outside={},
            groups={},
            seeds={},
        )
        found = self.found(name, bare)
        assert found["left_out"] is not None or found["findings"]

    def test_of_a_model_that_only_answers_it_works_or_says_why(self, name, whole):
        def closed(model):
            return lambda batch: model(batch)

        shut = replace(whole, models={role: closed(m) for role, m in whole.models.items()})
        found = self.found(name, shut)
        assert found["left_out"] is not None or found["findings"]

    def test_its_gates_read_the_report_and_bear_its_absence(self, name, whole):
        for gate in PARTS[name].gates.values():
            assert isinstance(gate, Gate)
            assert gate.figure({"parts": {}}) is None
        found = self.found(name, whole)
        for key, gate in PARTS[name].gates.items():
            value = gate.figure({"parts": {name: found}})
            assert value is not None, f"{key} is not measured on the full sample"
