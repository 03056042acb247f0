"""Every objective equals its published equation, computed here in numpy by plain loops.

The loops follow the papers' sums index by index, and share nothing with the code under test.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives import (
    AbstractObjective,
    Attention,
    AttentionPaper,
    CrossEntropy,
    Decoupled,
    Dist,
    Match,
    RelationAngle,
    RelationDistance,
    Similarity,
    SoftTarget,
    StandardizedSoftTarget,
    decoupled,
    pearson,
    soft_target,
    standardize_logits,
)

Array = NDArray[np.float64]
N, C = 6, 5
MASK = np.array([True, False, True, True, False, True])
LABELS = np.array([3, 0, 4, 1, 1, 2])


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


S, T = 2 * noise(N, C, seed=1), 3 * noise(N, C, seed=2)
MAPS, WIDE_MAPS = noise(N, 3, 4, 4, seed=3), noise(N, 7, 4, 4, seed=4)


def value(
    objective: AbstractObjective,
    student: Array,
    teacher: Array,
    *,
    mask: Array | None = None,
    targets: Tensor | None = None,
) -> float:
    """What the objective says of logits (2-D arrays) or of the feature "f" (others)."""
    logits = torch.zeros(len(student), C, dtype=torch.float64)
    s, t = torch.from_numpy(student), torch.from_numpy(teacher)
    tapped = bool(objective.taps[0])
    ours = Outputs(logits, {"f": s}) if tapped else Outputs(s)
    theirs = Outputs(logits, {"f": t}) if tapped else Outputs(t)
    objective.bind(ours, theirs)
    batch = Batch(
        torch.zeros(len(student), 1),
        targets=torch.from_numpy(LABELS) if targets is None else targets,
        mask=None if mask is None else torch.from_numpy(mask),
    )
    (term,) = objective(ours, theirs, batch).values()
    return float(term)


def softmax(z: Array) -> Array:
    e = np.array([np.exp(x - max(z)) for x in z])
    return e / sum(e)


def kl(p: Array, q: Array) -> float:
    return sum(p[c] * np.log(p[c] / q[c]) for c in range(len(p)))


def kd(s: Array, t: Array, temperature: float) -> list[float]:
    """Hinton et al. 2015, section 2, with the factor of section 2.1."""
    return [
        temperature**2 * kl(softmax(t[n] / temperature), softmax(s[n] / temperature))
        for n in range(len(s))
    ]


def kd_standardized(s: Array, t: Array, temperature: float) -> list[float]:
    """Sun et al. 2024, equations 8 and 9, with the deviation of the code (C - 1)."""

    def z(x: Array) -> Array:
        middle = sum(x) / len(x)
        deviation = np.sqrt(sum((each - middle) ** 2 for each in x) / (len(x) - 1))
        return (x - middle) / (1e-7 + deviation)

    return kd(np.array([z(x) for x in s]), np.array([z(x) for x in t]), temperature)


def dkd(s: Array, t: Array, alpha: float, beta: float, temperature: float) -> list[float]:
    """Zhao et al. 2022, equation 7."""
    values = []
    for n in range(len(s)):
        p, q = softmax(t[n] / temperature), softmax(s[n] / temperature)
        y = LABELS[n]
        target = kl(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        others = [c for c in range(C) if c != y]
        p_hat = np.array([p[c] / (1 - p[y]) for c in others])
        q_hat = np.array([q[c] / (1 - q[y]) for c in others])
        values.append(temperature**2 * (alpha * target + beta * kl(p_hat, q_hat)))
    return values


def correlation(x: Array, y: Array) -> float:
    a, b = x - x.mean(), y - y.mean()
    return float(a @ b / (np.sqrt(a @ a) * np.sqrt(b @ b) + 1e-8))


def dist(s: Array, t: Array, beta: float, gamma: float, temperature: float) -> float:
    """Huang et al. 2022, equations 6 to 8."""
    q = np.array([softmax(x / temperature) for x in s])
    p = np.array([softmax(x / temperature) for x in t])
    inter = np.mean([1 - correlation(q[n], p[n]) for n in range(len(s))])
    intra = np.mean([1 - correlation(q[:, c], p[:, c]) for c in range(C)])
    return float(temperature**2 * (beta * inter + gamma * intra))


def attention(f: Array, power: float) -> Array:
    """Zagoruyko and Komodakis 2016, section 3.1: the map of one example, normalised."""
    channels, height, width = f.shape
    a = np.array(
        [
            sum(abs(f[c, h, w]) ** power for c in range(channels))
            for h in range(height)
            for w in range(width)
        ]
    )
    return a / np.sqrt(sum(a**2))


def at(s: Array, t: Array, power: float) -> list[float]:
    """As in the authors' code, `at_loss`."""
    return [
        float(np.mean((attention(a, power) - attention(b, power)) ** 2))
        for a, b in zip(s, t, strict=True)
    ]


