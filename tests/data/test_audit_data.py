"""The audit: each figure against an independent reference, planted truths, clean twins."""

import json
import sys
from functools import cache

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import Ridge

from tutelage.core.errors import DataError
from tutelage.core.seeds import generator
from tutelage.data import Groups, LazySet, Sealed, Splits, TensorSet, from_tensors
from tutelage.data.audit import audit, data_card
from tutelage.data.audit.balance import balance, chi_squared, group_balance
from tutelage.data.audit.broken import contents
from tutelage.data.audit.copies import crossings, of_duplicates
from tutelage.data.audit.descriptors import described
from tutelage.data.audit.duplicates import dimension, exact, limit, near
from tutelage.data.audit.features import cosines
from tutelage.data.audit.folds import _RIDGES, FOLDS, out_of_fold, votes
from tutelage.data.audit.labels import check, confident_disagreement
from tutelage.data.audit.neighbours import _largest, nearest
from tutelage.data.audit.noise import noise_share
from tutelage.data.audit.pool import Pool
from tutelage.data.audit.saying import of_balance, of_labels
from tutelage.data.fashion_small import embedded as _embedded

NOISE = 8 / 255
REAL = {(753, 21295), (59025, 62115), (27857, 55613), (5299, 53335)}
"""Pairs of Fashion-MNIST itself that are alike to the eye too: trousers twice, trousers twice, a
T-shirt with and without a pocket, a coat twice. The last two are found in small parts of it."""
embedded = cache(_embedded)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=generator(seed, "test"))


def subset(seed, train=1500, validation=300, test=600):
    """Random real images as clean splits, and the source of copies."""
    every, held = embedded()
    order = torch.randperm(len(every), generator=generator(seed, "subset"))
    chosen = torch.randperm(len(held), generator=generator(seed, "held"))[:test]
    return Splits(
        every.take(order[:train]),
        every.take(order[train : train + validation]),
        Sealed(held.take(chosen)),
        "subset",
        every.classes,
    )


def leaking(splits, copies=25, seed=0):
    """The same with noisy copies of test images instead of some of train."""
    test = splits.test._examples
    random = generator(seed, "leak")
    source = torch.randperm(len(test), generator=random)[:copies]
    place = torch.randperm(len(splits.train), generator=random)[:copies]
    images = test.inputs[source] / 255
    images = (images + NOISE * torch.randn(images.shape, generator=random)).clamp(0, 1)
    inputs, targets = splits.train.inputs.clone(), splits.train.targets.clone()
    inputs[place] = (255 * images).round().to(torch.uint8)
    targets[place] = test.targets[source]
    train = TensorSet(inputs, targets, classes=splits.classes, ids=splits.train.ids)
    pairs = set(zip(train.ids[place].tolist(), test.ids[source].tolist(), strict=True))
    return Splits(train, splits.validation, Sealed(test), "leaking", splits.classes), pairs


def flipped(targets, classes, count, seed=0):
    random = generator(seed, "flip")
    rows = torch.randperm(len(targets), generator=random)[:count]
    targets = targets.clone()
    targets[rows] += torch.randint(1, classes, (count,), generator=random)
    targets[rows] %= classes
    return targets, rows


def digits(flips=0, seed=0):
    data = load_digits()
    images = torch.tensor(data.images / 16).float()[:, None]
    targets, rows = flipped(torch.tensor(data.target), 10, flips, seed)
    return from_tensors(images, targets, validation=300, test=300), set(rows.tolist())


@cache
def looked_at(flips):
    """The check of labels of digits with so many flips: splits, pool, planted numbers, found."""
    splits, rows = digits(flips)
    pool = Pool.of(splits)
    seen = rows & set(pool.ids[pool.split < 2].tolist())
    return splits, pool, seen, check(pool, described(pool.sets, 0), splits.classes, 0)


