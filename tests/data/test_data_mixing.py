import math

import pytest
import torch

from tutelage.data import Augment, Loader, TensorSet
from tutelage.data.mixing import beta, cutmix, mix_targets, mixup


def grid(count=20_001):
    return torch.linspace(0, 1, count, dtype=torch.float64)


def test_beta_of_one_is_uniform():
    assert torch.allclose(beta(grid(), 1.0).double(), grid(), atol=1e-6)


def test_beta_of_a_half_is_the_arcsine_distribution():
    expected = torch.sin(math.pi / 2 * grid()) ** 2
    assert torch.allclose(beta(grid(), 0.5).double(), expected, atol=1e-5)


def test_beta_of_two_solves_its_cubic():
    x = beta(grid(), 2.0).double()
    assert torch.allclose(3 * x**2 - 2 * x**3, grid(), atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.4, 1.5, 8.0, 50.0, 1000.0])
def test_beta_has_the_moments_of_beta(alpha):
    middles = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    x = beta(middles, alpha).double()
    assert x.min() >= 0
    assert x.max() <= 1
    assert bool((x.diff() >= 0).all())
    assert abs(x.mean().item() - 0.5) < 1e-6
    assert x.var(correction=0).item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=2e-3)


@pytest.mark.parametrize("alpha", [0.2, 0.8, 3.0])
def test_beta_agrees_with_the_density_of_torch(alpha):
    x = beta(torch.linspace(0.02, 0.98, 97, dtype=torch.float64), alpha).double()
    density = torch.distributions.Beta(alpha, alpha).log_prob(x.clamp(1e-12, 1 - 1e-7)).exp()
    middle = (x > 0.02) & (x < 0.98)
    slope = (x[2:] - x[:-2]) / 0.02
    expected = 1 / density[1:-1]
    kept = middle[1:-1]
    assert kept.sum() > 20
    assert torch.allclose(slope[kept], expected[kept], rtol=0.05)


def test_mixup_is_the_weighted_mean():
    one, other = torch.rand(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    mixed = mixup(one, other, torch.tensor([0.0, 0.25, 1.0]))
    assert torch.allclose(mixed[0], other[0])
    assert torch.allclose(mixed[1], 0.25 * one[1] + 0.75 * other[1])
    assert torch.allclose(mixed[2], one[2])


def test_cutmix_area_is_the_share_it_says():
    share = torch.rand(500, generator=torch.Generator().manual_seed(0))
    centres = torch.rand(500, 2, generator=torch.Generator().manual_seed(1))
    mixed, kept = cutmix(torch.zeros(500, 1, 16, 12), torch.ones(500, 1, 16, 12), share, centres)
    assert torch.allclose(1 - mixed.mean((1, 2, 3)), kept)
    assert bool((kept >= share - 1e-6).all())
    inside = torch.full_like(centres, 0.5)
    _, whole = cutmix(torch.zeros(500, 1, 64, 64), torch.ones(500, 1, 64, 64), share, inside)
    assert (whole - share).abs().max() < 2 / 64 + 1e-6


def test_cutmix_pastes_one_box_of_known_place():
    one, other = torch.zeros(1, 3, 8, 8), torch.rand(1, 3, 8, 8) + 1
    mixed, kept = cutmix(one, other, torch.tensor([0.75]), torch.tensor([[0.5, 0.0]]))
    expected = one.clone()
    expected[:, :, 2:6, 0:2] = other[:, :, 2:6, 0:2]
    assert torch.equal(mixed, expected)
    assert kept.item() == 1 - 8 / 64


def test_mixed_targets_sum_to_one_and_weigh_by_share():
    rows = mix_targets(torch.tensor([2, 1]), torch.tensor([0, 1]), torch.tensor([0.7, 0.7]), 3)
    assert torch.allclose(rows, torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]]))


def test_a_mixture_with_an_unlabelled_part_is_unlabelled():
    own = torch.tensor([-1, 0, 0, -1])
    theirs = torch.tensor([0, -1, -1, 1])
    rows = mix_targets(own, theirs, torch.tensor([0.5, 0.5, 1.0, 0.0]), 2)
    assert rows.sum(1).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert rows[2].tolist() == [1.0, 0.0]
    assert rows[3].tolist() == [0.0, 1.0]


def examples(count=40):
    pixels = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    names = tuple(map(str, range(5)))
    return TensorSet((pixels * 255).byte(), torch.arange(count) % 5, classes=names)


def by_id(loader, epoch=0):
    batches = list(loader.epoch(epoch))
    inputs = torch.cat([b.inputs for b in batches])
    targets = torch.cat([b.targets for b in batches])
    order = torch.cat([b.ids for b in batches]).argsort()
    return inputs[order], targets[order]


@pytest.mark.parametrize("steps", [["mixup"], ["cutmix"], ["flip", "mixup", "cutmix"]])
def test_mixtures_do_not_depend_on_the_batch(steps):
    augment = Augment(steps)
    inputs, targets = by_id(Loader(examples(), 40, augment=augment, seed=3))
    for size, shuffle in ((1, True), (7, True), (16, False)):
        loader = Loader(examples(), size, augment=augment, seed=3, shuffle=shuffle)
        again, targets_again = by_id(loader)
        assert torch.equal(again, inputs)
        assert torch.equal(targets_again, targets)
    assert torch.allclose(targets.sum(1), torch.ones(40))
    assert targets.dtype == torch.float32


def test_a_partner_joins_as_its_own_augmented_view():
    augment = Augment(["flip", "mixup"])
    whole, ids = examples(), torch.arange(40)
    inputs, _ = by_id(Loader(whole, 8, augment=augment, seed=3), epoch=2)
    views = augment.view(whole.batch(ids).inputs, ids, seed=3, view=2)
    partners = augment.partners(ids, 40, seed=3, view=2)
    expected, share = augment.mix(views, views[partners], ids, seed=3, view=2)
    assert torch.equal(inputs, expected)
    own = share[:, None, None, None]
    assert torch.allclose(inputs, own * views + (1 - own) * views[partners], atol=1e-6)


def test_partners_come_from_the_whole_set():
    partners = Augment(["mixup"]).partners(torch.arange(3000), 10, seed=0, view=0)
    counts = torch.bincount(partners, minlength=10)
    assert counts.min() > 220
    assert counts.max() < 380


def test_only_the_share_asked_for_is_mixed():
    steps = [{"mixup": {"alpha": 1.0, "probability": 0.25}}]
    _, targets = by_id(Loader(examples(2000), 500, augment=Augment(steps)))
    mixed = (targets.max(1).values < 1).float().mean().item()
    assert 0.15 < mixed < 0.25  # a quarter, less the pairs of one class


def test_tables_can_be_mixed():
    table = TensorSet(torch.rand(10, 3), torch.arange(10) % 2, classes=("a", "b"))
    inputs, targets = by_id(Loader(table, 4, augment=Augment(["mixup"])))
    assert inputs.shape == (10, 3)
    assert torch.allclose(targets.sum(1), torch.ones(10))


def test_examples_without_targets_mix_without_targets():
    bare = TensorSet(torch.rand(10, 3))
    assert all(b.targets is None for b in Loader(bare, 4, augment=Augment(["mixup"])).epoch(0))
