"""Flips: rates against plain loops, the ratio's range, damage found and clean twins left alone."""

import math

import numpy as np
import pytest
import torch
from evaluation_samples import answers
from test_accuracy_part import damaged, trial

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.seeds import generator
from tutelage.data import Groups
from tutelage.evaluation import Predictions
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Flips
from tutelage.evaluation.regressions.flips import flip_ratio, flip_ratio_over_seeds, flips
from tutelage.evaluation.regressions.luck import Luck, Scale, paired_z, scale


def found(made):
    return examine(made, {"flips": Flips()})["flips"]


def warnings(made):
    return [one["text"] for one in found(made)["findings"] if one["status"] == "warning"]


class TestRates:
    @pytest.mark.parametrize("seed", range(4))
    def test_rates_and_relative_rate_are_those_of_a_plain_loop(self, seed):
        old, new = answers(0.9, seed=seed), answers(0.8, seed=seed + 50)
        negative = errors_old = errors_new = 0
        for a, b, y in zip(
            old.logits.numpy(), new.logits.numpy(), old.targets.tolist(), strict=True
        ):
            right_before, right_now = np.argmax(a) == y, np.argmax(b) == y
            negative += right_before and not right_now
            errors_old += not right_before
            errors_new += not right_now
        n = len(old)
        changed = flips(old, new)
        assert changed.rate == pytest.approx(negative / n, abs=1e-12)
        chance = (1 - errors_old / n) * errors_new / n
        assert changed.relative == pytest.approx(negative / n / chance, abs=1e-9)

    def test_errors_that_have_nothing_in_common_are_1(self):
        each = [flips(answers(0.8, seed=i), answers(0.8, seed=i + 90)).relative for i in range(30)]
        assert sum(each) / 30 == pytest.approx(1, abs=0.02)

    def test_equal_answers_never_flip_and_perfect_ones_have_no_relative_rate(self):
        some, perfect = answers(0.7), answers(1.0)
        assert flips(some, some).rate == flips(some, some).relative == 0
        assert flips(perfect, perfect).relative is None


class TestRatio:
    @pytest.mark.parametrize(("n", "p1", "p2"), [(2000, 0.03, 0.05), (400, 0.05, 0.05)])
    def test_its_range_covers_the_truth(self, n, p1, p2):
        below = above = 0
        for seed in range(300):
            dice = generator(seed, "ratio", n)
            common = torch.rand(n, generator=dice)
            shared = torch.rand(n, generator=dice) < 0.5

            def draw(p, common=common, shared=shared, dice=dice):
                return torch.where(shared, common, torch.rand(len(common), generator=dice)) < p

            one = flip_ratio(draw(p1), torch.stack([draw(p2), draw(p2)]))
            below, above = below + (one.high < p1 / p2), above + (one.low > p1 / p2)
        for missed in (below, above):
            assert missed <= 300 * 0.025 + 3 * (300 * 0.025 * 0.975) ** 0.5

    def test_no_flips_leave_it_finite_and_unsure(self):
        none, some = torch.zeros(100, dtype=torch.bool), torch.arange(100) < 4
        for student, retrain in ((none, none), (some, none), (none, some)):
            one = flip_ratio(student, retrain[None])
            assert all(map(math.isfinite, (one.mean, one.low, one.high)))
            assert one.low <= one.mean <= one.high
        assert flip_ratio(none, none[None]).high > 5
        assert flip_ratio(some, none[None]).mean == 8  # half an example counted

    def test_over_seeds_it_is_students_t_on_logarithms(self):
        one = flip_ratio_over_seeds([0.02, 0.03, 0.04], [0.04, 0.05, 0.05])
        logs = np.log([0.5, 0.6, 0.8])
        reach = 4.302652729911275 * logs.std(ddof=1) / 3**0.5
        assert one.mean == pytest.approx(np.exp(logs.mean()))
        assert (one.low, one.high) == pytest.approx(
            (np.exp(logs.mean() - reach), np.exp(logs.mean() + reach))
        )
        assert flip_ratio_over_seeds([0.1, 0.1], [0.1, 0.1]) is None
        assert flip_ratio_over_seeds([0.0, 0.1, 0.1], [0.1, 0.1, 0.1]) is None

    def test_wrong_shapes_are_refused(self):
        with pytest.raises(DataError, match=r"\(K, N\) of K retrains are needed"):
            flip_ratio(torch.zeros(3, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool))