def similar(splits):
    pool = Pool.of(splits)
    rows = described(pool.sets, 0)
    copies = exact(pool.sets)
    return pool, copies, near(pool, rows, copies, confirm=True)


def leaks(pool, found):
    at = (pool.split[found.pairs.first] == 0) & (pool.split[found.pairs.second] == 2)
    first, second = found.pairs.first[at], found.pairs.second[at]
    return set(zip(pool.ids[first].tolist(), pool.ids[second].tolist(), strict=True))


# ---- neighbours -------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "width", "k"), [(40, 3, 5), (3000, 8, 4), (12, 2, 11)])
def test_neighbours_are_those_of_all_distances(count, width, k):
    rows = rand(count, width)
    distances, places = nearest(rows, k)
    every = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    every.fill_diagonal_(torch.inf)
    assert torch.allclose(distances.double(), every.topk(k, largest=False).values, atol=1e-6)
    assert not (places == torch.arange(count)[:, None]).any()


def test_neighbours_tell_apart_what_is_nearly_equal_far_from_the_middle():
    rows = rand(200, 16) + 1000
    rows[7] = rows[3] + 1e-3
    distances, places = nearest(rows, 1)
    assert places[3, 0] == 7
    assert distances[3, 0] == pytest.approx(4e-3, rel=0.1)


def test_the_largest_of_a_wide_tile_are_those_of_topk():
    tile = torch.randn(50, 5003, generator=generator(0, "tile"))
    values, places = _largest(tile, 7)
    assert torch.equal(values, tile.topk(7).values)
    assert torch.equal(tile.gather(1, places), values)


# ---- copies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 6])
def test_dimension_is_that_of_the_cube(d):
    distances, _ = nearest(torch.cat([rand(4000, d), torch.zeros(4000, 3)], 1), 2)
    assert dimension(distances) == pytest.approx(d, rel=0.12)


def test_the_limit_holds_its_promise_on_evenly_spread_data():
    # Expected below the limit that allows 20 of them: about 20 rows.
    d, count, found = 4, 2000, 0
    most = limit(d, count, 11, expected=20)
    for seed in range(10):
        distances, _ = nearest(rand(count, d, seed=seed), 11)
        found += int((distances[:, 0] / distances[:, -1] <= most).sum())
    assert 120 < found < 280


def test_a_grid_has_no_dimension_and_the_search_says_so():
    axis = torch.arange(12.0)
    grid = torch.cartesian_prod(axis, axis)
    splits = from_tensors(grid, torch.arange(144) % 2, validation=20, test=20)
    pool = Pool.of(splits)
    found = near(pool, described(pool.sets, 0), exact(pool.sets), confirm=False)
    assert "on a grid" in found.why
    assert len(found.pairs) == 0


def test_25_noisy_copies_of_test_images_are_found_and_nothing_else():
    splits, planted = leaking(subset(0))
    pool, copies, found = similar(splits)
    assert len(leaks(pool, found) & planted) >= 24
    assert not leaks(pool, found) - planted - REAL
    worst = of_duplicates(copies, found, pool)[0]
    assert worst.status == "warning"
    assert f"{len(leaks(pool, found))} of 600 test examples" in worst.text
    assert "in train too" in worst.text


def test_brighter_and_duller_copies_are_found_too():
    splits = subset(1)
    test = splits.test._examples
    inputs = splits.train.inputs.clone()
    inputs[:10] = (0.7 * test.inputs[:10].float() + 20).round().to(torch.uint8)
    train = TensorSet(inputs, splits.train.targets, classes=splits.classes, ids=splits.train.ids)
    pool, _, found = similar(
        Splits(train, splits.validation, Sealed(test), "brighter", splits.classes)
    )
    assert len(leaks(pool, found)) == 10