def at_paper(s: Array, t: Array, power: float) -> list[float]:
    """Equation 2, without its factor beta / 2."""
    return [
        float(np.sqrt(sum((attention(a, power) - attention(b, power)) ** 2)))
        for a, b in zip(s, t, strict=True)
    ]


def smooth_l1(a: float, b: float) -> float:
    d = abs(a - b)
    return 0.5 * d * d if d < 1 else d - 0.5


def rkd_distance(s: Array, t: Array) -> float:
    """Park et al. 2019, equations 5 to 8; mean over all pairs as in the authors' code."""

    def psi(x: Array) -> Array:
        x = x.reshape(len(x), -1)
        d = np.array([[np.sqrt(sum((a - b) ** 2)) for b in x] for a in x])
        return d / d[~np.eye(len(x), dtype=bool)].mean()

    ours, theirs = psi(s), psi(t)
    pairs = product(range(len(s)), repeat=2)
    return sum(smooth_l1(ours[i, j], theirs[i, j]) for i, j in pairs) / len(s) ** 2


def rkd_angle(s: Array, t: Array) -> float:
    """Park et al. 2019, equations 9 and 10; mean over all triples as in the authors' code."""

    def unit(v: Array) -> Array:
        length = np.sqrt(v @ v)
        return v / length if length > 0 else v

    def psi(x: Array, i: int, j: int, k: int) -> float:
        x = x.reshape(len(x), -1)
        return float(unit(x[i] - x[j]) @ unit(x[k] - x[j]))

    triples = list(product(range(len(s)), repeat=3))
    return sum(smooth_l1(psi(s, *each), psi(t, *each)) for each in triples) / len(triples)


def sp(s: Array, t: Array) -> float:
    """Tung and Mori 2019, equations 2 to 4."""

    def g(x: Array) -> Array:
        x = x.reshape(len(x), -1)
        inner = np.array([[float(a @ b) for b in x] for a in x])
        return np.array([row / np.sqrt(sum(row**2)) for row in inner])

    difference = g(s) - g(t)
    return float(sum(each**2 for each in difference.flat) / len(s) ** 2)


def close(found: float, wanted: float) -> None:
    assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)


PER_UNIT: list[tuple[str, AbstractObjective, Callable[[], list[float]], Array, Array]] = [
    ("kd at 4", SoftTarget(4.0), lambda: kd(S, T, 4.0), S, T),
    ("kd at 1", SoftTarget(1.0), lambda: kd(S, T, 1.0), S, T),
    ("lskd", StandardizedSoftTarget(), lambda: kd_standardized(S, T, 2.0), S, T),
    ("dkd", Decoupled(), lambda: dkd(S, T, 1.0, 8.0, 4.0), S, T),
    ("dkd weighed", Decoupled(0.5, 2.0, 1.0), lambda: dkd(S, T, 0.5, 2.0, 1.0), S, T),
    ("at", Attention({"f": "f"}), lambda: at(MAPS, WIDE_MAPS, 2), MAPS, WIDE_MAPS),
    ("at power 3", Attention({"f": "f"}, 3.0), lambda: at(MAPS, WIDE_MAPS, 3), MAPS, WIDE_MAPS),
    ("at_paper", AttentionPaper({"f": "f"}), lambda: at_paper(MAPS, WIDE_MAPS, 2), MAPS, WIDE_MAPS),
    (
        "match",
        Match({"f": "f"}, adapter=None),
        lambda: [float(np.mean((MAPS[n] - 2 * MAPS[n - 1]) ** 2)) for n in range(N)],
        MAPS,
        2 * np.roll(MAPS, 1, axis=0),
    ),
]


@pytest.mark.parametrize(
    ("objective", "formula", "student", "teacher"),
    [pytest.param(*case[1:], id=case[0]) for case in PER_UNIT],
)
def test_the_mean_over_units_equals_the_equation_with_and_without_a_mask(
    objective: AbstractObjective, formula: Callable[[], list[float]], student: Array, teacher: Array
) -> None:
    wanted = formula()
    close(value(objective, student, teacher), sum(wanted) / N)
    masked = value(objective, student, teacher, mask=MASK)
    close(masked, sum(w for w, kept in zip(wanted, MASK, strict=True) if kept) / MASK.sum())


