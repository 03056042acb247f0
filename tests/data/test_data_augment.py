import math

import pytest
import torch
from torch.nn import functional

from tutelage.core.errors import DataError, RecipeError
from tutelage.data import Augment, Colour, Cutout, Flip, Shift
from tutelage.data.transforms import colour, cutout, flip, shift

STEPS = [
    {"shift": {"pixels": 2}},
    "flip",
    {"colour": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}},
    {"cutout": {"size": 3}},
]


def rgb(count=12, side=8):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_shift_moves_by_known_offsets():
    images = rgb(1, 5)
    for down in range(-2, 3):
        for right in range(-2, 3):
            rows, columns = torch.tensor([2 - down]), torch.tensor([2 - right])
            moved = shift(images, rows, columns, 2)
            expected = torch.zeros_like(images)
            for y in range(5):
                for x in range(5):
                    if 0 <= y - down < 5 and 0 <= x - right < 5:
                        expected[..., y, x] = images[..., y - down, x - right]
            assert torch.equal(moved, expected)


def test_shift_gives_each_image_its_own_offset():
    images = rgb(3)
    rows, columns = torch.tensor([0, 4, 2]), torch.tensor([1, 2, 3])
    together = shift(images, rows, columns, 2)
    padded = functional.pad(images, (2, 2, 2, 2))
    for i, (top, left) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        assert torch.equal(together[i], padded[i, :, top : top + 8, left : left + 8])


def test_shift_uses_every_offset_about_equally_often():
    marked = torch.zeros(5000, 1, 5, 5)
    marked[:, :, 2, 2] = 1
    moved = Augment([Shift(2)]).view(marked, torch.arange(5000), seed=0, view=0)
    counts = moved.sum((0, 1))
    assert counts.sum() == 5000
    assert (counts - 200).abs().max() < 5 * math.sqrt(200)


def test_flip_is_exact_and_only_for_the_chosen():
    images = rgb(2)
    flipped = flip(images, torch.tensor([True, False]))
    assert torch.equal(flipped[0], images[0, :, :, torch.arange(7, -1, -1)])
    assert torch.equal(flipped[1], images[1])


def test_flip_mirrors_the_share_asked_for():
    left = torch.zeros(4000, 1, 1, 2)
    left[..., 0] = 1
    share = Augment([Flip(0.25)]).view(left, torch.arange(4000), seed=0, view=0)[..., 1].mean()
    assert abs(share.item() - 0.25) < 0.03


def test_colour_follows_its_formulas():
    image = rgb(1)
    two, half, one = torch.tensor([2.0]), torch.tensor([0.5]), torch.ones(1)
    red, green, blue = image[0]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert torch.allclose(colour(image, two, one, one), (2 * image).clamp(0, 1), atol=1e-6)
    contrast = (luma.mean() + 0.5 * (image - luma.mean())).clamp(0, 1)
    assert torch.allclose(colour(image, one, half, one), contrast, atol=1e-6)
    saturation = (luma + 2 * (image - luma)).clamp(0, 1)
    assert torch.allclose(colour(image, one, one, two), saturation, atol=1e-6)
    assert torch.allclose(colour(image, one, one, one), image, atol=1e-6)


def test_colour_draws_factors_on_both_sides_of_one():
    grey = torch.full((2000, 1, 1, 1), 0.5)
    changed = Augment([Colour(brightness=0.4)]).view(grey, torch.arange(2000), seed=0, view=0)
    assert 0.3 <= changed.min() < 0.31
    assert 0.69 < changed.max() <= 0.7
    assert abs(changed.mean().item() - 0.5) < 0.01


def test_cutout_paints_a_square_that_the_border_cuts():
    images = torch.ones(2, 3, 6, 6)
    painted = cutout(images, torch.tensor([3, 0]), torch.tensor([2, 5]), 4, fill=0.25)
    expected = images.clone()
    expected[0, :, 1:5, 0:4] = 0.25
    expected[1, :, 0:2, 3:6] = 0.25
    assert torch.equal(painted, expected)


def test_cutout_centres_are_anywhere():
    ones = torch.ones(3000, 1, 4, 4)
    painted = Augment([Cutout(1)]).view(ones, torch.arange(3000), seed=0, view=0)
    counts = (painted == 0).sum((0, 1))
    assert counts.sum() == 3000
    assert counts.min() > 100