def test_ten_clean_subsets_have_no_copies():
    for seed in range(10):
        pool, copies, found = similar(subset(seed + 10))
        told = of_duplicates(copies, found, pool)
        first, second = pool.ids[found.pairs.first], pool.ids[found.pairs.second]
        pairs = {tuple(sorted(pair)) for pair in torch.stack([first, second], 1).tolist()}
        assert pairs <= REAL, (seed, pairs)
        assert all(each.status != "warning" for each in told)


def test_exact_copies_are_counted_over_all_splits_even_through_a_third():
    rows = rand(60, 3)
    rows[25] = rows[45] = rows[3]  # train, validation, test
    rows[46] = rows[26]
    sets = [
        TensorSet(rows[a:b], ids=torch.arange(a, b), name=n)
        for a, b, n in ((0, 20, "train"), (20, 40, "validation"), (40, 60, "test"))
    ]
    splits = Splits(sets[0], sets[1], Sealed(sets[2]), "copies", ())
    pool, copies, found = similar(splits)
    assert len(copies) == 3
    counted = crossings(copies, found, pool)
    assert counted == {"train to test": 1, "train to validation": 1, "validation to test": 2}


def test_copies_with_two_labels_are_named():
    splits = subset(2)
    inputs, targets = splits.train.inputs.clone(), splits.train.targets.clone()
    inputs[:4] = inputs[10:14]
    targets[:4] = (targets[10:14] + 1) % 10
    train = TensorSet(inputs, targets, classes=splits.classes, ids=splits.train.ids)
    pool, copies, found = similar(
        Splits(train, splits.validation, splits.test, "two", splits.classes)
    )
    (told,) = (f for f in of_duplicates(copies, found, pool) if "labelled two ways" in f.text)
    assert told.status == "warning"
    assert len(told.examples) == 4


def test_near_copies_of_table_rows_are_found():
    data = load_breast_cancer()
    rows = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0)).float()
    splits = from_tensors(rows, torch.tensor(data.target), validation=80, test=80)
    test = splits.test._examples
    inputs = splits.train.inputs.clone()
    inputs[:10] = test.inputs[:10] + 0.01 * torch.randn(10, 30, generator=generator(0, "rows"))
    train = TensorSet(inputs, splits.train.targets, classes=splits.classes, ids=splits.train.ids)
    for each, many in ((splits.train, 0), (train, 10)):
        made = Splits(each, splits.validation, Sealed(test), "rows", splits.classes)
        pool = Pool.of(made)
        found = near(pool, described(pool.sets, 0), exact(pool.sets), confirm=False)
        assert len(leaks(pool, found)) == many


# ---- labels -----------------------------------------------------------------------------------


def test_scores_out_of_fold_are_those_of_ridge_without_the_fold():
    features = rand(203, 7).sub(0.5)
    targets = (features[:, 0] > 0).long() + (features[:, 1] > 0.2).long()
    ids = torch.arange(203) * 3
    found = out_of_fold(features, targets, 3, ids, seed=4)
    wanted = torch.nn.functional.one_hot(targets, 3).double().numpy()
    errors = []
    for ridge in _RIDGES:
        fold = _folds(targets, ids, 4)
        scores = np.empty((203, 3))
        for number in range(FOLDS):
            kept = fold != number
            model = Ridge(alpha=ridge * 203, fit_intercept=False)
            model.fit(features.numpy()[kept], wanted[kept] - wanted.mean(0))
            scores[~kept] = model.predict(features.numpy()[~kept]) + wanted.mean(0)
        errors.append((((scores - wanted) ** 2).mean(), scores))
    best = min(errors, key=lambda each: each[0])[1]
    assert np.abs(found.numpy() - best).max() < 1e-4


def _folds(targets, ids, seed):
    from tutelage.core.seeds import derive, uniform

    numbers = uniform(derive(seed, "audit", "folds"), ids)[:, 0]
    order = sorted(range(len(ids)), key=lambda row: (int(targets[row]), float(numbers[row])))
    fold = np.empty(len(ids), dtype=int)
    for place, row in enumerate(order):
        fold[row] = place % FOLDS
    return fold


