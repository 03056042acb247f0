"""MiniLLM: its gradient is that of the divergence of whole texts."""

import numpy as np
import pytest
import torch
from settings_resume import stops_change_nothing
from settings_shared import close
from settings_writing import END, learner, observed, questions

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ShapeMismatch
from tutelage.engine import Machine, Record, fit
from tutelage.settings import MiniLLM
from tutelage.settings.minillm import Mixed
from tutelage.settings.minillm_terms import minillm_parts, rewards_to_come
from tutelage.settings.rollouts import apart, words

V, T = 3, 3
TEXTS = torch.cartesian_prod(*[torch.arange(V)] * T)  # all 27
# A row of logits for each thing that may have been read: nothing, one word, two words.
STATES = torch.stack(
    [torch.zeros(V**T).long(), 1 + TEXTS[:, 0], 1 + V + V * TEXTS[:, 0] + TEXTS[:, 1]], 1
)


def tables(seed=0):
    source = torch.Generator().manual_seed(seed)
    q, p = (2 * torch.randn(1 + V + V * V, V, generator=source).double() for _ in range(2))
    return q.requires_grad_(), p


def chances(table):
    """Log-probabilities of every token of every text, (27, 3)."""
    return table.log_softmax(-1)[STATES].gather(-1, TEXTS.unsqueeze(-1)).squeeze(-1)


def exact_gradient(q, p):
    log_q, log_p = chances(q).sum(1), chances(p).sum(1)
    return torch.autograd.grad((log_q.exp() * (log_q - log_p)).sum(), q)[0]


def mean_gradient(q, p, share, **options):
    """The expectation over all texts, each as likely as the mixture writes it."""
    mixed = (share * p.softmax(-1) + (1 - share) * q.detach().softmax(-1)).log()
    drawn = chances(mixed)
    single, long = minillm_parts(q[STATES], p[STATES], TEXTS, drawn, **options)
    each = (single + long).sum(1)
    return torch.autograd.grad((drawn.sum(1).exp() * each).sum(), q)[0]


