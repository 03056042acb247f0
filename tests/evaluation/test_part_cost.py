"""What an answer costs: memory counted exactly, energy read or not invented, words that fit."""

import pytest
import torch
from evaluation_samples import learned, stripes, subjects
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.core.outputs import Outputs
from tutelage.evaluation import macs, parameters
from tutelage.evaluation.costs.energy import energy_per_answer, unmeasurable
from tutelage.evaluation.costs.memory import peak_memory
from tutelage.evaluation.costs.wording import latency_findings, size_findings, training_findings
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts.cost import Cost
from tutelage.models import Observed

QUICK = Cost(batch=8, seconds=0.2, calls=5)
FLOAT = 4


def answering(*layers):
    return Observed(nn.Sequential(*layers).eval())


class TestMemory:
    @pytest.mark.parametrize("total", [1, 7])
    def test_of_a_chain_it_is_the_two_largest_neighbours(self, total):
        net = answering(
            nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 20), nn.Tanh(), nn.Linear(20, 3)
        )
        widest = (50 + 50) * FLOAT * total  # of the first layer and its ReLU
        assert peak_memory(net, Batch(torch.zeros(total, 10))) == widest

    def test_a_map_that_a_shortcut_holds_stays_counted(self):
        class Shortcut(nn.Module):
            def forward(self, x):
                held = x * 2
                return (held + 1 + 1 + 1) + held

        # held, and at the worst moment two of the sum's intermediates
        assert peak_memory(answering(Shortcut()), Batch(torch.zeros(1, 100))) == 3 * 100 * FLOAT

    def test_views_and_work_in_place_are_free(self):
        class InPlace(nn.Module):
            def forward(self, x):
                return (x * 2).relu_().view(-1, 50)[:, ::2].add_(1)

        assert peak_memory(answering(InPlace()), Batch(torch.zeros(2, 50))) == 2 * 50 * FLOAT

    def test_weights_and_the_example_are_not_counted(self):
        net = answering(nn.Linear(1000, 2))
        assert peak_memory(net, Batch(torch.zeros(3, 1000))) == 3 * 2 * FLOAT

    def test_half_precision_takes_half(self):
        net = Observed(nn.Linear(10, 64).to(torch.bfloat16).eval())
        example = Batch(torch.zeros(1, 10, dtype=torch.bfloat16))
        assert peak_memory(net, example) == 64 * 2

    def test_a_model_that_torch_does_not_see_is_an_error_and_no_zero(self):
        with pytest.raises(ModelError, match="cannot be counted here"):
            peak_memory(lambda batch: Outputs(batch.inputs), Batch(torch.zeros(1, 2)))
        with pytest.raises(ModelError, match="cannot answer the example"):
            peak_memory(answering(nn.Linear(3, 2)), Batch(torch.zeros(1, 4)))