def test_confident_disagreement_is_that_of_plain_loops():
    belief = rand(300, 4).double() ** 3
    belief /= belief.sum(1, keepdim=True)
    targets = torch.randint(0, 4, (300,), generator=generator(0, "targets"))
    thresholds = [belief[targets == c, c].mean() for c in range(4)]
    wanted = []
    for row in range(300):
        reached = [c for c in range(4) if belief[row, c] >= thresholds[c]]
        if reached and max(reached, key=lambda c: belief[row, c]) != targets[row]:
            wanted.append(row)
    assert confident_disagreement(belief, targets).tolist() == wanted
    cleanlab = pytest.importorskip("cleanlab.count")
    theirs = cleanlab.get_confident_thresholds(targets.numpy(), belief.numpy())
    assert np.abs(theirs - np.array(thresholds)).max() < 1e-6


def test_a_copy_has_no_vote():
    found = votes(
        torch.tensor([[1, 2], [0, 2], [0, 1]]),
        torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]),
        torch.tensor([0, 1, 1]),
        2,
    )
    assert torch.allclose(found.sum(1), torch.ones(3))
    assert found[0].tolist() == pytest.approx([0.25 / 1.5, 1.25 / 1.5])


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_the_share_of_random_labels_is_estimated(share):
    random = generator(0, "noise")
    scores = 2 * torch.randn(6000, 5, generator=random)
    targets = torch.multinomial(scores.softmax(1), 1, generator=random)[:, 0]
    count = int(6000 * share)
    targets[:count] = torch.randint(0, 5, (count,), generator=random)
    found = noise_share(3 * scores, targets)
    assert found.low <= share <= found.high
    assert (found.low > 0) == (share > 0)
    assert found.sharpness == pytest.approx(1 / 3, rel=0.1)


def test_cosines_are_a_kernel():
    rows = torch.randn(300, 6, generator=generator(0, "rows"))
    made = cosines(rows, 0)
    width = 2 * torch.pdist(rows).median()
    wanted = torch.exp(-torch.cdist(rows, rows).square() / (2 * width**2))
    assert float((made @ made.T - wanted).abs().mean()) < 0.05


def test_40_flipped_digits_are_found_and_none_without_them():
    splits, pool, planted, found = looked_at(40)
    named = pool.ids[found.suspects].tolist()
    assert len(planted & set(named)) >= 0.95 * len(planted)
    assert len(set(named[:20]) & planted) >= 19
    assert found.noise.low > 0.01
    (told,) = of_labels(found, pool, splits.classes)
    assert told.status == "warning"
    assert "look as if drawn at random" in told.text
    splits, pool, _, found = looked_at(0)
    assert len(found.suspects) <= 2
    (told,) = of_labels(found, pool, splits.classes)
    assert told.status != "warning"


def test_labels_of_a_table_are_doubted_too():
    data = load_breast_cancer()
    rows = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0)).float()
    targets, planted = flipped(torch.tensor(data.target), 2, 15)
    for labels, noisy in ((torch.tensor(data.target), False), (targets, True)):
        splits = from_tensors(rows, labels, validation=60, test=60)
        pool = Pool.of(splits)
        found = check(pool, described(pool.sets, 0), splits.classes, 0)
        assert (found.noise.low > 0.001) == noisy
    seen = {row for row in planted.tolist() if row in set(pool.ids[pool.split < 2].tolist())}
    first = set(pool.ids[found.suspects[: len(seen)]].tolist())
    assert len(first & seen) >= 0.6 * len(seen)


def test_without_cleanlab_the_plain_check_goes_on_and_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    data = load_breast_cancer()
    targets, _ = flipped(torch.tensor(data.target), 2, 15)
    rows = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0)).float()
    splits = from_tensors(rows, targets, validation=60, test=60)
    pool = Pool.of(splits)
    found = check(pool, described(pool.sets, 0), splits.classes, 0)
    assert found.second is None
    (told,) = of_labels(found, pool, splits.classes)
    assert "tutelage[data]" in told.text


