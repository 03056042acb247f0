"""Errors of calibration and temperatures: against torchmetrics, scikit-learn and plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.evaluation import brier, ece, nll, paired_bootstrap
from tutelage.evaluation.calibration.measures import (
    beyond_chance,
    brier_parts,
    classwise_ece,
    debiased_rms,
    ece_difference,
    max_calibration_error,
    sureness,
)
from tutelage.evaluation.calibration.temperature import fit_temperature


def honest(total=500, classes=5, *, seed=0, scale=2.0):
    """Logits, and targets drawn by the very probabilities these give."""
    dice = generator(seed, "honest")
    logits = scale * torch.randn(total, classes, generator=dice, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(-1), 1, generator=dice)[:, 0]
    return logits, targets


def random_case(seed, total, classes, scale=3.0):
    dice = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(total, classes, generator=dice, dtype=torch.float64)
    return logits, torch.randint(classes, (total,), generator=dice)


class TestErrors:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 80), st.integers(2, 6), st.integers(2, 20))
    def test_they_equal_torchmetrics(self, seed, total, classes, bins):
        logits, targets = random_case(seed, total, classes)
        p = logits.softmax(-1)
        for norm, ours in (("l1", ece), ("max", max_calibration_error)):
            theirs = multiclass_calibration_error(p, targets, classes, n_bins=bins, norm=norm)
            assert ours(logits, targets, bins=bins) == pytest.approx(theirs.item(), abs=1e-6)
        each = [
            binary_calibration_error(
                p[:, c].contiguous(), (targets == c).long(), n_bins=bins, norm="l1"
            ).item()
            for c in range(classes)
        ]
        assert classwise_ece(logits, targets, bins=bins) == pytest.approx(np.mean(each), abs=1e-6)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000), st.integers(2, 80), st.integers(2, 5))
    def test_nll_and_brier_equal_scikit_learn(self, seed, total, classes):
        logits, targets = random_case(seed, total, classes)
        p, labels = logits.softmax(-1).numpy(), list(range(classes))
        assert nll(logits, targets) == pytest.approx(
            log_loss(targets.numpy(), p, labels=labels), abs=1e-6
        )
        theirs = brier_score_loss(targets.numpy(), p, labels=labels, scale_by_half=False)
        assert brier(logits, targets) == pytest.approx(theirs, abs=1e-6)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 60), st.integers(2, 5), st.integers(2, 15))
    def test_the_parts_of_a_brier_score_equal_plain_loops_and_add_up(
        self, seed, total, classes, bins
    ):
        logits, targets = random_case(seed, total, classes)
        p, y = logits.softmax(-1).numpy(), targets.numpy()
        reliability = resolution = uncertainty = 0.0
        for c in range(classes):
            o = (y == c).astype(float)
            uncertainty += o.mean() * (1 - o.mean())
            for b in range(bins):
                inside = (p[:, c] > b / bins) & (p[:, c] <= (b + 1) / bins)
                if inside.any():
                    share = inside.mean()
                    reliability += share * (p[inside, c].mean() - o[inside].mean()) ** 2
                    resolution += share * (o[inside].mean() - o.mean()) ** 2
        found = brier_parts(logits, targets, bins=bins)
        assert found.reliability == pytest.approx(reliability, abs=1e-9)
        assert found.resolution == pytest.approx(resolution, abs=1e-9)
        assert found.uncertainty == pytest.approx(uncertainty, abs=1e-9)
        whole = found.reliability - found.resolution + found.uncertainty + found.remainder
        assert whole == pytest.approx(brier(logits, targets), abs=1e-9)

    def test_nothing_remains_where_every_bin_holds_one_probability(self):
        p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
        logits, targets = p.log().repeat(4, 1), torch.arange(12) % 2
        assert brier_parts(logits, targets, bins=10).remainder == pytest.approx(0, abs=1e-12)

    def test_the_debiased_error_equals_a_plain_loop(self):
        logits, targets = honest(330)
        sure, hits = (values.numpy() for values in sureness(logits, targets))
        order = np.argsort(sure)
        square = 0.0
        for rows in np.array_split(order, 10):
            a, c = hits[rows].mean(), sure[rows].mean()
            square += len(rows) * ((a - c) ** 2 - a * (1 - a) / (len(rows) - 1)) / len(sure)
        assert debiased_rms(logits, targets, bins=10) == pytest.approx(
            math.sqrt(max(square, 0)), abs=1e-9
        )

    def test_debiased_an_honest_model_is_nearer_to_0_and_a_dishonest_one_stays(self):
        cases = [honest(400, seed=seed) for seed in range(10)]
        plain = np.mean([ece(*case, equal_mass=True) for case in cases])
        squares = np.mean([debiased_rms(*case) ** 2 for case in cases])
        assert squares < plain**2 / 2
        wrong = np.mean([debiased_rms(3 * logits, targets) for logits, targets in cases])
        assert wrong > 0.15

    def test_one_example_and_an_absent_class_have_figures(self):
        one = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([0])
        for metric in (ece, max_calibration_error, classwise_ece, debiased_rms):
            assert math.isfinite(metric(*one))
        assert brier_parts(*one).uncertainty == 0
        assert beyond_chance(*one, seed=0, draws=200).p > 0.1

    def test_equal_confidences_share_a_bin(self):
        logits, targets = torch.zeros(9, 3), torch.arange(9) % 3
        assert ece(logits, targets) == pytest.approx(0, abs=1e-12)
        assert ece(logits, targets, equal_mass=True) == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        "metric",
        [
            max_calibration_error,
            classwise_ece,
            debiased_rms,
            brier_parts,
            fit_temperature,
            lambda z, y: beyond_chance(z, y, seed=0),
            lambda z, y: ece_difference(z, z, y, seed=0),
        ],
    )
    def test_nan_is_refused(self, metric):
        with pytest.raises(DataError, match="NaN"):
            metric(torch.tensor([[0.0, float("nan")]]), torch.tensor([0]))


class TestChance:
    def test_an_honest_model_is_as_likely_below_any_p(self):
        found = [beyond_chance(*honest(200, seed=s), seed=s, draws=200).p for s in range(60)]
        assert 0.3 < np.mean(found) < 0.7
        assert np.mean([p < 0.1 for p in found]) < 0.25

    def test_what_chance_gives_equals_a_plain_simulation(self):
        logits, targets = honest(150)
        sure, _ = sureness(logits, targets)
        dice, errors = np.random.default_rng(0), []
        for _ in range(1500):
            hits = dice.random(150) < sure.numpy()
            place = np.ceil(sure.numpy() * 15).astype(int) - 1
            sums = [abs((sure.numpy() - hits)[place == b].sum()) for b in range(15)]
            errors.append(sum(sums) / 150)
        found = beyond_chance(logits, targets, seed=0, draws=1500)
        assert found.expected == pytest.approx(np.mean(errors), rel=0.03)
        assert found.error == pytest.approx(ece(logits, targets), abs=1e-12)

    def test_three_times_the_logits_are_beyond_it(self):
        logits, targets = honest(300)
        assert beyond_chance(3 * logits, targets, seed=0).p < 0.002

    def test_the_same_seed_gives_the_same_and_the_world_is_left_alone(self):
        logits, targets = honest(100)
        state = torch.get_rng_state()
        first, second = (beyond_chance(logits, targets, seed=5) for _ in range(2))
        assert first == second
        assert torch.equal(torch.get_rng_state(), state)

    def test_a_difference_of_errors_is_that_of_the_errors(self):
        logits, targets = honest(400)
        found = ece_difference(3 * logits, logits, targets, seed=0)
        assert found.mean == pytest.approx(
            ece(3 * logits, targets) - ece(logits, targets), abs=1e-9
        )
        assert 0 < found.low < found.mean < found.high
        same = ece_difference(logits, logits, targets, seed=0)
        assert (same.low, same.mean, same.high) == pytest.approx((0, 0, 0), abs=1e-12)

    def test_a_set_larger_than_a_portion_gives_the_same_kind_of_interval(self, monkeypatch):
        from tutelage.evaluation.calibration import measures as calibration

        logits, targets = honest(200)
        whole = ece_difference(2 * logits, logits, targets, seed=0)
        monkeypatch.setattr(calibration, "_AT_ONCE", 777)
        parts = ece_difference(2 * logits, logits, targets, seed=0)
        assert parts.low == pytest.approx(whole.low, abs=0.02)
        assert parts.mean == whole.mean


class TestTemperature:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.integers(5, 200), st.integers(2, 6), st.floats(0.2, 8))
    def test_it_is_where_scipy_finds_the_least(self, seed, total, classes, scale):
        logits, targets = random_case(seed, total, classes, scale)
        found = fit_temperature(logits, targets)
        theirs = minimize_scalar(
            lambda u: nll(logits * math.exp(-u), targets),
            bounds=(math.log(0.01), math.log(100)),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert nll(logits / found.value, targets) <= theirs.fun + 1e-9
        if not found.limit:
            assert math.log(found.value) == pytest.approx(theirs.x, abs=1e-3)

    @pytest.mark.parametrize("factor", [0.2, 1 / 3, 1.0, 3.0, 20.0])
    def test_scaled_logits_have_a_scaled_temperature(self, factor):
        logits, targets = honest(400)
        plain, found = fit_temperature(logits, targets), fit_temperature(factor * logits, targets)
        assert found.value == pytest.approx(factor * plain.value, rel=1e-6)
        assert found.low == pytest.approx(factor * plain.low, rel=1e-5)

    def test_its_interval_holds_the_truth_as_often_as_it_says(self):
        hits = 0
        for seed in range(100):
            logits, targets = honest(300, seed=seed)
            found = fit_temperature(2 * logits, targets)
            hits += found.low <= 2 <= found.high
        assert 88 <= hits <= 100

    def test_a_set_without_errors_is_bounded_and_said(self):
        found = fit_temperature(4 * torch.eye(3), torch.arange(3))
        assert (found.value, found.limit) == (0.01, "certain")
        assert fit_temperature(4 * torch.eye(3), torch.arange(3), lowest=0.5).value == 0.5

    def test_a_set_of_errors_alone_is_bounded_and_said(self):
        found = fit_temperature(4 * torch.eye(3), torch.tensor([1, 2, 0]))
        assert (found.value, found.limit) == (100, "lost")

    def test_a_model_that_says_the_same_of_all_classes_keeps_1(self):
        found = fit_temperature(torch.ones(4, 3), torch.tensor([0, 1, 2, 0]))
        assert (found.value, found.limit) == (1, "flat")

    def test_a_class_that_is_ruled_out_is_no_nan_unless_it_is_the_true_one(self):
        logits, targets = honest(200)
        ruled = logits.clone()
        ruled[targets != 0, 0] = -math.inf
        found = fit_temperature(ruled, targets)
        without = fit_temperature(ruled.clamp(min=-1e6), targets)
        assert found.value == pytest.approx(without.value, rel=1e-6)
        ruled[:, 0] = -math.inf
        with pytest.raises(DataError, match="rules out"):
            fit_temperature(ruled, targets)

    def test_huge_logits_are_no_trouble(self):
        logits, targets = honest(200)
        found = fit_temperature(1e6 * logits, targets, highest=1e8)
        assert found.value == pytest.approx(1e6 * fit_temperature(logits, targets).value, rel=1e-6)

    @pytest.mark.parametrize("bounds", [{"lowest": 0}, {"highest": 0.5}, {"highest": math.inf}])
    def test_bounds_that_make_no_sense_are_refused(self, bounds):
        with pytest.raises(DataError, match="lowest < 1 < highest"):
            fit_temperature(*honest(10), **bounds)

    def test_unlabelled_examples_are_refused(self):
        with pytest.raises(DataError, match="unlabelled"):
            fit_temperature(torch.zeros(2, 2), torch.tensor([0, -1]))

    def test_the_right_one_lowers_test_loss_by_interval(self):
        logits, targets = honest(1000)
        found = fit_temperature(3 * logits[:500], targets[:500])
        rest = 3 * logits[500:]

        def losses(z):
            return -z.log_softmax(-1).gather(-1, targets[500:, None])[:, 0]

        change = paired_bootstrap(losses(rest / found.value), losses(rest), seed=0)
        assert change.high < 0
