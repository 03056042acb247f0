"""Thresholds of exits: chosen on validation under a budget, and followed by a real early stop."""

import itertools
import json

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.data import Loader, load
from tutelage.engine import Learner, adamw, fit, one_cycle
from tutelage.evaluation import (
    Effort,
    ExitPolicy,
    certainty,
    choose_thresholds,
    early,
    exit_costs,
    exit_curve,
    exit_logits,
    exit_times,
)
from tutelage.models import Intake, Observed, build_model
from tutelage.objectives import CrossEntropy
from tutelage.settings import MultiExit

COSTS = [1.0, 2.5, 7.0]


def some(n=40, exits=3, seed=0):
    dice = torch.Generator().manual_seed(seed)
    targets = torch.randint(4, (n,), generator=dice)
    right = torch.nn.functional.one_hot(targets, 4)
    logits = [
        torch.randn(n, 4, generator=dice) + (1 + k) * right * torch.rand(n, 1, generator=dice)
        for k in range(exits)
    ]
    return logits, targets


@pytest.mark.parametrize("measure", ["max_softmax", "entropy"])
def test_the_search_finds_what_trying_everything_finds(measure):
    exits, targets = some(n=12)
    sure = [certainty(logits, measure) for logits in exits]
    # Every way of splitting 12 examples at each of two exits.
    grids = [[0.0, *(v + 1e-9 for v in each.tolist()), None] for each in sure[:-1]]
    everything = []
    for thresholds in itertools.product(*grids):
        hits, cost = 0, 0.0
        for row in range(12):
            gone = [t is not None and float(sure[k][row]) >= t for k, t in enumerate(thresholds)]
            k = gone.index(True) if True in gone else 2
            hits += int(exits[k][row].argmax() == targets[row])
            cost += COSTS[k]
        everything.append((cost / 12, hits / 12))
    for budget in (1.0, 1.4, 2.0, 3.0, 5.0, 7.0):
        found = choose_thresholds(exits, targets, COSTS, budget, measure=measure)
        best = max(hits for cost, hits in everything if cost <= budget + 1e-9)
        cheapest = min(cost for cost, hits in everything if hits == best)
        assert (found.accuracy, found.expected) == pytest.approx((best, cheapest))
        answer, numbers = found.apply(exits)
        assert found.cost(numbers) == pytest.approx(found.expected)
        assert float((answer.argmax(-1) == targets).double().mean()) == pytest.approx(best)


def test_the_curve_rises_and_holds_only_what_nothing_beats():
    exits, targets = some(n=300)
    curve = exit_curve(exits, targets, COSTS, quantiles=15)
    assert len(curve) > 5
    for one, two in itertools.pairwise(curve):
        assert one.expected < two.expected
        assert one.accuracy < two.accuracy
    assert curve[0].expected == 1.0
    alone = max(float((logits.argmax(-1) == targets).double().mean()) for logits in exits)
    assert curve[-1].accuracy >= alone


def test_many_exits_are_searched_on_fewer_quantiles_in_little_time():
    exits, targets = some(n=500, exits=6)
    policy = choose_thresholds(exits, targets, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2.5)
    assert policy.expected <= 2.5
    with pytest.raises(DataError, match="are 10,510,100,501 combinations: give quantiles"):
        exit_curve(exits, targets, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], quantiles=99)


def test_certainty_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25]])
    assert certainty(p.log()).item() == pytest.approx(0.5)
    entropy = 0.5 * 2**0.5 * 0 + 1.0397207708399179  # 1.5 log 2
    expected = 1 - entropy / 1.0986122886681098
    assert certainty(p.log(), "entropy").item() == pytest.approx(expected)
    assert certainty(torch.tensor([[0.0, -torch.inf]]), "entropy").item() == 1.0