def test_a_view_is_the_same_in_any_batch():
    augment, images, ids = Augment(STEPS), rgb(), torch.arange(12) * 7 + 3
    whole = augment.view(images, ids, seed=1, view=5)
    mixed = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment.view(images[mixed], ids[mixed], seed=1, view=5), whole[mixed])
    for i in range(12):
        alone = augment.view(images[i : i + 1], ids[i : i + 1], seed=1, view=5)
        assert torch.equal(alone[0], whole[i])


def test_views_differ_by_seed_view_and_id():
    augment, image = Augment(STEPS), rgb(1)
    views = [
        augment.view(image, torch.tensor([i]), seed=seed, view=view)
        for i, seed, view in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    for i in range(4):
        for j in range(i):
            assert not torch.equal(views[i], views[j])


def test_augmenting_does_not_change_its_input():
    images = rgb()
    before = images.clone()
    for step in STEPS:
        Augment([step]).view(images, torch.arange(12), seed=0, view=0)
    assert torch.equal(images, before)


def test_values_stay_in_zero_to_one():
    changed = Augment(STEPS).view(rgb(200), torch.arange(200), seed=0, view=0)
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_a_step_named_twice_draws_twice():
    ones = torch.ones(50, 1, 9, 9)
    painted = Augment([Cutout(1), Cutout(1)]).view(ones, torch.arange(50), seed=0, view=0)
    assert (painted == 0).sum() > 90


def test_a_first_step_draws_the_same_whatever_follows():
    images, ids = rgb(), torch.arange(12)
    alone = Augment([Shift(2)]).view(images, ids, seed=0, view=0)
    followed = Augment([Shift(2), Flip()]).view(images, ids, seed=0, view=0)
    same = (alone == followed).flatten(1).all(1) | (alone.flip(-1) == followed).flatten(1).all(1)
    assert bool(same.all())


@pytest.mark.parametrize(
    ("steps", "shape", "message"),
    [
        (["flip"], (7,), "'flip' needs images"),
        ([{"shift": {"pixels": 8}}], (1, 8, 8), "shift of 8 pixels would push images of 8x8"),
        ([{"cutout": {"size": 8}}], (1, 8, 8), "cutout of size 8 would cover"),
        ([{"colour": {"saturation": 0.5}}], (1, 8, 8), "saturation needs 3 channels"),
        ([{"colour": {"contrast": 0.5}}], (4, 8, 8), "1 or 3 channels, these have 4"),
        (["cutmix"], (7,), "'cutmix' needs images"),
    ],
)
def test_examples_that_a_step_cannot_change_are_refused(steps, shape, message):
    with pytest.raises(DataError, match=message):
        Augment(steps).check(shape)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "empty list"),
        (["flop"], "no augment called 'flop'. Did you mean 'flip'"),
        ([{"shift": {"pixel": 2}}], "no option 'pixel'. Did you mean 'pixels'"),
        ([{"shift": {"pixels": 0}}], "shift pixels is 0, expected at least 1"),
        ([{"shift": {"pixels": 1.5}}], r"shift pixels is 1\.5, expected at least 1, a whole"),
        ([{"shift": {"pixels": "a"}}], "shift pixels is 'a', expected at least 1"),
        ([{"shift": {"pixels": True}}], "shift pixels is True, expected at least 1"),
        ([{"cutout": {"size": 2.5}}], r"are 2\.5, 0\.0: size is a whole number, at least 1"),
        ([{"cutout": {"size": "a"}}], "are 'a', 0.0: size is a whole number"),
        ([{"cutout": {"size": 0}}], "are 0, 0.0: size is a whole number, at least 1"),
        ([{"shift": 2}], "augment is .* expected a name such as 'flip'"),
        ([{"shift": {}, "flip": {}}], "expected a name such as 'flip'"),
        (["mixup", "flip"], "'flip' after 'mixup': mixup and cutmix come last"),
        ([{"flip": {"probability": 2}}], "flip probability is 2"),
        (["colour"], "one of them above 0"),
        ([{"cutout": {"fill": 2.0}}], "fill lies in 0 to 1"),
        ([{"mixup": {"alpha": 0}}], "expected alpha above 0"),
    ],
)
def test_a_wrong_pipeline_is_refused_in_one_line(steps, message):
    with pytest.raises(RecipeError, match=message) as caught:
        Augment(steps)
    assert "\n" not in str(caught.value)
