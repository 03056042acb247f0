"""DistiLLM: when the student's own text is read, when it is written anew, and what is kept."""

import numpy as np
import pytest
import torch
from settings_resume import stops_change_nothing
from settings_writing import END, learner, observed, questions

from tutelage.core.errors import RecipeError
from tutelage.engine import Record, fit
from tutelage.objectives import SkewKL
from tutelage.settings import DistiLLM
from tutelage.settings.on_policy_replay import Replay, Share
from tutelage.settings.rollouts import apart


def made(student=None, **options):
    options = {"updates": 40, "every": 4, "start": 0.5, "capacity": 12} | options
    held_out = questions(2, seed=11)
    return DistiLLM(
        student or learner(), observed(7), SkewKL(), held_out=held_out, most=4, end=END, **options
    )


def names(setting, steps):
    record = Record()
    fit(setting, questions(), steps=steps, hooks=[record])
    return [name for _, name, _ in record.updates]


def test_the_share_rises_when_the_held_out_loss_does_and_the_mark_moves_with_it():
    share, mark, phi = Share(0.2, 0.1), None, 0.2
    source = np.random.default_rng(0)
    for loss in source.uniform(1, 2, 30):
        share.told(float(loss))
        if mark is None:
            mark = loss
        elif loss >= mark + 0.1:
            phi, mark = min(phi + 0.1, 1.0), loss
        assert share.value == pytest.approx(phi)
        assert share.mark == mark


def test_new_text_gives_way_to_old_text_as_the_run_goes_on():
    setting = made(start=1.0, tolerance=1e9)
    found = names(setting, 40)
    assert found[:3] == ["own"] * 3  # four rows each: then the twelve places are taken
    assert "data" not in found
    early, late = found[3:20].count("replayed"), found[23:].count("replayed")
    assert late > early > 0
    assert len(setting.replay) == 12
    ages = [w.oldest for w in setting.history.windows]
    assert max(ages) > 5
    assert ages[:3] == [0, 0, 0]


@pytest.mark.parametrize("capacity", [4, 12])
@pytest.mark.parametrize("now", [0, 13, 30, 39])
def test_the_published_rule_says_whose_text_is_read(monkeypatch, capacity, now):
    phi, whole = 0.5, 40
    written = made(start=1.0).lessons([questions(1)[0]], 1)[0].batch
    for u in (0.0, 0.1, 0.2, 0.3, 0.49, 0.5, 0.9):
        for rows in (0, 4):
            setting = made(start=phi, updates=whole, capacity=capacity, tolerance=1e9)
            if rows:
                setting.replay.add(written, 0)
            setting.history.updates = now
            monkeypatch.setattr(
                "tutelage.settings.on_policy_replay.uniform",
                lambda seed, numbers, u=u: torch.full((len(numbers), 1), u),
            )
            [lesson] = setting.lessons([questions(1)[0]], 2)
            wanted = "data"
            if u < phi:
                wanted = "own" if rows < capacity or u < phi * (1 - now / whole) else "replayed"
            assert lesson.origin == wanted, (u, rows)


def test_without_a_share_all_is_the_datas_and_the_loss_is_measured():
    setting = made(start=0.0, tolerance=1e9)
    assert set(names(setting, 6)) == {"data"}
    assert len(setting.replay) == 0
    assert np.isfinite(setting.phi.mark)


def test_the_held_out_loss_is_a_mean_over_all_tokens():
    setting, total, count = made(), 0.0, 0
    for batch in questions(2, seed=11):
        log_q = setting.student(batch).logits.detach().log_softmax(-1)
        for i, t in batch.mask.nonzero().tolist():
            total -= float(log_q[i, t, batch.targets[i, t]])
            count += 1
    assert setting._loss(torch.device("cpu")) == pytest.approx(total / count, rel=1e-5)


def test_the_replay_keeps_the_latest_rows_as_they_were():
    setting = made()
    texts = [setting.lessons([batch], 1) for batch in questions(1)]
    replay = Replay(6)
    for now in (3, 8):
        [lesson] = made(start=1.0).lessons([questions(1)[0]], now)
        replay.add(lesson.batch, now)
    assert texts
    assert len(replay) == 6
    rows, oldest = replay.draw(6, seed=0)
    assert (len(rows), oldest) == (6, 3)
    tokens = apart(lesson.batch)[1]["tokens"]
    wanted = [row[row >= 0].tolist() for row in tokens]
    drawn = [row[m].tolist() for row, m in zip(apart(rows)[1]["tokens"], rows.mask, strict=True)]
    assert all(row in drawn for row in wanted)
    replay.forget(8)
    assert replay.draw(99, seed=0)[1] == 8
    assert len(replay) == 4


def test_staleness_can_be_bounded():
    setting = made(start=1.0, tolerance=1e9, oldest=3, capacity=8)
    assert "replayed" in names(setting, 40)
    assert max(w.oldest for w in setting.history.windows) <= 3


def test_a_stopped_run_goes_on_to_the_bit(tmp_path):
    kept = stops_change_nothing(
        lambda: made(learner(dropout=0.2), tolerance=0.0, start=0.8),
        questions(),
        tmp_path,
        steps=12,
        stops=(2, 7, 11),
    )
    assert kept["/parts/history/updates"] == 12
    assert "/parts/replay/rows/11/0" in kept


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"updates": 0}, "updates must be"),
        ({"start": 2}, "start must be"),
        ({"capacity": 0}, "capacity must be"),
        ({"tolerance": -1}, "tolerance must be"),
        ({"oldest": 0}, "oldest must be"),
    ],
)
def test_options_out_of_range_are_refused(option, said):
    with pytest.raises(RecipeError, match=f"distillm: {said}"):
        made(**option)
    with pytest.raises(RecipeError, match="held_out must be a list of batches"):
        DistiLLM(learner(), observed(7), SkewKL(), held_out=[], updates=3)
