"""Slices: k-means against plain loops, damaged slices found and named, clean twins left alone."""

import math

import numpy as np
import pytest
import torch
from evaluation_samples import stripes
from sklearn.cluster import KMeans
from torch import nn

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.seeds import generator
from tutelage.data import Groups, TensorSet, fashion_mnist_small
from tutelage.evaluation import Predictions, predict
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Accuracy, Flips, Slices
from tutelage.evaluation.slices.confirming import Rights, confirmed, described_slice
from tutelage.evaluation.slices.describing import described, spread
from tutelage.evaluation.slices.means import kmeans, nearest
from tutelage.evaluation.slices.proposing import (
    Slice,
    cluster_slices,
    excess,
    given_slices,
    halves,
    measured_slices,
    shortlist,
)
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed

TOTAL = 1500


def images(seed=3):
    """Stripes under light of different strength."""
    plain = stripes(TOTAL, seed)
    light = torch.rand(TOTAL, 1, 1, 1, generator=generator(seed, "light"))
    inputs = plain.batch(torch.arange(TOTAL)).inputs * (0.4 + 0.6 * light)
    return TensorSet(inputs, plain.targets, classes=plain.classes, ids=plain.ids)


TEST = images()
light = TEST.batch(torch.arange(TOTAL)).inputs.mean((1, 2, 3))


def guess(share, seed, hurt=None, damage=0.0):
    """Answers right for this share; of some rows, more are wrong."""
    dice = generator(seed, "guess")
    wrong = torch.rand(TOTAL, generator=dice) >= share
    if hurt is not None:
        wrong |= hurt & (torch.rand(TOTAL, generator=dice) < damage)
    logits = 0.1 * torch.randn(TOTAL, 3, generator=dice)
    said = torch.where(wrong, (TEST.targets + 1) % 3, TEST.targets)
    logits[torch.arange(TOTAL), said] += 4
    return Predictions(logits, TEST.targets, TEST.ids, TEST.classes)


def trial(run, hurt=None, damage=0.0, *, baseline=True, alone=None, groups=None):
    each = {
        "teacher": guess(0.92, 10 * run),
        "student": guess(0.92, 10 * run + 1, hurt, damage),
        **({"baseline": alone or guess(0.92, 10 * run + 2)} if baseline else {}),
    }
    made = Subjects(dict.fromkeys(each, None), TEST, groups=groups or {}, seed=run)
    for role, answers in each.items():
        made.know(role, "test", answers)
    return made


def found(made):
    return examine(made, {"slices": Slices()})["slices"]


def warnings(made):
    return [one["text"] for one in found(made)["findings"] if one["status"] == "warning"]


class TestKMeans:
    def test_from_the_same_start_it_ends_where_scikit_learn_does(self):
        dice = generator(0, "blobs")
        middles = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])
        points = middles.repeat_interleave(50, 0) + torch.randn(200, 2, generator=dice)
        own = kmeans(points, 4, seed=1)
        start = middles.numpy().astype(float)
        their = KMeans(4, init=start, n_init=1).fit(points.double().numpy()).cluster_centers_
        own, their = sorted(own.tolist()), sorted(their.tolist())
        np.testing.assert_allclose(own, their, atol=1e-6)

    def test_nearest_is_that_of_a_plain_loop(self):
        dice = generator(1, "points")
        points, centres = torch.randn(40, 3, generator=dice), torch.randn(5, 3, generator=dice)
        for point, place in zip(points, nearest(points, centres), strict=True):
            away = [math.dist(point.tolist(), centre.tolist()) for centre in centres]
            assert away[place] == min(away)

    def test_it_is_the_same_for_the_same_seed_and_leaves_torchs_dice_alone(self):
        points = torch.randn(60, 2, generator=generator(2, "points"))
        state = torch.get_rng_state()
        assert torch.equal(kmeans(points, 5, seed=3), kmeans(points, 5, seed=3))
        assert torch.equal(torch.get_rng_state(), state)

    def test_equal_points_and_one_point_are_no_trouble(self):
        assert torch.equal(kmeans(torch.ones(4, 2), 3, seed=0), torch.ones(3, 2).double())
        assert kmeans(torch.ones(1, 2), 1, seed=0).shape == (1, 2)

    @pytest.mark.parametrize(
        ("points", "clusters"),
        [(torch.ones(3, 2), 4), (torch.ones(3), 1), (torch.full((3, 1), torch.nan), 1)],
    )
    def test_what_cannot_be_clustered_is_refused(self, points, clusters):
        with pytest.raises(DataError, match=r"clusters of points|NaN or infinite"):
            kmeans(points, clusters, seed=0)