@pytest.mark.parametrize(
    ("share", "weights"),
    [(0.0, "none"), (0.0, "step"), (0.0, "text"), (0.3, "text"), (0.9, "text")],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_mean_over_all_texts_is_the_exact_gradient_of_the_reverse_kl_of_texts(
    seed, share, weights
):
    q, p = tables(seed)
    found = mean_gradient(q, p, share, weights=weights, per_token=False)
    torch.testing.assert_close(found, exact_gradient(q, p), rtol=1e-9, atol=1e-12)


def test_without_the_long_part_or_the_weights_it_is_another_gradient():
    q, p = tables()
    exact = exact_gradient(q, p)
    single = minillm_parts(q[STATES], p[STATES], TEXTS, chances(q.detach()), weights="none")[0]
    short = torch.autograd.grad((chances(q.detach()).sum(1).exp() * single.sum(1)).sum(), q)[0]
    assert (short - exact).abs().max() > 0.01
    bare = mean_gradient(q, p, 0.5, weights="none", per_token=False)
    assert (bare - exact).abs().max() > 0.01


def test_the_papers_terms_by_plain_loops():
    q, p = tables(2)
    source = np.random.default_rng(0)
    rows = source.permutation(27)[:6]
    tokens = TEXTS[rows].clone()
    tokens[0, 2] = tokens[1, 1:] = -1  # shorter texts
    drawn = torch.from_numpy(np.log(source.uniform(0.2, 0.9, (6, 3))))
    zq, zp = q[STATES[rows]], p[STATES[rows]]
    single, long = minillm_parts(zq, zp, tokens, drawn, weights="step", clip=0.2)
    prob = [torch.softmax(z.detach(), -1).numpy() for z in (zq, zp)]
    [slope] = torch.autograd.grad(long[tokens >= 0].sum(), zq)
    for i in range(6):
        length = int((tokens[i] >= 0).sum())
        r = [
            np.log(prob[1][i, t, tokens[i, t]] / prob[0][i, t, tokens[i, t]]) for t in range(length)
        ]
        for t in range(length):
            a, b, word = prob[0][i, t], prob[1][i, t], int(tokens[i, t])
            w = a[word] / np.exp(float(drawn[i, t]))
            kl = sum(x * np.log(x / y) for x, y in zip(a, b, strict=True))
            assert float(single[i, t].detach()) == pytest.approx(w * kl)
            to_come = np.mean(r[t + 1 :]) if t + 1 < length else 0.0
            clipped = min(max(w, 0.8), 1.2)
            assert float(long[i, t].detach()) == pytest.approx(-min(w * to_come, clipped * to_come))
            moves = w * to_come <= clipped * to_come
            wanted = -w * to_come * ((np.arange(V) == word) - a) if moves else np.zeros(V)
            np.testing.assert_allclose(slope[i, t].numpy(), wanted, atol=1e-9)


def test_length_normalisation_divides_by_the_tokens_that_follow():
    rewards, mask = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.tensor([[1, 1, 1, 0]]).bool()
    assert rewards_to_come(rewards, mask).tolist() == [[3.0, 4.0, 0.0, 0.0]]
    assert rewards_to_come(rewards, mask, per_token=False).tolist() == [[6.0, 4.0, 0.0, 0.0]]


def test_large_gaps_stay_finite_and_in_single_precision():
    z = torch.zeros(1, 3, 4)
    z[..., 0] = 1e4
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        student = z.to(dtype).requires_grad_()
        single, long = minillm_parts(student, -z, torch.tensor([[0, 1, 0]]), torch.zeros(1, 3))
        assert single.dtype == torch.float32
        [slope] = torch.autograd.grad((single + long).sum(), student)
        assert slope.isfinite().all()


def made(student=None, **options):
    return MiniLLM(student or learner(), observed(7), **({"most": 5, "end": END} | options))


def test_both_are_mixed_token_by_token():
    student, teacher, batch = observed(0), observed(7), questions(1)[0]
    found = Mixed(student, teacher, 0.2)(batch.inputs)
    q, p = (model(batch).logits.softmax(-1) for model in (student, teacher))
    torch.testing.assert_close(found.exp(), 0.2 * p + 0.8 * q)


def test_what_was_drawn_from_the_mixture_has_its_log_probabilities():
    setting = made(mix=0.5)
    [lesson] = setting.lessons([questions(1)[0]], seed=4)
    read, notes = apart(lesson.batch)
    tokens, mask = words(read)
    log_p = Mixed(setting.student.model, setting.teacher, 0.5)(read.inputs).detach()
    wanted = log_p.gather(-1, tokens.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(notes["log_probs"][mask], wanted[mask], rtol=1e-4, atol=1e-5)


def test_the_student_comes_near_the_teacher():
    record = Record()
    fit(made(learner(rate=0.5)), questions(), steps=60, hooks=[record])
    losses = [terms["minillm_single"] for _, _, terms in record.updates]
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])


def test_uneven_chunks__accumulation_changes_nothing():
    whole, parts = made(), made()
    fit(whole, questions(rows=5), steps=3)
    fit(parts, questions(rows=5), steps=3, machine=Machine("cpu", accumulate=3))
    close(whole.student.model, parts.student.model)


def test_a_run_stopped_within_a_window_goes_on_to_the_bit(tmp_path):
    stops_change_nothing(
        lambda: made(learner(dropout=0.2), write_for=2),
        questions(),
        tmp_path,
        steps=5,
        stops=(1, 3),
    )


def test_stale_text_is_weighed_by_the_student_of_now():
    setting = made(learner(rate=5.0), write_for=2, clip=None)
    ratios = []
    compare = setting.compare

    def look(batch):
        read, notes = apart(batch)
        tokens, mask = words(read)
        log_q = setting.student(read).logits.detach().log_softmax(-1)
        now = log_q.gather(-1, tokens.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        ratios.append((now - notes["log_probs"])[mask].exp().max().item())
        return compare(batch)

    setting.compare = look
    fit(setting, questions(), steps=2)
    assert ratios[0] <= 1 / 0.8 + 1e-4  # q / (0.2 p + 0.8 q), just written
    assert setting.history.windows[0].oldest == 1


def test_wrong_options_are_refused_in_one_line():
    for option in ({"mix": 1.0}, {"weights": "all"}, {"clip": 0.0}, {"most": 0}):
        with pytest.raises(RecipeError, match=f"minillm: {next(iter(option))}"):
            made(**option)
    other = MiniLLM(learner(), observed(7, words=12))
    with pytest.raises(ShapeMismatch, match="minillm") as no:
        fit(other, [Batch(questions(1)[0].inputs)], steps=1)
    assert "\n" not in str(no.value)
