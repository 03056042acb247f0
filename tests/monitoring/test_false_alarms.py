"""The rate of false alarms is the asked one, and planted drifts are found."""

import numpy as np
import pytest
from stream_samples import CLASSES, answer, images, judge, seen

from tutelage.core.errors import DataError, RecipeError
from tutelage.monitoring.family import Family
from tutelage.monitoring.judge import Judge, sustained
from tutelage.monitoring.rightness import Rightness


def most_by_luck(rate, trials, luck=1e-4):
    """The largest count that a binomial of this rate exceeds with at most this probability."""
    dice = np.random.default_rng(0)
    return int(np.quantile(dice.binomial(trials, rate, 200_000), 1 - luck))


def test_undrifted_windows_raise_alarms_at_most_as_often_as_asked():
    """Reference and windows are drawn anew: that is the rate the level is chosen for."""
    told = 0
    for seed in range(3):
        one = judge(100, 800, 0.05, seed)
        dice = np.random.default_rng(100 + seed)
        told += sum(one.look(seen(images(100, dice)[0])).alarm for _ in range(70))
    assert told <= most_by_luck(0.05, 210)


def test_wrong_answers_raise_alarms_at_most_as_often_as_asked():
    told = 0
    for seed in range(5):
        dice = np.random.default_rng(seed)
        sure = dice.uniform(0.6, 1, 3000)
        one = Judge(Rightness(dice.random(3000) < sure, sure, "accuracy", "wrong"), 150, 0.05)
        for _ in range(100):
            new = dice.uniform(0.6, 1, 150)
            told += one.look(dice.random(150) < new, new).alarm
    assert told <= most_by_luck(0.05, 500)
    assert told > 0


def brighter(inputs, dice):
    return np.clip(inputs + 0.1, 0, 1)


def noisy(inputs, dice):
    return np.clip(inputs + dice.normal(0, 0.3, inputs.shape), 0, 1)


def blurred(inputs, dice):
    return (inputs + np.roll(inputs, 1, 3) + np.roll(inputs, 1, 2)) / 3


def another(inputs, dice):
    return dice.random(inputs.shape)


@pytest.mark.parametrize("change", [brighter, noisy, blurred, another])
def test_changed_images_are_found(change):
    dice = np.random.default_rng(11)
    moved = change(images(200, dice)[0], dice).astype(np.float32)
    found = judge().look(seen(moved))
    assert found.alarm
    assert "inputs" in found.causes
    assert found.p == pytest.approx(1 / 2001)


@pytest.mark.parametrize("shares", [[0.0, 0.25, 0.25, 0.25, 0.25], [0.5, 0.2, 0.1, 0.1, 0.1]])
def test_a_missing_class_and_another_mix_are_found(shares):
    found = judge().look(seen(images(200, np.random.default_rng(2), shares)[0]))
    mix = next(one for one in found.findings if one.what == "mix of predicted classes")
    assert mix.alarm
    assert "another mix" in mix.advice


def test_wrong_and_overconfident_answers_are_found_and_better_ones_are_not():
    dice = np.random.default_rng(4)
    sure = dice.uniform(0.6, 1, 3000)
    one = Judge(Rightness(dice.random(3000) < sure, sure, "accuracy", "wrong"), 200, 0.01)
    new = dice.uniform(0.6, 1, 200)
    assert one.look(dice.random(200) < new - 0.2, new).alarm
    better = one.look(np.ones(200, bool), np.full(200, 0.99))
    assert not better.alarm


def test_another_meaning_of_the_same_inputs_is_not_found_without_labels():
    inputs, labels = images(200, np.random.default_rng(8))
    found = judge().look(seen(inputs))
    assert not found.alarm
    wrong = answer(inputs).argmax(1) != (labels + 1) % CLASSES
    good = np.ones(1000, bool)
    assert Judge(Rightness(good, None, "accuracy", "wrong"), 200, 0.01).look(~wrong, None).alarm


def test_a_rule_counts_the_newest_windows():
    quiet = judge().look(seen(images(200, np.random.default_rng(8))[0]))
    loud = judge().look(seen(brighter(images(200, np.random.default_rng(8))[0], None)))
    assert not quiet.alarm
    assert loud.alarm
    assert sustained([quiet, loud, loud], "inputs", 2, 2)
    assert sustained([loud, quiet, loud], None, 2, 3)
    assert not sustained([loud, loud, quiet], None, 2, 2)
    assert not sustained([loud, loud], "accuracy", 1, 2)


def test_a_window_too_large_or_a_rate_that_is_none_is_refused():
    inputs, _ = images(100, np.random.default_rng(0))
    with pytest.raises(DataError, match="give --window 50 or less"):
        Judge(Family(seen(inputs)), 60, 0.01)
    for rate in (0, 1, float("nan"), 1e-9):
        with pytest.raises(RecipeError, match="--false-alarms"):
            Judge(Family(seen(inputs)), 50, rate)