def test_labels_of_test_are_not_doubted_and_no_labels_is_said():
    _, pool, _, found = looked_at(40)
    assert not (pool.split[found.places] == 2).any()
    bare = from_tensors(rand(80, 1, 8, 8), None, validation=10, test=10)
    pool = Pool.of(bare)
    assert "fewer than two classes" in check(pool, described(pool.sets, 0), (), 0).why


# ---- balance ----------------------------------------------------------------------------------


def test_chi_squared_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    for counts in ([[30, 70], [50, 50]], [[20, 33, 60], [90, 12, 44], [31, 30, 29]]):
        statistic, p, v = chi_squared(torch.tensor(counts))
        wanted = stats.chi2_contingency(counts, correction=False)
        assert statistic == pytest.approx(wanted.statistic, abs=1e-9)
        assert p == pytest.approx(wanted.pvalue, abs=1e-12)
        assert v == pytest.approx(stats.contingency.association(counts, "cramer"), abs=1e-9)


def test_rare_classes_are_joined_and_one_column_says_nothing():
    assert chi_squared(torch.tensor([[50, 50, 1], [50, 50, 3]]))[1] > 0.5
    assert chi_squared(torch.tensor([[5, 0], [9, 0]])) == (0.0, 1.0, 0.0)


def test_a_class_missing_from_test_is_named_and_whole_ones_are_not():
    every, held = embedded()
    for gone in (False, True):
        kept = (held.targets != 6).nonzero()[:, 0] if gone else torch.arange(len(held))
        pool = Pool.of(
            Splits(
                every.take(torch.arange(8000)),
                every.take(torch.arange(8000, 10000)),
                Sealed(held.take(kept)),
                "gone",
                every.classes,
            )
        )
        told = of_balance(balance(pool, every.classes), {})
        assert any("Shirt" in f.text and f.status == "warning" for f in told) == gone
        assert any("The mix of class in test differs" in f.text for f in told) == gone


def test_the_mix_of_random_subsets_is_not_called_shifted():
    for seed in range(12):
        splits = subset(seed)
        told = of_balance(balance(Pool.of(splits), splits.classes), {})
        assert [f.status for f in told] == ["fine"], told