BATCHWISE: list[tuple[str, AbstractObjective, Callable[[Array, Array], float], Array, Array]] = [
    ("dist", Dist(), lambda s, t: dist(s, t, 1, 1, 1), S, T),
    ("dist cifar", Dist(2.0, 3.0, 4.0), lambda s, t: dist(s, t, 2, 3, 4), S, T),
    ("rkd_distance", RelationDistance(), rkd_distance, S, T),
    ("rkd_distance on maps", RelationDistance("f", "f"), rkd_distance, MAPS, WIDE_MAPS),
    ("rkd_angle", RelationAngle(), rkd_angle, S, T),
    ("rkd_angle on maps", RelationAngle("f", "f"), rkd_angle, MAPS, WIDE_MAPS),
    ("sp", Similarity(), sp, S, T),
    ("sp on maps", Similarity("f", "f"), sp, MAPS, WIDE_MAPS),
]


@pytest.mark.parametrize(
    ("objective", "formula", "student", "teacher"),
    [pytest.param(*case[1:], id=case[0]) for case in BATCHWISE],
)
def test_the_value_of_a_batch_equals_the_equation_with_and_without_a_mask(
    objective: AbstractObjective,
    formula: Callable[[Array, Array], float],
    student: Array,
    teacher: Array,
) -> None:
    close(value(objective, student, teacher), formula(student, teacher))
    masked = value(objective, student, teacher, mask=MASK)
    close(masked, formula(student[MASK], teacher[MASK]))


