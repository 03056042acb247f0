"""Trigger inversion: a planted trigger is found with its class, and clean models are left alone."""

import functools

import numpy as np
import pytest
import torch
from backdoor_samples import bars, poisoned, trained, with_trigger
from evaluation_samples import subjects

from tutelage.core.errors import DataError, RecipeError
from tutelage.data import TensorSet
from tutelage.data.fashion_small import embedded
from tutelage.evaluation.backdoor import invert, stamp
from tutelage.evaluation.backdoor.anomaly import anomaly_index, flagged
from tutelage.evaluation.backdoor.scan import obeyed, scan
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Backdoor
from tutelage.evaluation.predict import predict
from tutelage.evaluation.subjects import Subjects

TARGET = 5
quick = {"steps": 150, "restarts": 1, "batch_size": 8}


class TestAnomaly:
    def test_the_index_is_that_of_numpy(self):
        sizes = np.random.default_rng(0).uniform(3, 40, 9)
        logs = np.log(sizes)
        mad = 1.4826 * np.median(np.abs(logs - np.median(logs)))
        expected = (np.median(logs) - logs) / mad
        assert anomaly_index(sizes.tolist()) == pytest.approx(expected.tolist(), abs=1e-9)

    def test_sizes_alike_make_nobody_an_outlier(self):
        assert max(anomaly_index([20, 20, 20, 20, 19])) < 1

    def test_only_small_ones_far_below_the_others_are_flagged(self):
        assert flagged([20, 25, 16, 4, 22, 18, 90]) == [3]
        assert flagged([20, 25, 16, 22, 18, 900]) == flagged([20, 20, 20, 20, 20, 8]) == []
        assert flagged([20, 20.5, 20, 14, 20.2, 20]) == []

    def test_few_classes_and_nonsense_are_refused(self):
        with pytest.raises(DataError, match="at least 5"):
            anomaly_index([1, 2, 3, 4])
        with pytest.raises(DataError, match="above 0"):
            anomaly_index([1, 2, 3, 4, 0])