class TestMeasures:
    def test_images_are_described_as_numpy_would(self):
        dice = generator(0, "images")
        inputs = torch.rand(6, 3, 5, 4, generator=dice)
        measures = described(TensorSet(inputs, classes=("a", "b")))
        for row, image in enumerate(inputs.double().numpy()):
            grey = image.mean(0)
            detail = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
            expected = {
                "brightness": image.mean(),
                "contrast": grey.std(),
                "detail": detail,
                "colour": image.std(axis=0).mean(),
            }
            for name, value in expected.items():
                assert measures[name][row].item() == pytest.approx(value, abs=1e-6)

    def test_rows_are_their_columns(self):
        rows = torch.rand(5, 3, generator=generator(0, "rows"))
        measures = described(TensorSet(rows, classes=("a", "b")))
        assert list(measures) == ["input 1", "input 2", "input 3"]
        assert torch.equal(measures["input 2"], rows[:, 1].double())

    def test_a_column_of_equal_values_is_no_division_by_zero(self):
        assert torch.equal(spread(torch.ones(4, 2)), torch.zeros(4, 2).double())


class TestProposing:
    def test_the_halves_hang_on_ids_alone(self):
        ids = torch.arange(1000)
        first = halves(ids, 0)
        assert torch.equal(halves(ids[500:], 0), first[500:])
        assert 400 < int(first.sum()) < 600

    def test_tails_are_cut_by_the_first_half_only(self):
        values = torch.arange(100.0, dtype=torch.float64)
        first = torch.arange(100) < 50
        cut = measured_slices({"brightness": values}, first, torch.zeros(100).long(), ("a",))
        by_name = {one.name: one.inside for one in cut}
        assert torch.equal(by_name["the darkest fifth"], values <= values[:50].quantile(0.2))
        # All of the second half is brighter than the brightest of the first.
        assert bool(by_name["the brightest tenth"][50:].all())

    def test_groups_meet_in_pairs_where_there_are_enough(self):
        sex, age = torch.arange(100) % 2, (torch.arange(100) < 30).long()
        ways = {"sex": (("F", "M"), sex), "age": (("old", "young"), age)}
        names = [one.name for one in given_slices(ways, 20)]
        assert names == ["sex F", "sex M", "age old", "age young", "sex F and age old",
                         "sex M and age old"]  # fmt: skip

    def test_of_slices_much_alike_only_the_more_striking_is_kept(self):
        rows = torch.arange(400)
        harm = ((rows % 200) < 40).long()
        same, alike = (Slice(str(n), (rows % 200) < n, "measured") for n in (40, 60))
        kept = shortlist([alike, same], harm, rows < 200, most=5, least=10)
        assert [one.name for one in kept] == ["40"]

    def test_excess_is_welchs(self):
        harm = torch.tensor([1, 0, 1, 1, 0, 0, -1, 0])
        inside = torch.arange(8) < 4
        one, other = harm[:4].double().numpy(), harm[4:].double().numpy()
        error = math.sqrt(one.var(ddof=1) / 4 + other.var(ddof=1) / 4)
        assert excess(harm, inside) == pytest.approx((one.mean() - other.mean(), error))

    def test_clusters_part_the_examples(self):
        points = torch.randn(100, 4, generator=generator(0, "features"))
        cut = cluster_slices(points, torch.arange(100) % 2 == 0, 0)
        for many in (4, 8, 16):
            parts = [one.inside for one in cut if one.name.endswith(f"of {many}")]
            assert torch.equal(torch.stack(parts).sum(0), torch.ones(100).long())


class TestConfirming:
    def test_examples_that_proposed_a_slice_have_no_say_in_its_test(self):
        """Harm on the proposing half alone: the most striking slice there is not confirmed."""
        first = halves(TEST.ids, 0)
        inside = light > light.quantile(0.8)
        teacher = torch.rand(TOTAL, generator=generator(0, "t")) < 0.95
        student = teacher & ~(inside & first & (torch.rand(TOTAL) < 0.5))
        rights = Rights(teacher, student)
        one = Slice("bright", inside, "measured")
        assert shortlist([one], rights.harm, first, most=1, least=30) == [one]
        (row,) = confirmed([one], rights, first, {}, None, {}, level=0.95)
        assert not row["confirmed"]
        assert row["examples"] == int((inside & ~first).sum())

    def test_a_description_names_classes_and_looks(self):
        one = Slice("x", (TEST.targets == 1) & (light > light.quantile(0.7)), "cluster")
        told = described_slice(one, TEST.targets, TEST.classes, described(TEST))
        assert told.startswith("stripe 1 100 %")
        assert "high brightness" in told