def test_cross_entropy_of_class_numbers_equals_the_equation() -> None:
    each = [-np.log(softmax(S[n])[LABELS[n]]) for n in range(N)]
    close(value(CrossEntropy(), S, T), sum(each) / N)
    close(value(CrossEntropy(), S, T, mask=MASK), sum(np.array(each)[MASK]) / MASK.sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_smoothed_labels_equals_the_equation(smoothing: float) -> None:
    total = 0.0
    for n in range(N):
        for c in range(C):
            wanted = (1 - smoothing) * (c == LABELS[n]) + smoothing / C
            total -= wanted * np.log(softmax(S[n])[c])
    close(value(CrossEntropy(smoothing), S, T), total / N)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixed_labels_equals_the_equation(smoothing: float) -> None:
    mixed = np.zeros((N, C))
    for n in range(N):
        mixed[n, LABELS[n]] += 0.7
        mixed[n, LABELS[n - 1]] += 0.3
    mixed[2] = 0  # unlabelled
    total = 0.0
    for n in range(N):
        for c in range(C):
            wanted = (1 - smoothing) * mixed[n, c] + smoothing / C * (n != 2)
            total -= wanted * np.log(softmax(S[n])[c])
    close(value(CrossEntropy(smoothing), S, T, targets=torch.from_numpy(mixed)), total / N)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_class_numbers_and_their_one_hot_rows_give_one_value(smoothing: float) -> None:
    one_hot = torch.eye(C, dtype=torch.float64)[torch.from_numpy(LABELS)]
    objective = CrossEntropy(smoothing)
    close(value(objective, S, T, targets=one_hot), value(objective, S, T))


@pytest.mark.parametrize("objective", [CrossEntropy(), CrossEntropy(0.1), Decoupled()])
def test_unlabelled_units_add_nothing_and_still_count(objective: AbstractObjective) -> None:
    some = torch.from_numpy(LABELS).clone()
    some[[1, 4]] = torch.tensor([-1, -7])  # any negative number
    found = value(objective, S, T, targets=some)
    close(found, value(objective, S, T, mask=MASK) * MASK.sum() / N)


def test_dkd_joined_by_the_papers_identity_is_kd() -> None:
    s, t, y = torch.from_numpy(S), torch.from_numpy(T), torch.from_numpy(LABELS)
    for temperature in (1.0, 4.0):
        target, others = decoupled(s, t, y, temperature)
        p_y = (t / temperature).softmax(-1).gather(1, y[:, None])[:, 0]
        whole = soft_target(s, t, temperature)
        torch.testing.assert_close(target + (1 - p_y) * others, whole, rtol=1e-12, atol=1e-12)


def test_standardised_logits_have_mean_0_and_unbiased_deviation_1() -> None:
    z = standardize_logits(torch.from_numpy(S))
    for row in z.numpy():
        assert sum(row) == pytest.approx(0, abs=1e-12)
        assert sum(row**2) / (C - 1) == pytest.approx(1, abs=1e-6)


def test_pearson_equals_numpys() -> None:
    wanted = [np.corrcoef(S[n], T[n])[0, 1] for n in range(N)]
    found = pearson(torch.from_numpy(S), torch.from_numpy(T))
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def sparse(teacher: Array, k: int) -> SparseOutputs:
    p = np.array([softmax(row) for row in teacher])
    top = np.argsort(-p, axis=1)[:, :k]
    kept = np.take_along_axis(p, top, 1)
    with np.errstate(divide="ignore"):
        tail = np.log(np.maximum(1 - kept.sum(1), 0) if k < C else np.zeros(len(p)))
    return SparseOutputs(
        torch.from_numpy(np.log(kept)), top=torch.from_numpy(top), log_tail=torch.from_numpy(tail)
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_kd_on_sparse_answers_is_the_divergence_over_the_kept_classes_and_one_bucket(
    k: int,
) -> None:
    total = 0.0
    for n in range(N):
        p, q = softmax(T[n]), softmax(S[n])
        kept = np.argsort(-p)[:k]
        total += sum(p[c] * np.log(p[c] / q[c]) for c in kept)
        rest, others = 1 - sum(p[kept]), 1 - sum(q[kept])
        total += rest * np.log(rest / others)
    batch = Batch(torch.zeros(N, 1))
    found = SoftTarget(1.0)(Outputs(torch.from_numpy(S)), sparse(T, k), batch)["kd"]
    close(float(found), total / N)
    assert float(found) <= value(SoftTarget(1.0), S, T) + 1e-12  # joining classes loses


@pytest.mark.parametrize("k", [C - 1, C])
def test_kd_on_sparse_answers_that_lack_nothing_is_kd(k: int) -> None:
    batch = Batch(torch.zeros(N, 1), mask=torch.from_numpy(MASK))
    found = SoftTarget(1.0)(Outputs(torch.from_numpy(S)), sparse(T, k), batch)["kd"]
    close(float(found), value(SoftTarget(1.0), S, T, mask=MASK))


def test_an_empty_tail_has_no_part_in_the_gradient() -> None:
    answers = replace(sparse(T, 2), log_tail=torch.full((N,), -torch.inf, dtype=torch.float64))
    student = torch.from_numpy(S).requires_grad_()
    loss = SoftTarget(1.0)(Outputs(student), answers, Batch(torch.zeros(N, 1)))["kd"]
    (gradient,) = torch.autograd.grad(loss, student)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


def test_several_pairs_are_added() -> None:
    """The sum over layers of the attention and hint papers."""
    s, t = torch.from_numpy(MAPS), torch.from_numpy(WIDE_MAPS)
    logits = torch.zeros(N, C, dtype=torch.float64)
    ours, theirs = Outputs(logits, {"a": s, "b": s.flip(1)}), Outputs(logits, {"x": t, "y": 2 * t})
    batch = Batch(torch.zeros(N, 1))
    both = Attention({"a": ["x", "y"], "b": "x"})(ours, theirs, batch)["at"]
    each = [
        Attention({a: b})(ours, theirs, batch)["at"]
        for a, b in (("a", "x"), ("a", "y"), ("b", "x"))
    ]
    close(float(both), float(sum(each)))


@pytest.mark.parametrize("sizes", [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((8, 4), (4, 6))])
def test_maps_of_other_sizes_are_pooled_to_the_smaller(
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> None:
    s, t = noise(N, 3, *sizes[0], seed=5), noise(N, 2, *sizes[1], seed=6)
    height, width = (min(sizes[0][i], sizes[1][i]) for i in range(2))

    def pool(f: Array) -> Array:
        pooled = np.zeros((*f.shape[:2], height, width))
        for h, w in product(range(height), range(width)):
            rows = slice(h * f.shape[2] // height, -(-(h + 1) * f.shape[2] // height))
            columns = slice(w * f.shape[3] // width, -(-(w + 1) * f.shape[3] // width))
            pooled[:, :, h, w] = f[:, :, rows, columns].mean((2, 3))
        return pooled

    close(value(Attention({"f": "f"}), s, t), sum(at(pool(s), pool(t), 2)) / N)
