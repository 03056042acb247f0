"""Corruptions: what they do to images, and what their figures mean."""

import io

import numpy as np
import pytest
import torch
from evaluation_samples import stripes
from PIL import Image

from tutelage.core.errors import DataError
from tutelage.data.fashion_small import fashion_mnist_small
from tutelage.evaluation.robustness import (
    CORRUPTIONS,
    corrupt,
    kept,
    mean_corruption_error,
    relative_corruption_error,
)
from tutelage.evaluation.robustness.degradation import lost

KINDS = list(CORRUPTIONS)


@pytest.fixture(scope="module")
def garments():
    batch = fashion_mnist_small().train.batch(torch.arange(40))
    return batch.inputs, batch.ids


def colour(total=6, side=32):
    return torch.rand(total, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_a_more_severe_one_is_farther_from_the_clean_image(self, kind, garments):
        images, ids = garments
        away = [
            (corrupt(images, ids, kind, s, seed=0) - images).square().mean().item()
            for s in (1, 2, 3, 4, 5)
        ]
        assert away[0] > 0
        assert away == sorted(away)
        assert away[4] > 1.5 * away[0]

    def test_it_stays_in_0_to_1_and_changes_nothing_in_place(self, kind, garments):
        for images, ids in (garments, (colour(), torch.arange(6))):
            before = images.clone()
            for severity in (1, 5):
                found = corrupt(images, ids, kind, severity, seed=0)
                assert found.shape == images.shape
                assert found.dtype == images.dtype
                assert found.min() >= 0
                assert found.max() <= 1
            assert torch.equal(images, before)

    def test_it_goes_by_the_id_and_not_by_the_batch(self, kind, garments):
        images, ids = garments
        whole = corrupt(images, ids, kind, 3, seed=0)
        back = corrupt(images.flip(0), ids.flip(0), kind, 3, seed=0).flip(0)
        alone = torch.cat(
            [corrupt(images[i : i + 1], ids[i : i + 1], kind, 3, seed=0) for i in range(len(ids))]
        )
        assert torch.equal(whole, back)
        torch.testing.assert_close(whole, alone, rtol=0, atol=1e-6)

    def test_it_leaves_torchs_random_state_alone(self, kind, garments):
        state = torch.get_rng_state()
        corrupt(*garments, kind, 2, seed=0)
        assert torch.equal(torch.get_rng_state(), state)

    def test_odd_shapes_are_taken(self, kind):
        for shape in ((2, 1, 12, 12), (2, 4, 9, 17), (1, 3, 5, 5)):
            images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
            assert corrupt(images, torch.arange(shape[0]), kind, 5, seed=0).shape == shape

    def test_only_the_random_ones_ask_the_seed(self, kind, garments):
        one, other = (corrupt(*garments, kind, 3, seed=seed) for seed in (0, 1))
        assert torch.equal(one, other) == (
            kind not in {"gaussian_noise", "shot_noise", "occlusion"}
        )


class TestAgainstIndependentForms:
    def test_gaussian_noise_has_the_deviation_it_says(self):
        grey = torch.full((50, 1, 28, 28), 0.5)
        moved = corrupt(grey, torch.arange(50), "gaussian_noise", 2, seed=0) - 0.5
        assert abs(moved.std().item() - 0.08) < 0.002
        assert abs(moved.mean().item()) < 0.002

    def test_shot_noise_has_the_poissons_mean_and_variance(self):
        grey = torch.full((50, 1, 28, 28), 0.4)
        moved = corrupt(grey, torch.arange(50), "shot_noise", 2, seed=0)
        assert abs(moved.mean().item() - 0.4) < 0.003
        assert abs(moved.double().var().item() - 0.4 / 60) < 0.0003
        black = corrupt(torch.zeros(1, 1, 8, 8), torch.arange(1), "shot_noise", 5, seed=0)
        assert black.eq(0).all()

    def test_blur_is_a_plain_loop_over_neighbours(self):
        image = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
        found = corrupt(image, torch.arange(1), "blur", 3, seed=0)[0, 0].numpy()
        reach, width = 4, 1.1
        weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * width**2))
        weights = np.outer(weights, weights) / weights.sum() ** 2
        wide = np.pad(image[0, 0].numpy().astype(float), reach, mode="edge")
        for row, column in ((0, 0), (7, 20), (31, 15)):
            patch = wide[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            assert abs((patch * weights).sum() - found[row, column]) < 1e-6

    def test_contrast_keeps_the_mean_and_brightness_adds(self, garments):
        images, ids = garments
        flat = corrupt(images, ids, "contrast", 4, seed=0)
        torch.testing.assert_close(flat.mean((2, 3)), images.mean((2, 3)), rtol=0, atol=1e-6)
        bright = corrupt(images, ids, "brightness", 2, seed=0)
        torch.testing.assert_close(bright, (images + 0.1).clamp(max=1))

    def test_pixelate_by_half_is_the_mean_of_blocks(self):
        image = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(3))
        found = corrupt(image, torch.arange(1), "pixelate", 5, seed=0)  # 5 x 5 blocks of 4 x 4
        blocks = image.view(1, 1, 5, 4, 5, 4).mean((3, 5))
        torch.testing.assert_close(found[:, :, ::4, ::4], blocks)
        torch.testing.assert_close(found[:, :, 3::4, 3::4], blocks)

    def test_jpeg_is_what_pillow_reads_back(self):
        image = colour(1)
        found = corrupt(image, torch.arange(1), "jpeg", 2, seed=0)
        file = io.BytesIO()
        pixels = (image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=30)
        read = np.asarray(Image.open(file)).astype(np.float32) / 255
        assert np.abs(found[0].permute(1, 2, 0).numpy() - read).max() < 1e-6

    def test_occlusion_covers_the_share_it_says_and_grows_around_its_place(self):
        images, ids = torch.zeros(200, 1, 40, 40), torch.arange(200)
        before = torch.zeros(200, 40, 40, dtype=torch.bool)
        for severity, share in enumerate((0.25, 0.35, 0.45, 0.55, 0.65), start=1):
            covered = corrupt(images, ids, "occlusion", severity, seed=0)[:, 0] == 0.5
            assert abs(covered.double().mean().item() - share**2) < 0.003
            assert (before & ~covered).double().mean() < 0.01
            before = covered
        assert len({tuple(one.nonzero()[0].tolist()) for one in covered}) > 50