class TestLuck:
    def test_mcnemars_statistic_is_near_normal_where_only_examples_vary(self):
        pairs = []
        for seed in range(200):
            hits = torch.rand(2, 400, generator=generator(seed, "hits")) < 0.8
            pairs.append((hits[0], hits[1]))
        whole = torch.ones(400, dtype=torch.bool)
        values = [paired_z(*pair, whole) for pair in pairs]
        assert sum(v * v for v in values) / 200 == pytest.approx(1, abs=0.25)

    def test_trainings_that_differ_by_class_raise_the_scale(self):
        masks = [torch.arange(1000) % 5 == c for c in range(5)]
        dice = generator(0, "unsteady")
        first = torch.rand(1000, generator=dice) < 0.9
        second = first & ~(masks[2] & (torch.rand(1000, generator=dice) < 0.3))
        calm, unsteady = (
            scale(Luck([(first, other)], [first], True), paired_z, masks)
            for other in (first, second)
        )
        assert calm.factor == 1
        assert unsteady.factor > 5
        assert unsteady.freedom == 5

    def test_where_nothing_is_known_everything_may_be_luck(self):
        assert Scale(1.0, 0).chance(50.0) == 1.0


class TestPart:
    def test_a_damaged_class_is_named_with_its_counts(self):
        teacher, alone = (answers(0.93, seed=i, total=2000) for i in (1, 2))
        student = damaged(answers(0.93, seed=3, total=2000), teacher.targets == 3, 0.3)
        told = warnings(trial(student, teacher, alone))
        assert len(told) == 1
        assert "Silent regression in the class boot (" in told[0]
        assert "more than the luck of training explains" in told[0]

    def test_without_a_baseline_it_is_named_too(self):
        teacher = answers(0.93, seed=1, total=2000)
        student = damaged(teacher, teacher.targets == 3, 0.2)
        assert "in the class boot (" in warnings(trial(student, teacher))[0]

    def test_what_a_retrain_loses_too_is_no_alarm(self):
        teacher, alone, own = (answers(0.95, seed=i, total=2000) for i in (1, 2, 3))
        hard = teacher.targets == 3
        made = trial(damaged(own, hard, 0.2, 1), teacher, damaged(alone, hard, 0.2, 2))
        assert not warnings(made)
        assert any("boot" in one["text"] for one in found(made)["findings"])

    def test_a_damaged_group_is_named_and_its_gate_reads_it(self):
        teacher, alone, own = (answers(0.93, seed=i, total=2000) for i in (1, 2, 3))
        old = torch.rand(2000, generator=generator(0, "age")) < 0.3
        age = {"age": Groups("age", ("young", "old"), teacher.ids, old.long())}
        made = trial(damaged(own, old, 0.3), teacher, alone, groups=age)
        assert any("in the age group old (" in one for one in warnings(made))
        figures = found(made)["figures"]
        assert figures["worst_group"]["name"] == "age old"
        report = {"parts": {"flips": {"figures": figures}}}
        value = Flips.gates["worst_group_flips"].figure(report)
        assert value["low"] < value["mean"] < value["high"]
        hit = (teacher.logits.argmax(1) == teacher.targets)[old]
        now = (made.answers("student").logits.argmax(1) == teacher.targets)[old]
        assert value["mean"] == pytest.approx((hit & ~now).double().mean().item())

    def test_clean_twins_raise_no_alarm(self):
        alarms = 0
        for run in range(20):
            each = [answers(0.9, seed=500 + 3 * run + i) for i in range(3)]
            alarms += bool(warnings(trial(*each)))
        assert alarms <= 2

    def test_a_teacher_that_kept_its_student_right_is_said_to_have_only_over_seeds(self):
        teacher = answers(0.9, seed=1, total=2000)
        everywhere = torch.ones(2000, dtype=torch.bool)
        near = [damaged(teacher, everywhere, 0.02, i) for i in range(3)]
        far = [answers(0.9, seed=20 + i, total=2000) for i in range(3)]
        one = found(trial(near[0], teacher, far[0]))
        assert not any("Teaching kept" in f["text"] for f in one["findings"])
        assert any("only several seeds would tell" in f["text"] for f in one["findings"])
        seeds = {"student": near[1:], "baseline": far[1:]}
        made = found(trial(near[0], teacher, far[0], seeds=seeds))
        assert any("Teaching kept what the teacher gets right" in f["text"]
                   for f in made["findings"])  # fmt: skip
        assert made["figures"]["ratio"]["of"] == "seeds"
        assert made["figures"]["ratio"]["high"] < 1
        assert len(made["figures"]["between_seeds"]) == 2

    def test_the_surest_flips_come_first_and_are_flips(self):
        teacher, student = answers(0.95, seed=1), answers(0.8, seed=2)
        logits = student.logits * torch.linspace(0.5, 2, 800)[:, None]
        student = Predictions(logits, student.targets, student.ids, student.classes)
        rows = found(trial(student, teacher))["figures"]["surest"]
        assert len(rows) == 10
        sure = [row["student_sure"] for row in rows]
        assert sure == sorted(sure, reverse=True)
        for row in rows:
            place = int((student.ids == row["id"]).nonzero())
            assert teacher.logits[place].argmax() == teacher.targets[place]
            assert student.logits[place].argmax() != student.targets[place]

    def test_a_wrong_option_is_refused(self):
        with pytest.raises(RecipeError, match="shown is -1"):
            Flips(shown=-1)