class TestEnergy:
    def counters(self, root, joules, end=10**9):
        for name, values in joules.items():
            folder = root / name
            folder.mkdir(exist_ok=True)
            (folder / "energy_uj").write_text(f"{values}\n")
            (folder / "max_energy_range_uj").write_text(f"{end}\n")

    def test_without_counters_it_says_so(self, tmp_path):
        assert "no energy counters" in unmeasurable(tmp_path)
        assert "no energy counters" in unmeasurable(tmp_path / "nowhere")

    def test_counters_that_may_not_be_read_are_said_to_be_so(self, tmp_path):
        self.counters(tmp_path, {"intel-rapl:0": 5})
        assert unmeasurable(tmp_path) is None
        (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
        assert "administrator" in unmeasurable(tmp_path)

    def test_joules_of_an_answer_are_those_of_the_package_alone(self, tmp_path):
        used = {"package": 0, "calls": 0}
        self.counters(tmp_path, {"intel-rapl:0": 0, "intel-rapl:0:0": 0})

        def run():  # two joules a call, and the part of the package counts the same once more
            used["package"] += 2_000_000
            used["calls"] += 1
            self.counters(tmp_path, {"intel-rapl:0": used["package"], "intel-rapl:0:0": 10**8})

        found = energy_per_answer({"net": run}, batch=4, seconds=0.01, root=tmp_path)
        assert found["net"] == pytest.approx(0.5)

    def test_a_counter_that_runs_over_its_end_begins_again(self, tmp_path):
        self.counters(tmp_path, {"intel-rapl:0": 900_000}, end=1_000_000)
        state = {"now": 900_000, "calls": 0}

        def run():
            state["calls"] += 1
            state["now"] = (state["now"] + 200_000) % 1_000_000
            self.counters(tmp_path, {"intel-rapl:0": state["now"]}, end=1_000_000)
            if state["calls"] == 1:
                import time

                time.sleep(0.02)

        found = energy_per_answer({"net": run}, batch=1, seconds=0.01, root=tmp_path)
        assert state["calls"] == 1
        assert found["net"] == pytest.approx(0.2)


class TestPart:
    def test_figures_are_those_of_the_functions(self):
        trial = subjects(training={"student": {"seconds": 4.0, "steps": 40, "runs": 2}})
        found = QUICK.figures(trial)
        student = trial.models["student"]
        batch = trial.test.batch(torch.arange(8))
        assert (
            found["models"]["student"]
            == {
                "parameters": parameters(student).total,
                "bytes": 4 * parameters(student).total + 4 * (4 + 4) + 8,  # BatchNorm's statistics
                "macs": macs(student, batch),
                "macs_why": None,
                "memory": peak_memory(student, batch[:1]),
                "memory_of_batch": peak_memory(student, batch),
                "memory_why": None,
            }
        )
        ways = {(row["backend"], row["threads"], row["batch"]) for row in found["latency"]}
        assert {("torch", 1, 1), ("torch", 1, 8)} <= ways
        assert {row["role"] for row in found["latency"]} == set(trial.models)
        assert found["training"]["student"]["steps"] == 40

    def test_an_operation_of_unknown_cost_is_named_and_never_0(self):
        class Odd(nn.Module):
            def forward(self, x):
                return torch.linalg.matrix_exp(x.flatten(1)[:, :9].reshape(-1, 3, 3))[:, 0]

        trial = subjects(models={"student": Observed(Odd().eval())})
        found = examine(trial, {"cost": QUICK})["cost"]
        assert found["figures"]["models"]["student"]["macs"] is None
        assert "matrix_exp" in found["figures"]["models"]["student"]["macs_why"]
        assert any("matrix_exp" in one["text"] for one in found["findings"])

    def test_a_student_larger_than_its_teacher_is_said_to_take_more(self):
        train = stripes(96, 1)
        small, large = (learned(train, width, 0, steps=1) for width in (2, 16))
        trial = subjects(models={"teacher": small, "student": large})
        told = [one.text for one in QUICK.findings(QUICK.figures(trial))]
        assert any("× more multiply-accumulates" in text for text in told)
        swapped = subjects(models={"teacher": large, "student": small})
        told = [one.text for one in QUICK.findings(QUICK.figures(swapped))]
        assert any("× fewer multiply-accumulates" in text for text in told)
        assert any("× less memory" in text for text in told)

    def test_wrong_options_are_told_in_a_line(self):
        with pytest.raises(DataError, match="batch is at least 2"):
            Cost(batch=1)
        with pytest.raises(DataError, match="seconds 0"):
            Cost(seconds=0)


def row(role, p50, p99, batch=1):
    return {"role": role, "backend": "torch", "threads": 1, "batch": batch, "p50": p50, "p99": p99}


class TestWords:
    def test_a_student_slower_than_its_teachers_slow_calls_is_a_warning(self):
        (found,) = latency_findings([row("teacher", 1.0, 2.0), row("student", 3.0, 4.0)], 32)
        assert found.status == "warning"
        assert "3.0× slower than the teacher" in found.text

    def test_a_student_slower_within_the_teachers_range_is_a_notice(self):
        (found,) = latency_findings([row("teacher", 1.0, 4.0), row("student", 3.0, 5.0)], 32)
        assert found.status == "notice"

    def test_a_faster_student_is_fine(self):
        rows = [row("teacher", 9.0, 9.5), row("student", 3.0, 5.0)]
        rows += [row("teacher", 80.0, 90.0, 32), row("student", 10.0, 11.0, 32)]
        (found,) = latency_findings(rows, 32)
        assert found.status == "fine"
        assert found.text == (
            "On one thread in PyTorch the student takes 3.00 ms for one answer (3.0× faster than "
            "the teacher) and 10.0 ms for 32 at once (8.0× faster than the teacher)."
        )

    def test_without_a_teacher_the_figures_stand_alone(self):
        (found,) = latency_findings([row("student", 3.0, 5.0)], 32)
        assert "than" not in found.text
        student = {"macs": 1000, "macs_why": None, "memory": 10, "memory_why": None}
        (found,) = size_findings({"student": student})
        assert found.text == (
            "One answer of the student takes 1.00 k multiply-accumulates and 10 B memory beside "
            "the weights."
        )

    def test_training_with_a_teacher_is_held_against_training_without(self):
        training = {
            "teacher": {"seconds": 60.0, "steps": 9},
            "student": {"seconds": 30.0, "steps": 9, "runs": 3},
            "baseline": {"seconds": 15.0, "steps": 9, "runs": 3},
        }
        (found,) = training_findings(training)
        assert "took 10 s, 2.0× the 5 s without one; the teacher itself 60 s" in found.text
        assert training_findings({}) == []