class TestPart:
    @pytest.mark.parametrize(
        ("names", "hurt"),
        [
            (("brightest", "most contrasting"), light >= light.quantile(0.8)),
            (("darkest", "flattest", "plainest"), light <= light.quantile(0.15)),
            (("class stripe 1",), TEST.targets == 1),
            (("third of stripe 2",),
             (TEST.targets == 2) & (light >= light[TEST.targets == 2].quantile(2 / 3))),
        ],
    )  # fmt: skip
    def test_a_damaged_slice_is_named(self, names, hurt):
        named = warned = 0
        for run in range(5):
            made = trial(run, hurt, 0.4)
            told = [f["text"] for f in found(made)["findings"] if "got worse in" in f["text"]]
            named += any(name in one for one in told for name in names)
            warned += bool(warnings(made))
        assert named >= 4
        assert warned >= 2  # of the luck of training one pair of trainings tells little

    def test_without_a_student_alone_it_is_named_from_the_inputs(self):
        told = warnings(trial(0, light >= light.quantile(0.8), 0.4, baseline=False))
        assert any("the brightest fifth" in one for one in told)

    def test_what_a_student_alone_loses_as_well_is_no_alarm(self):
        bright = light >= light.quantile(0.8)
        made = trial(0, bright, 0.4, alone=guess(0.92, 777, bright, 0.4))
        assert not warnings(made)
        assert any("by as much by luck" in one["text"] for one in found(made)["findings"])

    def test_clean_twins_raise_no_alarm(self):
        told = [found(trial(run)) for run in range(100, 120)]
        alarms = sum(any(row["confirmed"] for row in one["figures"]["slices"]) for one in told)
        assert alarms <= 3
        assert sum(one["findings"][0]["status"] == "warning" for one in told) <= 1

    def test_a_given_intersection_is_named(self):
        sex = torch.arange(TOTAL) // 3 % 2
        old = (torch.rand(TOTAL, generator=generator(0, "old")) < 0.4).long()
        groups = {
            "sex": Groups("sex", ("F", "M"), TEST.ids, sex),
            "age": Groups("age", ("young", "old"), TEST.ids, old),
        }
        hurt = (sex == 0) & (old == 1)
        told = warnings(trial(1, hurt, 0.35, groups=groups))
        assert any("the group sex F and age old" in one for one in told)
        clean = found(trial(1, groups=groups))
        assert clean["figures"]["given"] == 8
        assert clean["findings"][0]["status"] == "fine"

    def test_it_says_what_could_not_have_been_seen(self):
        told = found(trial(101))["findings"][0]["text"]
        assert "would have to lose about" in told

    @pytest.mark.parametrize("options", [{"most": 0}, {"least": 1}])
    def test_wrong_options_are_refused(self, options):
        with pytest.raises(RecipeError, match="propose at least 1 slice"):
            Slices(**options)


@pytest.mark.slow
class TestOnRealTrainings:
    """Small networks on Fashion-MNIST: another seed is the clean twin."""

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls):
        splits = fashion_mnist_small()
        train, test = splits.train, splits.test.open("a test of slices")
        inputs, targets = train.batch(torch.arange(len(train))).inputs.float(), train.targets
        return test, [cls.net(inputs, targets, seed) for seed in range(14)]

    @staticmethod
    def net(inputs, targets, seed, epochs=6):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
        dice, optimizer = generator(seed, "order"), torch.optim.Adam(net.parameters(), 2e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * 63)
        for _ in range(epochs):
            for rows in torch.randperm(len(inputs), generator=dice).split(128):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
                optimizer.step()
                falling.step()
        return Observed(net.eval())

    def trial(self, trained, run, hurt=None, share=0.0):
        test, nets = trained
        roles = {"teacher": run, "student": (run + 5) % 14, "baseline": (run + 9) % 14}
        made = Subjects({role: nets[n] for role, n in roles.items()}, test)
        answers = predict(nets[roles["student"]], test)
        if hurt is not None:
            gone = hurt & (torch.rand(len(test), generator=generator(run, "hurt")) < share)
            logits = answers.logits.clone()
            logits[gone] = logits[gone].roll(1, -1)
            answers = Predictions(logits, answers.targets, answers.ids, answers.classes)
        made.know("student", "test", answers)
        return made

    def alarms(self, made):
        told = examine(made, {"accuracy": Accuracy(), "flips": Flips(), "slices": Slices()})
        return {
            name: [one["text"] for one in part["findings"] if one["status"] == "warning"]
            for name, part in told.items()
        }

    def test_clean_twins_raise_hardly_an_alarm(self, trained):
        every = [self.alarms(self.trial(trained, run)) for run in range(14)]
        for part in ("accuracy", "flips", "slices"):
            assert sum(bool(one[part]) for one in every) <= 2, part

    def test_a_damaged_class_and_bright_images_are_found(self, trained):
        test, _ = trained
        light = described(test)["brightness"]
        bright = light >= light.quantile(0.8)
        classes = slices = 0
        for run in range(6):
            told = self.alarms(self.trial(trained, run, test.targets == 3, 0.3))
            classes += any("Dress (" in one for one in told["flips"])
            told = self.alarms(self.trial(trained, run, bright, 0.3))
            slices += any("the brightest" in one for one in told["slices"])
        assert classes >= 5
        assert slices >= 5
