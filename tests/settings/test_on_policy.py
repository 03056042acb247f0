"""GKD: what is learnt from whose text, and how old that text is."""

import numpy as np
import pytest
import torch
from settings_resume import stops_change_nothing
from settings_shared import close
from settings_writing import END, learner, observed, questions

from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Outputs
from tutelage.engine import Machine, Record, fit
from tutelage.objectives import (
    ContrastiveSkew,
    CrossEntropy,
    JensenShannon,
    Only,
    ReverseKL,
    Reweighted,
    SoftTarget,
)
from tutelage.settings import Classic, OnPolicy
from tutelage.settings.on_policy_importance import prefix_importance
from tutelage.settings.rollouts import Pen, answers_in, apart, words
from tutelage.teachers import Cached, Ensemble


def made(objective=None, student=None, **options):
    options = {"most": 5, "end": END} | options
    objective = SoftTarget(1.0) if objective is None else objective
    return OnPolicy(student or learner(), observed(7), objective, **options)


def learnt(setting, steps=6, source=None, **options):
    record = Record()
    fit(setting, source or questions(), steps=steps, hooks=[record], **options)
    return record.updates


def own_text(setting, batch):
    """What the student would write for this batch at the first step."""
    [lesson] = setting.lessons([batch], seed=3)
    return lesson.batch