class TestFigures:
    def test_mean_corruption_error_is_the_plain_sum(self):
        dice = np.random.default_rng(0)
        errors, reference = dice.uniform(0.1, 0.9, (4, 3)), dice.uniform(0.1, 0.9, (4, 3))
        found = mean_corruption_error(torch.tensor(errors), torch.tensor(reference))
        want = np.mean([sum(e) / sum(r) for e, r in zip(errors, reference, strict=True)])
        assert abs(found - want) < 1e-12
        found = relative_corruption_error(torch.tensor(errors), 0.05, torch.tensor(reference), 0.08)
        want = np.mean(
            [sum(e - 0.05) / sum(r - 0.08) for e, r in zip(errors, reference, strict=True)]
        )
        assert abs(found - want) < 1e-12

    def test_a_reference_that_never_errs_gives_no_ratio(self):
        none, some = torch.zeros(2, 2), torch.full((2, 2), 0.5)
        assert mean_corruption_error(some, none) is None
        assert relative_corruption_error(some, 0.1, none, 0.0) is None
        assert mean_corruption_error(some, some) == 1

    def test_what_is_kept_and_lost(self):
        clean = torch.tensor([True, True, False])
        after = torch.tensor([[[True, False, False]], [[True, False, True]]])
        assert kept(clean, after) == pytest.approx(0.75)
        assert kept(torch.zeros(3).bool(), after) is None
        assert lost(clean, after).tolist() == [0.0, 1.0, -0.5]


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"kind": "gausian_noise"}, "gaussian_noise"),
            ({"severity": 6}, "1 to 5"),
            ({"images": torch.full((2, 1, 4, 4), 1.5)}, "above 1"),
            ({"images": torch.full((2, 1, 4, 4), float("nan"))}, "NaN"),
            ({"images": torch.zeros(2, 4, 4)}, "N, C, H, W"),
            ({"images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8)}, "floats"),
        ],
    )
    def test_in_one_line(self, change, told):
        usual = {"images": torch.zeros(2, 1, 4, 4), "kind": "blur", "severity": 1, **change}
        with pytest.raises(DataError, match=told) as caught:
            corrupt(ids=torch.arange(2), seed=0, **usual)
        assert "\n" not in str(caught.value)

    def test_rates_that_are_none(self):
        with pytest.raises(DataError, match=r"outside \[0, 1\]"):
            mean_corruption_error(torch.tensor([[1.2]]), torch.tensor([[0.2]]))
        with pytest.raises(DataError, match="both models"):
            mean_corruption_error(torch.zeros(2, 3), torch.zeros(3, 2))


def test_stripes_stay_images():
    batch = stripes(9, 1).batch(torch.arange(9))
    for kind in KINDS:
        assert corrupt(batch.inputs, batch.ids, kind, 5, seed=0).isfinite().all()