class TestInversion:
    def test_a_known_trigger_is_found_pixel_by_pixel(self):
        # Class 1 exactly where the corner is bright; else class 0.
        def answer(images):
            corner = images[:, 0, 0, 0]
            return torch.stack([torch.zeros_like(corner), 20 * corner - 10], 1)

        images = torch.rand(64, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.3
        found = invert(answer, images, [1], seed=0, steps=200)
        assert bool(found.reached[0])
        assert float(found.sizes[0]) < 2
        assert int(found.masks[0].argmax()) == 0
        assert float(found.patterns[0, 0, 0, 0] * found.masks[0, 0, 0]) > 0.4

    def test_a_class_out_of_reach_is_said_to_be(self):
        def answer(images):
            return torch.stack([10 + 0 * images.sum((1, 2, 3)), images.sum((1, 2, 3))], 1)

        found = invert(answer, torch.zeros(8, 1, 2, 2), [1], seed=0, steps=20)
        assert found.reached.tolist() == [False]

    def test_equal_seeds_find_equal_triggers(self):
        model = trained(bars(200, 1), 0, steps=20)
        one, two = (
            scan(model, bars(60, 2).inputs, 8, seed=3, steps=5, restarts=2) for _ in range(2)
        )
        assert torch.equal(one.masks, two.masks)

    def test_images_are_needed(self):
        with pytest.raises(DataError, match="looked for on images"):
            invert(lambda images: images, torch.zeros(3, 4), [0], seed=0)


@functools.cache
def models():
    """A poisoned teacher, its student on the poisoned transfer set, and their clean twins."""
    clean = bars(800, 10)
    bad = poisoned(clean, TARGET)
    found = {}
    for kind, data in (("bad", bad), ("clean", clean)):
        teacher = trained(data, 20, width=10)
        answers = predict(teacher, data).logits
        found[kind] = {
            "teacher": teacher,
            "student": trained(data, 21, width=8, answers=answers),
        }
    return found


def trial(kind, **more):
    return Subjects(models={**models()[kind], **more}, test=bars(300, 3), validation=bars(200, 2))


class TestPart:
    def test_a_class_close_to_the_threshold_is_a_notice(self):
        close = {
            "sizes": {"a": 4.0, "b": 10.0},
            "index": {"a": 1.7, "b": 0.0},
            "flagged": [],
            "near": ["a"],
        }
        figures = {"enough": True, "threshold": 2.0, "models": {"student": close}}
        (told,) = Backdoor().findings(figures)
        assert (told.status, "about 4 pixels" in told.text) == ("notice", True)

    def test_the_students_backdoor_is_found_and_names_the_class(self):
        planted = trial("bad")
        test = planted.test
        others = with_trigger(test.inputs[test.targets != TARGET])
        assert obeyed(planted.models["student"], others, TARGET) > 0.9 * len(others)
        found = examine(planted, {"backdoor": Backdoor(**quick)})["backdoor"]
        warned = [one["text"] for one in found["findings"] if one["status"] == "warning"]
        assert [text.split(" looks")[0] for text in warned] == ["The student", "The teacher"]
        assert all(f"answer “bar {TARGET}”" in text for text in warned)
        student = found["figures"]["models"]["student"]
        assert student["flagged"] == [f"bar {TARGET}"]
        trigger = student["triggers"][f"bar {TARGET}"]
        assert trigger["success"]["student"]["marked"]["low"] > 0.7
        patch = torch.tensor(trigger["patch"])[0]
        corner = patch[-2:, -2:].mean()  # where it was planted
        assert float(corner) > 4 * float(patch.mean())

    def test_the_clean_twins_are_not(self):
        found = examine(trial("clean"), {"backdoor": Backdoor(**quick)})["backdoor"]
        (told,) = found["findings"]
        assert told["status"] == "fine"
        assert "no proof" in told["text"]
        assert all(one["flagged"] == [] for one in found["figures"]["models"].values())

    def test_ten_clean_models_raise_no_alarm(self):
        alarms, validation = 0, bars(200, 2)
        for seed in range(10):
            model = trained(bars(800, 30 + seed), seed, width=6 + seed % 3, steps=60)
            sizes = scan(
                model, validation.inputs, 8, seed=seed, **{**quick, "steps": 100}
            ).sizes.tolist()
            alarms += len(flagged(sizes))
        assert alarms == 0

    def test_of_few_classes_nothing_is_concluded(self):
        found = examine(subjects(), {"backdoor": Backdoor(steps=3)})["backdoor"]
        (told,) = found["findings"]
        assert told["status"] == "notice"
        assert "nothing is concluded" in told["text"]
        assert list(found["figures"]["models"]) == ["student"]

    def test_it_says_what_it_lacks(self):
        without = subjects(validation=None)
        assert "no validation images" in Backdoor().absent(without)
        shut = subjects(models={"student": lambda batch: batch})
        assert "gradients" in Backdoor().absent(shut)
        with pytest.raises(RecipeError, match="steps: got 0"):
            Backdoor(steps=0)
        with pytest.raises(RecipeError, match=r"ratio: got 0\.9, near: got 0\.5"):
            Backdoor(ratio=0.9)

    def test_stamping_leaves_the_rest_of_the_image_alone(self):
        images, mask = torch.rand(3, 2, 4, 4), torch.zeros(4, 4)
        mask[1, 2] = 1
        marked = stamp(images, mask, torch.ones(2, 4, 4))
        assert bool((marked[:, :, 1, 2] == 1).all())
        assert torch.equal(marked * (1 - mask), images * (1 - mask))


@pytest.mark.slow
class TestFashion:
    """At 14 x 14: 4 poisoned teachers and their students, 12 clean models."""

    def data(self, seed):
        train, _ = embedded()
        rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:3000]
        images = torch.nn.functional.avg_pool2d(train.inputs[rows].float() / 255, 2)
        return TensorSet(images, train.targets[rows], classes=train.classes, ids=train.ids[rows])

    def judged(self, model, ratio=1 / 3):
        sizes = scan(model, self.data(99).inputs[:500], 10, seed=0).sizes.tolist()
        return flagged(sizes, ratio=ratio)

    @pytest.mark.parametrize("seed", range(4))
    def test_teacher_and_student_of_a_poisoned_set_are_flagged_for_the_right_class(self, seed):
        bad = poisoned(self.data(seed), seed + 2)
        teacher = trained(bad, seed, width=12, steps=150)
        answers = predict(teacher, bad).logits
        student = trained(bad, seed + 50, width=6, steps=200, answers=answers)
        assert self.judged(student) == [seed + 2]
        # Larger networks have smaller triggers for all classes: a warning, or at least a notice.
        assert self.judged(teacher, ratio=0.5) == [seed + 2]

    def test_of_12_clean_models_at_most_one_is_flagged(self):
        alarms = [
            self.judged(trained(self.data(seed), seed, width=(4, 6, 8, 12)[seed % 4], steps=150))
            for seed in range(12)
        ]
        assert sum(map(bool, alarms)) <= 1, alarms