def forward(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def js(p, q, beta=0.3):
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * forward(p, m) + (1 - beta) * forward(q, m)


@pytest.mark.parametrize(
    ("objective", "formula"),
    [
        (SoftTarget(1.0), forward),
        (ReverseKL(), lambda p, q: forward(q, p)),
        (JensenShannon(beta=0.3), js),
    ],
)
def test_the_loss_is_the_papers_mean_over_written_tokens(objective, formula):
    setting = made(objective, share=1.0)
    text = own_text(setting, questions(1)[0])
    read, _ = apart(text)
    [value] = setting.compare(text).values()
    p = setting.teacher(read).logits.double().softmax(-1).numpy()
    q = setting.student(read).logits.detach().double().softmax(-1).numpy()
    found = [formula(p[i, t], q[i, t]) for i, t in read.mask.nonzero().tolist()]
    assert len(found) == read.count >= 4
    assert float(value.detach()) == pytest.approx(np.mean(found), rel=1e-5)


def test_an_update_moves_the_student_by_the_gradient_on_its_own_text():
    setting = made(share=1.0)
    twin = learner().model
    batch = questions(1)[0]
    texts = []
    setting.written = lambda *given, **named: (
        texts.append(type(setting).written(setting, *given, **named)) or texts[-1]
    )
    fit(setting, [batch], steps=1)
    [[text]] = texts
    read, _ = apart(text)
    loss = SoftTarget(1.0)(twin(read), observed(7)(read).detach(), read)["kd"]
    slopes = torch.autograd.grad(loss, list(twin.parameters()))
    for p, slope in zip(twin.parameters(), slopes, strict=True):
        p.data.sub_(0.1 * slope)
    close(setting.student.model, twin)


def test_share_0_is_classic_to_the_bit():
    ours, theirs = made(share=0.0), Classic(learner(), observed(7), SoftTarget(1.0))
    fit(ours, questions(), steps=5)
    fit(theirs, questions(), steps=5)
    for one, two in zip(
        ours.student.model.parameters(), theirs.student.model.parameters(), strict=True
    ):
        assert torch.equal(one, two)
    assert ours.history.windows[-1].rows == 0


def test_whose_text_is_read_follows_from_seed_and_step():
    names = [name for _, name, _ in learnt(made(), steps=12)]
    assert set(names) == {"own", "data"}
    assert names == [name for _, name, _ in learnt(made(), steps=12)]
    assert names != [name for _, name, _ in learnt(made(), steps=12, seed=1)]
    assert {name for _, name, _ in learnt(made(share=1.0))} == {"own"}


def test_rows_can_be_drawn_one_by_one():
    setting = made(by="row", share=0.5)
    source = questions(6)
    assert "mixed" in {name for _, name, _ in learnt(setting, source=source)}
    batch = source[0]
    for seed in range(20):
        [lesson] = setting.lessons([batch], seed)
        if lesson.origin == "mixed":
            break
    mixed, own = lesson.batch, lesson.batch.variant == 1
    assert mixed.ids.tolist() == batch.ids.tolist()  # in the data's order
    data = list(answers_in(batch))
    tokens = torch.where(own[:, None], apart(mixed)[1]["tokens"], mixed.targets)
    for k in range(4):
        answer = tokens[k][mixed.mask[k]].tolist()
        assert (answer == data[k][1]) == (not own[k])
        begun = mixed.inputs["input_ids"][k, : len(data[k][0])].tolist()
        assert begun == data[k][0]


def test_labels_are_learnt_from_the_datas_answers_alone():
    setting = made(CrossEntropy() + SoftTarget(1.0), share=1.0)
    text = own_text(setting, questions(1)[0])
    assert (text.targets == -1).all()
    assert setting.compare(text)["ce"].item() == 0
    rows = made(CrossEntropy(), by="row", share=0.5)
    terms = [t["ce"] for _, name, t in learnt(rows, source=questions(4)) if name == "mixed"]
    assert terms
    assert all(value > 0 for value in terms)


def test_objectives_can_tell_whose_answer_a_row_is():
    setting = made(by="row", share=0.5)
    lessons = [setting.lessons([questions(1)[0]], seed)[0] for seed in range(12)]
    mixed = next(each.batch for each in lessons if each.origin == "mixed")
    read, _ = apart(mixed)
    ours, theirs = setting.student(read), setting.teacher(read)
    halves = [
        (int(mixed.mask[mixed.variant == v].sum()), Only(SoftTarget(1.0), [v])(ours, theirs, mixed))
        for v in (0, 1)
    ]
    whole = float(SoftTarget(1.0)(ours, theirs, mixed)["kd"].detach())
    parts = [count * float(terms["kd"].detach()) for count, terms in halves]
    assert sum(parts) / mixed.count == pytest.approx(whole, rel=1e-5)
    assert min(parts) > 0
    assert learnt(made(ContrastiveSkew(), by="row"), steps=2)


@pytest.mark.parametrize("by", ["batch", "row"])
def test_uneven_chunks__accumulation_changes_nothing(by):
    whole, parts = made(by=by, share=0.7), made(by=by, share=0.7)
    fit(whole, questions(rows=5), steps=4)
    fit(parts, questions(rows=5), steps=4, machine=Machine("cpu", accumulate=3))
    close(whole.student.model, parts.student.model)


def test_one_time_of_writing_serves_several_updates_and_staleness_is_known(monkeypatch):
    calls = []
    write = Pen.write
    monkeypatch.setattr(
        Pen, "write", lambda self, *given: calls.append(len(given[1])) or write(self, *given)
    )
    setting = made(share=1.0, write_for=3)
    updates = learnt(setting, steps=8)
    assert [name for _, name, _ in updates] == ["own", "own+1", "own+2"] * 2
    assert [step for step, _, _ in updates] == [2, 2, 2, 5, 5, 5]
    assert calls == [3, 3]
    first, second = setting.history.windows
    assert (first.updates, first.learnt, first.oldest) == (0, 3, 2)
    assert (second.updates, second.learnt, second.oldest) == (3, 3, 2)
    assert first.rows == 12
    assert first.tokens > first.rows
    assert setting.history.updates == 6


def test_accumulation__text_is_written_once_for_all_parts_of_all_updates(monkeypatch):
    calls, parts = [], []
    write, compare = Pen.write, OnPolicy.compare
    monkeypatch.setattr(Pen, "write", lambda *given: calls.append(len(given[2])) or write(*given))
    monkeypatch.setattr(
        OnPolicy, "compare", lambda self, part: parts.append(len(part)) or compare(self, part)
    )
    setting = made(share=1.0, write_for=2)
    updates = learnt(setting, 4, questions(rows=5), machine=Machine("cpu", accumulate=3))
    assert calls == [2, 2]  # batches at a time, whatever parts an update is made of
    assert len(parts) == 4 * 3
    assert sum(parts) == 4 * 5
    assert [name for _, name, _ in updates] == ["own", "own+1"] * 2  # what the log says
    assert [w.oldest for w in setting.history.windows] == [1, 1]


def test_a_run_stopped_within_a_window_goes_on_to_the_bit(tmp_path):
    def make():
        return made(student=learner(dropout=0.2), by="row", share=0.6, write_for=3)

    kept = stops_change_nothing(make, questions(4), tmp_path, steps=8, stops=(1, 3, 5, 7))
    assert "/parts/window/batches/1/inputs/input_ids" in kept  # two batches wait at the end
    assert kept["/parts/history/updates"] == 6


def test_no_gradient_goes_through_the_draw_and_modes_are_as_before():
    setting = made(student=learner(dropout=0.5), share=1.0)
    setting.student.model.train()
    text = own_text(setting, questions(1)[0])
    assert not any(t.requires_grad for t in text.inputs.values())
    assert all(module.training for module in setting.student.model.modules())


def test_trl_temperature_shared_by_sampling_and_loss__here_they_are_two():
    cold, hot = (made(SoftTarget(2.0), share=1.0, temperature=t) for t in (0.0, 5.0))
    one, two = (own_text(s, questions(1)[0]) for s in (cold, hot))
    assert cold.objective.temperature == hot.objective.temperature == 2.0
    assert list(_answers(one)) != list(_answers(two))
    assert float(cold.compare(two)["kd"].detach()) == float(hot.compare(two)["kd"].detach())


def _answers(text):
    tokens = apart(text)[1]["tokens"]
    return [row[row >= 0].tolist() for row in tokens]


def test_the_student_comes_near_the_teacher_on_what_it_writes():
    updates = learnt(made(student=learner(rate=0.5), share=1.0), steps=60)
    losses = [terms["kd"] for _, _, terms in updates]
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])