def test_a_policy_goes_through_json_and_other_texts_are_refused_in_one_line():
    policy = ExitPolicy((0.5, None), (1, 2, 3), "entropy", "ms", 1.5, 0.9)
    assert ExitPolicy.from_json(policy.to_json()) == policy
    written = json.loads(policy.to_json())
    for change, said in [
        ({"schema": 2}, "no exit policy of schema 1, but 2"),
        ({"thresholds": [0.5]}, "1 thresholds need 2 costs, the last exit's too, got 3"),
        ({"thresholds": [0.5, 1.5]}, "must be 0 to 1, or None"),
        ({"thresholds": "ab"}, "thresholds of exits must be a list"),
        ({"costs": [3, 2, 1]}, "never fall"),
        ({"measure": "entropi"}, "Did you mean 'entropy'"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            ExitPolicy.from_json(json.dumps({**written, **change}))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="is no JSON"):
        ExitPolicy.from_json("{")
    with pytest.raises(DataError, match="lacks 'costs'"):
        ExitPolicy.from_json('{"schema": 1, "thresholds": []}')


def test_what_cannot_be_searched_is_refused_in_one_line():
    exits, targets = some()
    for call, said in [
        (lambda: choose_thresholds(exits, targets, COSTS, 0.5), "first exit alone takes 1"),
        (lambda: choose_thresholds(exits, targets, COSTS[:2], 5), "2 thresholds need 3 costs"),
        (lambda: choose_thresholds(exits, targets[:9], COSTS, 5), "40 class numbers are needed"),
        (lambda: choose_thresholds(exits, targets - 1, COSTS, 5), "some are unlabelled"),
        (lambda: choose_thresholds([exits[0][:3], *exits[1:]], targets, COSTS, 5), "same examples"),
    ]:
        with pytest.raises(DataError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_costs_are_what_the_early_path_runs():
    torch.manual_seed(0)
    spec = {"mlp": {"hidden": [7, 5]}}
    exits = {"layer1": None, "layer2": None}
    model = build_model({"with_exits": {"model": spec, "exits": exits}}, classes=3, shape=(4,))
    found = exit_costs(Observed(model), Batch(torch.zeros(1, 4)))
    first = 4 * 7 + 7 * 3
    second = first + 7 * 5 + 5 * 3
    assert found == [first, second, second + 5 * 3]


@pytest.fixture(scope="module")
def taught():
    """A small network with three exits that learnt a little Fashion-MNIST."""
    splits = load("fashion_mnist_small")
    torch.manual_seed(0)
    spec = {
        "with_exits": {
            "model": {"vgg": {"widths": [8, 16, 32], "per_stage": 1}},
            "exits": {"layer1": {"convolutions": 1}, "layer2": {"convolutions": 1}},
        }
    }
    model = build_model(spec, classes=10, shape=(1, 14, 14))
    student = Learner(
        Observed(model, intake=Intake([0.29], [0.35], size=14)),
        adamw(learning_rate=0.03),
        schedule=one_cycle(),
    )
    fit(MultiExit(student, CrossEntropy()), Loader(splits.train, 64), steps=80)
    return student.model, splits


def test_on_real_images_the_budget_holds_and_buys_accuracy(taught):
    model, splits = taught
    validation = splits.validation
    half = len(validation) // 2
    rows = torch.arange(len(validation))
    targets = validation.targets
    exits = exit_logits(model, validation)
    assert model.taps == []
    chosen, unseen = rows[:half], rows[half:]
    costs = exit_costs(model, validation.batch(rows[:1]))
    assert costs == sorted(costs)
    alone = [float((each.argmax(-1) == targets).double().mean()) for each in exits]
    assert min(alone) > 0.4  # each exit learnt something
    reached = []
    for share in (0.0, 0.1, 0.3, 0.6, 1.0):
        budget = costs[0] + share * (costs[-1] - costs[0])
        policy = choose_thresholds([e[chosen] for e in exits], targets[chosen], costs, budget)
        assert policy.expected <= budget
        full, numbers = policy.apply([e[unseen] for e in exits])
        reached.append(float((full.argmax(-1) == targets[unseen]).double().mean()))
        answer, left = early(model, validation.batch(unseen[:200]), policy)
        assert torch.equal(left, numbers[:200])
        assert torch.allclose(answer.logits, full[:200], atol=1e-4)
    for low, high in itertools.pairwise(reached):
        assert high > low - 0.03
    assert reached[-1] > reached[0] + 0.02


def test_a_budget_in_time_is_kept_by_the_times_measured(taught):
    model, splits = taught
    validation = splits.validation
    times = exit_times(model, validation.batch(torch.arange(2)), effort=Effort(2, 20, 5, 10))
    assert len(times) == 3
    assert times == sorted(times)
    assert all(time > 0 for time in times)
    exits, between = exit_logits(model, validation), (times[0] + times[-1]) / 2
    policy = choose_thresholds(exits, validation.targets, times, between, unit="ms")
    assert policy.unit == "ms"
    assert policy.expected <= between
    assert policy.costs == tuple(times)


def test_a_policy_for_other_exits_and_a_model_without_are_refused(taught):
    model, splits = taught
    batch = splits.validation.batch(torch.arange(3))
    with pytest.raises(DataError, match="is for 2 exits, and the model has 3"):
        early(model, batch, ExitPolicy((0.5,), (1, 2)))
    with pytest.raises(ModelError, match="has one exit"):
        early(Observed(nn.Linear(2, 2)), batch, ExitPolicy((0.5,), (1, 2)))
