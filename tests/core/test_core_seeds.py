"""Random numbers that are a function of (seed, id, draw) and of nothing else."""

import pytest
import torch

from tutelage.core.seeds import derive, generator, uniform

# Made once by this code; a change of any of them changes every augmented view of every run.
FROZEN = [
    [0.48979926109313965, 0.2847195267677307, 0.16438055038452148],
    [0.1935991644859314, 0.531383216381073, 0.8646670579910278],
    [0.7847462892532349, 0.6785980463027954, 0.6660016775131226],
    [0.012828290462493896, 0.057552874088287354, 0.499653160572052],
    [0.5172863602638245, 0.7107118964195251, 0.20961016416549683],
]
DERIVED = [1142075107914471745, 1364828326090009708, 643236314]


def ids(n, start=0):
    return torch.arange(start, start + n)


def test_values_are_frozen_so_that_views_never_change_silently():
    expected = torch.tensor(FROZEN)
    given = torch.tensor([0, 1, 2, 41, 2**40])
    torch.testing.assert_close(uniform(7, given, 3), expected, rtol=0, atol=0)


def test_derived_seeds_are_frozen():
    assert derive(0, "order", 1) == DERIVED[0]
    assert derive(123, "step", 7, "x") == DERIVED[1]
    assert int(torch.randint(2**31, (), generator=generator(5, "data"))) == DERIVED[2]


def test_numbers_are_uniform():
    values = uniform(3, ids(50_000), 4)
    assert values.min() >= 0
    assert values.max() < 1
    for column in values.T:
        counts = torch.histc(column, bins=100, min=0, max=1)
        chi_square = float(((counts - 500) ** 2 / 500).sum())
        assert 50 < chi_square < 160  # 99 degrees of freedom: mean 99, deviation 14
    assert values.mean() == pytest.approx(0.5, abs=0.004)
    assert values.var() == pytest.approx(1 / 12, abs=0.002)


def test_draws_ids_and_seeds_are_not_correlated():
    a = uniform(3, ids(20_000), 2)
    pairs = {
        "draws": (a[:, 0], a[:, 1]),
        "neighbours": (a[:-1, 0], a[1:, 0]),
        "seeds": (a[:, 0], uniform(4, ids(20_000))[:, 0]),
        "draw of the next id": (a[:-1, 1], a[1:, 0]),
    }
    for name, (one, two) in pairs.items():
        assert abs(float(torch.corrcoef(torch.stack([one, two]))[0, 1])) < 0.03, name


def test_an_example_has_its_numbers_in_any_batch():
    whole = uniform(9, ids(100), 3)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(9, order, 3), whole[order])
    assert torch.equal(uniform(9, torch.tensor([42]), 3)[0], whole[42])
    assert torch.equal(uniform(9, ids(100), 2), whole[:, :2])  # more draws change no earlier ones


def test_streams_of_ids_and_seeds_do_not_overlap():
    def bits(values):
        return (values * 2**24).long()

    many = bits(uniform(1, ids(300), 40))
    triples = {tuple(row[i : i + 3].tolist()) for row in many for i in range(38)}
    assert len(triples) == 300 * 38  # no stream runs into another one's
    others = bits(uniform(2, ids(300), 40))
    assert triples.isdisjoint(tuple(row[i : i + 3].tolist()) for row in others for i in range(38))


@pytest.mark.parametrize("example", [-1, -(2**63), 2**63 - 1, 0])
def test_any_id_will_do(example):
    value = uniform(1, torch.tensor([example]))
    assert 0 <= float(value) < 1


def test_purposes_of_other_kinds_are_other_purposes():
    seeds = [
        derive(0, "a", 1),
        derive(0, "a", "1"),
        derive(0, "a1"),
        derive(1, "a", 1),
        derive(0, 1, "a"),
        derive(0),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