def test_groups_are_counted_and_their_tie_with_the_class_is_told():
    targets = torch.arange(400) % 2
    splits = from_tensors(rand(400, 3), targets, validation=50, test=50)
    tied = Groups("tied", ("a", "b"), torch.arange(400), targets)
    free = Groups("free", ("a", "b"), torch.arange(400), (torch.arange(400) // 2) % 2)
    pool = Pool.of(splits)
    groups = {g.name: group_balance(pool, g, splits.classes) for g in (tied, free)}
    text = " ".join(f.text for f in of_balance(balance(pool, splits.classes), groups))
    assert "group of 'tied' and class go together" in text
    assert "'free' and class" not in text
    assert sum(groups["free"]["counts"]["train"]) == 300


# ---- content, and the whole -------------------------------------------------------------------


class Numbers:
    """A decoder of floats, to have NaN pass the door."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def read(self, position):
        return self.rows[position]

    def digest(self, positions):
        return str(positions)


def test_constant_images_noise_and_nan_are_found_and_real_images_are_not():
    every, _ = embedded()
    inputs = every.inputs[:3000].clone()
    assert not any(map(len, vars(contents([TensorSet(inputs)])).values()))
    inputs[5] = 0
    inputs[9] = 255
    inputs[11] = torch.randint(0, 256, (1, 28, 28), generator=generator(0, "n")).byte()
    found = contents([TensorSet(inputs)])
    assert found.constant.tolist() == [5, 9]
    assert found.extreme.tolist() == [11]
    rows = rand(300, 4)
    rows[3, 1], rows[7, 2] = torch.nan, 1e6
    found = contents([LazySet(Numbers(rows))])
    assert (found.not_finite.tolist(), found.extreme.tolist()) == ([3], [7])


def test_the_whole_audit_opens_test_once_touches_no_global_state_and_is_plain_data():
    splits, _ = digits(40)
    before = torch.get_rng_state()
    made = audit(splits)
    assert torch.equal(before, torch.get_rng_state())
    assert splits.test.opened == "the audit"
    with pytest.raises(DataError, match="already opened for 'the audit'"):
        splits.test.open("a report")
    assert made.worst == "warning"
    assert [f.status for f in made.findings["labels"]] == ["warning"]
    assert made.as_dict()["checks"]["labels"]["figures"]["doubted"] == len(
        looked_at(40)[3].suspects
    )
    json.dumps(made.as_dict(), allow_nan=False)


def test_features_of_a_model_take_the_place_of_pixels():
    splits, _ = digits(40)
    sets = {"train": splits.train, "validation": splits.validation, "test": splits.test._examples}
    given = {name: each.inputs.flatten(1) ** 0.5 for name, each in sets.items()}
    made = audit(splits, features=given)
    assert made.figures["labels"]["accuracy"] > 0.85
    assert made.findings["labels"][0].status == "warning"


def test_the_card_holds_what_is_known_and_says_what_is_not():
    made = audit(_small()).as_dict()
    card = data_card(made)
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "mit"
    assert head["dataset_info"]["splits"][2] == {"name": "test", "num_examples": 200}
    assert head["dataset_info"]["features"][1]["dtype"]["class_label"]["names"][0] == "T-shirt/top"
    for words in ("Licence: MIT", "## Splits", "| Trouser |", "not stated", "## What the audit"):
        assert words in card
    bare = {**made, "facts": {**made["facts"], "origin": {}}}
    assert "license" not in yaml.safe_load(data_card(bare).split("---")[1])
    assert "Licence: not stated" in data_card(bare)


def _small():
    small = subset(0, 400, 100, 200)
    origin = {"source": "fashion_mnist_small", "licence": "MIT"}
    return Splits(small.train, small.validation, small.test, "small", small.classes, origin)


# ---- slow: the whole of the small Fashion-MNIST -----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_flips_and_copies_in_8000_images_are_found_and_the_clean_twin_is_let_be(seed):
    clean = subset(seed, 8000, 1000, 2000)
    made = audit(subset(seed, 8000, 1000, 2000))
    assert made.worst != "warning", made.findings
    base = {
        (p["one"], p["other"])
        for p in made.as_dict()["checks"]["duplicates"]["figures"]["near_pairs"]
    }
    splits, planted = leaking(clean, seed=seed)
    targets, rows = flipped(splits.train.targets, 10, 40, seed)
    train = TensorSet(splits.train.inputs, targets, classes=splits.classes, ids=splits.train.ids)
    wrong = {f"train {number}" for number in train.ids[rows].tolist()}
    made = audit(Splits(train, splits.validation, splits.test, "planted", splits.classes))
    figures = made.as_dict()["checks"]
    pairs = {(p["one"], p["other"]) for p in figures["duplicates"]["figures"]["near_pairs"]} - base
    found = {p for p in pairs if p[0].startswith("train") and p[1].startswith("test")}
    assert len(found & {(f"train {a}", f"test {b}") for a, b in planted}) >= 24
    assert len(found) <= 25
    suspects = [s["example"] for s in figures["labels"]["figures"]["suspects"]]
    hits = [len(wrong & set(suspects[:k])) for k in (10, 20, 40, 80, 200)]
    print("flips among the first 10, 20, 40, 80, 200:", hits)
    assert hits[0] >= 6
    assert hits[2] >= 16
    assert hits[4] >= 28
    assert made.findings["labels"][0].status == "warning"
