"""Poisoned training data: planted patches are found and named, clean sets are left in peace."""

import pytest
import torch
from backdoor_samples import bars, poisoned, trained, with_trigger

from tutelage.core.errors import DataError, RecipeError
from tutelage.data import TensorSet
from tutelage.data.fashion_small import embedded
from tutelage.evaluation.backdoor.patches import (
    likeness,
    repeated_patches,
    trigger_of,
    window_codes,
)
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts import Poisoning
from tutelage.evaluation.subjects import Subjects


def dice(seed):
    return torch.Generator().manual_seed(seed)


def scattered(examples, label, share=0.1):
    """A chequered 3 x 3 patch, each time at another place."""
    rows = torch.randperm(len(examples), generator=dice(label))[: int(share * len(examples))]
    inputs, targets = examples.inputs.clone(), examples.targets.clone()
    patch = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    places = torch.randint(0, inputs.shape[-1] - 3, (len(rows), 2), generator=dice(label + 1))
    for row, (down, right) in zip(rows.tolist(), places.tolist(), strict=True):
        inputs[row, :, down : down + 3, right : right + 3] = patch
    targets[rows] = label
    return TensorSet(inputs, targets, classes=examples.classes, ids=examples.ids), rows


def fashion(total, seed, size=14):
    train, _ = embedded()
    rows = torch.randperm(len(train), generator=dice(seed))[:total]
    images = train.inputs[rows].float() / 255
    if size == 14:
        images = torch.nn.functional.avg_pool2d(images, 2)
    return TensorSet(images, train.targets[rows], classes=train.classes, ids=train.ids[rows])


class TestPatches:
    def test_codes_are_equal_for_equal_windows_alone(self):
        images = torch.randint(0, 3, (6, 2, 5, 6), generator=dice(0)).float() / 2
        codes = window_codes(images, 2)
        grey = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
        same = (grey.flatten(0, 2)[:, None] == grey.flatten(0, 2)[None]).all(-1)
        assert torch.equal(codes.flatten()[:, None] == codes.flatten()[None], same)

    @pytest.mark.parametrize("label", [1, 6])
    def test_a_patch_at_one_place_is_found_with_its_label_and_pixels(self, label):
        examples = poisoned(bars(1000, 5), label)
        (found,) = repeated_patches(examples.inputs, examples.targets, 8)
        assert found.label == label
        assert not found.anywhere
        mask, pattern = trigger_of(examples.inputs, found)
        assert mask.nonzero().tolist() == [[10, 10], [10, 11], [11, 10], [11, 11]]
        assert bool((pattern[:, mask.bool()] == 1).all())

    def test_a_patch_at_changing_places_is_found(self):
        examples, rows = scattered(bars(1000, 6), 3)
        (found,) = repeated_patches(examples.inputs, examples.targets, 8)
        assert (found.label, found.anywhere) == (3, True)
        assert float(torch.isin(found.rows, rows).double().mean()) > 0.9

    def test_ten_clean_sets_raise_no_alarm(self):
        for seed in range(10):
            examples = fashion(600, seed) if seed % 2 else bars(600, 80 + seed)
            assert repeated_patches(examples.inputs, examples.targets, len(examples.classes)) == []

    def test_a_mark_that_belongs_to_its_class_is_no_poison(self):
        examples = bars(800, 7)
        inputs = torch.where(
            (examples.targets == 2)[:, None, None, None],
            with_trigger(examples.inputs),
            examples.inputs,
        )
        assert repeated_patches(inputs, examples.targets, 8) == []

    def test_images_like_their_label_are_told_from_others(self):
        examples = bars(600, 8)
        of_two = (examples.targets == 2).nonzero().flatten()[:30]
        alike = likeness(examples.inputs, examples.targets, of_two, 2)
        assert alike.low > 0.8
        wrong = examples.targets.clone()
        rows = (examples.targets != 2).nonzero().flatten()[:30]
        wrong[rows] = 2
        assert likeness(examples.inputs, wrong, rows, 2).high < 0.3

    def test_neighbours_that_tell_nothing_judge_nobody(self):
        images, targets = torch.rand(300, 1, 6, 6, generator=dice(0)), torch.arange(300) % 3
        assert likeness(images, targets, torch.arange(0, 90, 3), 0) is None

    def test_wrong_input_is_one_line(self):
        with pytest.raises(DataError, match="do not fit"):
            window_codes(torch.zeros(1, 1, 2, 2), 3)
        with pytest.raises(DataError, match="needs a label"):
            repeated_patches(torch.zeros(2, 1, 4, 4), torch.tensor([0, -1]), 2)

    @pytest.mark.slow
    @pytest.mark.parametrize(("size", "window"), [(28, 3), (14, 2)])
    def test_badnets_on_fashion_is_found_down_to_3_percent_and_clean_twins_are_not(
        self, size, window
    ):
        for seed in range(6):
            clean = fashion(3000, seed, size)
            assert repeated_patches(clean.inputs, clean.targets, 10) == []
            for share in (0.1, 0.03):
                rows = torch.randperm(3000, generator=dice(seed))[: int(share * 3000)]
                images, targets = clean.inputs.clone(), clean.targets.clone()
                images[rows, :, -window - 1 : -1, -window - 1 : -1] = 1.0
                targets[rows] = seed
                (found,) = repeated_patches(images, targets, 10)
                assert found.label == seed
                where = trigger_of(images, found)[0].nonzero()
                assert 4 <= len(where) <= window**2
                assert size - window - 1 <= int(where.min()) <= int(where.max()) < size - 1


class TestPart:
    def trial(self, train, student):
        return Subjects(models={"student": student}, test=bars(300, 3), train=train)

    def test_the_planted_patch_is_named_with_what_it_does(self):
        train = poisoned(bars(1000, 5), 4)
        part = {"poisoning": Poisoning()}
        found = examine(self.trial(train, trained(train, 1)), part)["poisoning"]
        (told,) = found["findings"]
        assert told["status"] == "warning"
        assert "labelled “bar 4”" in told["text"]
        (one,) = found["figures"]["found"]
        assert one["place"] == [10, 10]
        obeyed = one["answers"]["student"]
        assert obeyed["marked"]["low"] > 0.8
        assert obeyed["plain"]["high"] < 0.1

    def test_its_clean_twin_is_fine(self):
        train = bars(1000, 5)
        found = examine(self.trial(train, trained(train, 1, steps=20)), {"poisoning": Poisoning()})
        (told,) = found["poisoning"]["findings"]
        assert told["status"] == "fine"
        assert "no proof" in told["text"]

    def test_both_sets_are_looked_through_where_they_differ(self):
        train = bars(300, 5)
        model = trained(train, 1, steps=5)
        both = Subjects(
            models={"student": model}, test=bars(50, 3), train=train, taught=bars(200, 6)
        )
        assert Poisoning().figures(both)["searched"] == {"train": 300, "taught": 200}
        one = Subjects(models={"student": model}, test=bars(50, 3), train=train, taught=train)
        assert Poisoning().figures(one)["searched"] == {"train": 300}

    def test_it_says_what_it_lacks(self):
        bare = Subjects(models={}, test=bars(50, 3))
        assert "not known" in Poisoning().absent(bare)
        with pytest.raises(RecipeError, match="windows"):
            Poisoning(windows=[1])