def test_weights_make_the_mean_over_stale_text_that_over_fresh_text():
    # All texts of two words out of three; the divergence at word t depends on what is before it.
    source = torch.Generator().manual_seed(0)
    now, then = (torch.randn(4, 3, generator=source).log_softmax(-1) for _ in range(2))
    values = torch.rand(4, generator=source)
    texts = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    places = torch.stack([torch.zeros(9).long(), 1 + texts[:, 0]], 1)  # what is known at each word
    said_now, said_then = (q[places, texts] for q in (now, then))
    weights = prefix_importance(said_now, said_then, torch.ones(9, 2).bool(), 1e9)
    fresh = (said_now.sum(1).exp()[:, None] * values[places]).sum()
    stale = said_then.sum(1).exp()[:, None] * values[places]
    assert float((stale * weights).sum()) == pytest.approx(float(fresh), rel=1e-5)
    assert abs(float(stale.sum() - fresh)) > 1e-3


def test_weights_are_applied_where_they_are_asked_for():
    def make(objective):
        return made(objective, learner(rate=2.0), share=1.0, write_for=2, most=6)

    plain = learnt(make(ReverseKL()), steps=2)
    weighed = learnt(make(Reweighted("reverse_kl", by="importance")), steps=2)
    assert plain[0][2] == weighed[0][2]  # fresh text: all weights are 1
    assert plain[1][2] != weighed[1][2]
    mixed = learnt(make(Reweighted("kd", by="importance")), steps=4)
    assert all(np.isfinite(terms["kd"]) for _, _, terms in mixed)


def test_a_teacher_from_a_cache_is_refused_in_one_line(tmp_path):
    from tutelage.data import Loader, TensorSet

    loader = Loader(TensorSet(torch.rand(5, 3)), 2)
    with Cached(lambda b: Outputs(b.inputs), tmp_path, loader, name="it") as cache:
        for teacher in (cache, Ensemble([cache, observed(2)])):
            with pytest.raises(RecipeError, match="a cache knows the data's alone") as no:
                OnPolicy(learner(), teacher, SoftTarget())
            assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"share": 1.2}, "share must be"),
        ({"by": "token"}, "by must be batch or row"),
        ({"most": 0}, "most must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_k": 0}, "top_k must be"),
        ({"end": -1}, "end must be the number of a token"),
        ({"write_for": 0}, "write_for must be"),
    ],
)
def test_options_out_of_range_are_refused(option, said):
    with pytest.raises(RecipeError, match=said):
        made(**option)


def test_words_without_a_mask_are_those_with_a_target():
    batch = questions(1)[0]
    assert torch.equal(words(batch)[1], words(type(batch)(batch.inputs, batch.targets))[1])
