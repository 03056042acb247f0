"""Out of distribution: scores and rates against scikit-learn, plants, and clean twins."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_samples import learned, stripes, subjects
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Outputs
from tutelage.data import TensorSet
from tutelage.evaluation.examining import examine
from tutelage.evaluation.ood import (
    energy,
    gaussian_noise,
    leave_out,
    max_logit,
    max_probability,
    nearest_neighbour,
    shuffled,
    uniform_noise,
)
from tutelage.evaluation.parts import OutOfDistribution
from tutelage.evaluation.predict import predict
from tutelage.evaluation.separation import (
    auroc,
    auroc_difference,
    auroc_interval,
    false_positive_rate,
    true_positives,
)


def dice(seed):
    return torch.Generator().manual_seed(seed)


def pairs():
    """Scores with and without ties, of equal and unequal numbers, of one example."""
    for seed, (first, second, levels) in enumerate(
        [(50, 70, 0), (50, 70, 4), (3, 200, 2), (1, 5, 3), (5, 1, 3), (40, 40, 1), (1, 1, 0)]
    ):
        one, two = (torch.randn(n, generator=dice(seed + k)) for k, n in ((0, first), (9, second)))
        yield (one + 0.7, two) if not levels else ((one * levels).round(), (two * levels).round())


@pytest.mark.parametrize(("positives", "negatives"), list(pairs()))
class TestRatesEqualScikitLearn:
    def curve(self, positives, negatives):
        truth = np.r_[np.ones(len(positives)), np.zeros(len(negatives))]
        scores = np.r_[positives.double().numpy(), negatives.double().numpy()]
        return truth, scores, roc_curve(truth, scores, drop_intermediate=False)

    def test_the_area(self, positives, negatives):
        truth, scores, _ = self.curve(positives, negatives)
        assert auroc(positives, negatives) == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)

    @pytest.mark.parametrize("at", [0.95, 0.5, 1.0])
    def test_false_positives_at_a_rate_of_true_ones(self, positives, negatives, at):
        _, _, (fpr, tpr, _) = self.curve(positives, negatives)
        expected = fpr[tpr >= at - 1e-12].min()
        assert false_positive_rate(positives, negatives, at) == pytest.approx(expected, abs=1e-9)

    @pytest.mark.parametrize("at", [0.01, 0.2, 0.0, 1.0])
    def test_true_positives_at_a_rate_of_false_ones(self, positives, negatives, at):
        _, _, (fpr, tpr, _) = self.curve(positives, negatives)
        expected = tpr[fpr <= at + 1e-12].max() * len(positives)
        assert true_positives(positives, negatives, at) == pytest.approx(expected, abs=1e-9)


class TestInterval:
    def delong(self, positives, negatives):
        """The variance by plain loops over all pairs."""
        psi = [[1.0 if p > n else 0.5 if p == n else 0.0 for n in negatives] for p in positives]
        table = np.array(psi)
        up, down = table.mean(1), table.mean(0)
        return table.mean(), up.var(ddof=1) / len(up) + down.var(ddof=1) / len(down), up, down

    def test_delong_is_that_of_plain_loops(self):
        one, two = (torch.randn(n, generator=dice(n)).mul(3).round() for n in (31, 45))
        mean, variance, *_ = self.delong(one.tolist(), two.tolist())
        found = auroc_interval(one, two)
        reach = 1.959963984540054 * variance**0.5
        assert [found.mean, found.low, found.high] == pytest.approx(
            [mean, mean - reach, mean + reach], abs=1e-9
        )

    def test_a_paired_difference_is_that_of_plain_loops(self):
        one, two = torch.randn(30, generator=dice(1)) + 1, torch.randn(40, generator=dice(2))
        other = [each + 0.5 * torch.randn(len(each), generator=dice(3)) for each in (one, two)]
        *_, up, down = self.delong(one.tolist(), two.tolist())
        *_, up2, down2 = self.delong(other[0].tolist(), other[1].tolist())
        variance = (up - up2).var(ddof=1) / 30 + (down - down2).var(ddof=1) / 40
        found = auroc_difference((one, two), tuple(other))
        assert found.mean == pytest.approx(up.mean() - up2.mean(), abs=1e-9)
        reach = 1.959963984540054 * variance**0.5
        assert found.high - found.mean == pytest.approx(reach, abs=1e-9)

    def test_it_holds_the_truth_as_often_as_it_says(self):
        # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
        truth, held = 0.7602499389, 0
        for seed in range(300):
            draw = torch.randn(120, generator=dice(seed))
            found = auroc_interval(draw[:60] + 1, draw[60:])
            held += found.low <= truth <= found.high
        assert 0.91 <= held / 300 <= 0.98

    def test_wholly_apart_is_still_not_certain(self):
        found = auroc_interval(torch.arange(10.0) + 100, torch.arange(20.0))
        assert (found.mean, found.high) == (1.0, 1.0)
        assert 0.6 < found.low < 0.95

    def test_nan_empty_and_unpaired_are_refused(self):
        with pytest.raises(DataError, match="NaN"):
            auroc(torch.tensor([float("nan")]), torch.zeros(2))
        with pytest.raises(DataError, match="at least one"):
            auroc(torch.zeros(0), torch.zeros(2))
        with pytest.raises(DataError, match="same examples"):
            auroc_difference((torch.zeros(2), torch.zeros(3)), (torch.zeros(3), torch.zeros(2)))
        with pytest.raises(DataError, match="at least 2"):
            auroc_interval(torch.zeros(1), torch.zeros(2))


class TestScores:
    def test_scores_are_those_of_numpy(self):
        z = torch.randn(40, 7, generator=dice(0)) * 5
        x = z.double().numpy()
        sums = np.exp(x).sum(1)
        assert max_probability(z).exp().numpy() == pytest.approx(np.exp(x).max(1) / sums, abs=1e-9)
        assert energy(z).numpy() == pytest.approx(np.log(sums), abs=1e-9)
        assert energy(z, 3).numpy() == pytest.approx(3 * np.log(np.exp(x / 3).sum(1)), abs=1e-9)
        assert max_logit(z).numpy() == pytest.approx(x.max(1), abs=1e-9)

    def test_confidences_that_round_to_one_stay_apart(self):
        sure = max_probability(torch.tensor([[60.0, 0.0], [80.0, 0.0]]))
        assert sure[0] < sure[1] < 0

    def test_the_kth_neighbour_is_that_of_plain_loops(self):
        asked, bank = torch.randn(9, 5, generator=dice(1)), torch.randn(30, 5, generator=dice(2))
        unit = [
            each.double().numpy() / np.linalg.norm(each.double(), axis=1)[:, None]
            for each in (asked, bank)
        ]
        distances = np.sort(np.linalg.norm(unit[0][:, None] - unit[1][None], axis=2), axis=1)
        assert (-nearest_neighbour(asked, bank, 4)).numpy() == pytest.approx(
            distances[:, 3], abs=1e-7
        )

    def test_wrong_input_is_one_line(self):
        with pytest.raises(DataError, match="NaN"):
            energy(torch.tensor([[float("inf"), 0.0]]))
        with pytest.raises(DataError, match="neighbour 5 of 2"):
            nearest_neighbour(torch.zeros(1, 2), torch.zeros(2, 2), 5)
        with pytest.raises(DataError, match="above 0"):
            energy(torch.zeros(1, 2), 0)


class TestOutsideSets:
    def test_noise_has_the_mean_and_deviation_of_each_channel(self):
        like = torch.rand(200, 2, 8, 8, generator=dice(0)) * torch.tensor([0.2, 0.4])[:, None, None]
        like = like + 0.3
        made = gaussian_noise(like, 0)
        assert made.mean((0, 2, 3)).tolist() == pytest.approx(
            like.mean((0, 2, 3)).tolist(), abs=0.01
        )
        assert made.std((0, 2, 3)).tolist() == pytest.approx(like.std((0, 2, 3)).tolist(), abs=0.01)

    @pytest.mark.parametrize("make", [uniform_noise, gaussian_noise, shuffled])
    @pytest.mark.parametrize("shape", [(5, 1, 12, 12), (5, 3, 9, 7), (5, 4)])
    def test_each_fits_images_and_tables_and_depends_on_its_seed(self, make, shape):
        like = torch.rand(shape, generator=dice(0))
        assert make(like, 1).shape == shape
        assert torch.equal(make(like, 1), make(like, 1))
        assert not torch.equal(make(like, 1), make(like, 2))

    def test_shuffling_keeps_all_pixels_of_an_image_together(self):
        like = torch.rand(4, 3, 13, 9, generator=dice(0))
        made = shuffled(like, 0)
        assert torch.equal(made.flatten(2).sort().values, like.flatten(2).sort().values)
        whole = made[0].flatten(1).T
        assert all(bool((pixel == like[0].flatten(1).T).all(1).any()) for pixel in whole)

    def test_a_class_is_left_out_and_numbers_stay(self):
        kept, left = leave_out(stripes(30, 1), ["stripe 1"])
        assert set(kept.targets.tolist()) == {0, 2}
        assert set(left.targets.tolist()) == {1}
        assert kept.classes == left.classes == stripes(3, 1).classes

    def test_what_cannot_be_left_out_is_said(self):
        with pytest.raises(DataError, match="stripe 1"):
            leave_out(stripes(30, 1), ["stripe 11"])
        with pytest.raises(DataError, match="some must stay"):
            leave_out(stripes(30, 1), ["stripe 0", "stripe 1", "stripe 2"])
        with pytest.raises(DataError, match="no labels"):
            leave_out(stripes(30, 1).with_targets(None), ["stripe 0"])


def sure_of_noise(model):
    """A model that is surest of the brightest images, whatever they show: noise is brighter."""

    def answer(batch):
        said = model(batch).logits
        loud = 20 * batch.inputs.flatten(1).mean(1, keepdim=True)
        best = nn.functional.one_hot(said.argmax(-1), said.shape[-1])
        return Outputs(best * loud + 0.01 * said)

    return answer


def texts(trial, **options):
    found = examine(trial, {"ood": OutOfDistribution(**options)})["ood"]
    assert found["left_out"] is None
    return found["findings"], found["figures"]


class TestPart:
    def test_a_student_surer_of_noise_is_named_and_its_clean_twin_is_not(self):
        trial = subjects()
        planted = replace(
            trial, models={**trial.models, "student": sure_of_noise(trial.models["student"])}
        )
        told, figures = texts(planted)
        warned = [one["text"] for one in told if one["status"] == "warning"]
        assert any("Shown uniform noise, the student is more sure" in text for text in warned)
        assert any("sense for outsiders" in text for text in warned)
        assert figures["worst"]["auroc"]["mean"] < 0.5
        assert not [one for one in texts(trial)[0] if one["status"] == "warning"]

    def test_of_ten_clean_students_hardly_one_is_warned_of(self):
        trial, alarms = subjects(), 0
        for seed in range(10):
            student = learned(stripes(96, 1), 4, 30 + seed)
            models = {"student": student, "baseline": trial.models["baseline"]}
            told, _ = texts(replace(trial, models=models), most=60, bank=20)
            alarms += any(one["status"] == "warning" for one in told)
        assert alarms <= 2

    def test_a_class_left_out_of_training_is_an_outside_set(self):
        kept, left = leave_out(stripes(150, 5), ["stripe 2"])
        test, _ = leave_out(stripes(90, 3), ["stripe 2"])
        student = learned(kept, 4, 7)
        trial = subjects(models={"student": student}, test=test, outside={"stripe 2": left})
        figures = texts(trial)[1]
        found = figures["sets"]["stripe 2"]["models"]["student"]
        logits = [predict(student, each).logits for each in (test, left)]
        expected = roc_auc_score(
            [1] * len(test) + [0] * len(left), torch.cat([z.double().logsumexp(-1) for z in logits])
        )
        assert found["energy"]["auroc"]["mean"] == pytest.approx(expected, abs=1e-6)

    def test_every_score_is_there_and_nothing_comes_from_outside_data(self):
        figures = texts(subjects())[1]
        assert set(figures["sets"]) == {
            "uniform noise",
            "gaussian noise",
            "shuffled patches",
            "grey",
        }
        for one in figures["sets"].values():
            for scores in one["models"].values():
                assert set(scores) == {"confidence", "energy", "max logit", "nearest neighbour"}
        assert figures["neighbour"] == {"k": 1, "of": 96}

    def test_a_set_of_another_shape_is_left_out_with_its_reason(self):
        wide = TensorSet(torch.rand(9, 1, 5, 5), name="wide")
        figures = texts(subjects(outside={"wide": wide}))[1]
        assert "(1, 5, 5)" in figures["refused"]["wide"]

    def test_tables_have_noise_too(self):
        rows = torch.randn(60, 5, generator=dice(0))
        table = TensorSet(rows, (rows[:, 0] > 0).long(), classes=("no", "yes"))
        model = lambda batch: Outputs(batch.inputs[:, :2])  # noqa: E731
        trial = subjects(
            models={"student": model}, test=table, validation=None, train=None, outside={}
        )
        assert "shuffled columns" in texts(trial)[1]["sets"]

    def test_wrong_options_are_one_line(self):
        with pytest.raises(RecipeError, match=r"score: got 'msp'"):
            OutOfDistribution(score="msp")
        with pytest.raises(RecipeError, match="most: got 1"):
            OutOfDistribution(most=1)
