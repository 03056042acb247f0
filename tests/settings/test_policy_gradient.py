"""Groups of answers, advantages, estimates of KL, and a reward that rises."""

import numpy as np
import pytest
import torch
from settings_resume import stops_change_nothing
from settings_shared import close
from settings_writing import END, learner, observed, questions

from tutelage.core.errors import DataError, RecipeError
from tutelage.engine import Machine, Record, fit
from tutelage.settings import (
    ByTeacher,
    PolicyGradient,
    reverse_kl_k1,
    reverse_kl_k2,
    reverse_kl_k3,
)
from tutelage.settings.policy_gradient_terms import by_deviation, by_mean, by_others
from tutelage.settings.rollouts import answers_in, apart


def sevens(prompt, answer):
    """A check that anyone can make: how much of the answer is the word 7?"""
    return sum(word == 7 for word in answer) / len(answer)


def made(student=None, reward=sevens, **options):
    return PolicyGradient(student or learner(), reward, **({"most": 4, "group": 4} | options))


def distributions(seed=0):
    source = torch.Generator().manual_seed(seed)
    q, p = torch.randn(2, 5, generator=source, dtype=torch.float64)
    return q.requires_grad_(), p.log_softmax(-1)


@pytest.mark.parametrize("seed", [0, 1])
def test_k1_and_k3_have_the_divergence_as_their_mean_and_k2_has_not(seed):
    z, log_p = distributions(seed)
    log_q = z.detach().log_softmax(-1)
    q, kl = log_q.exp(), (log_q.exp() * (log_q - log_p)).sum()
    for estimate in (reverse_kl_k1, reverse_kl_k3):
        torch.testing.assert_close((q * estimate(log_q, log_p)).sum(), kl)
    assert abs(float((q * reverse_kl_k2(log_q, log_p)).sum() - kl)) > 1e-3
    assert (reverse_kl_k3(log_q, log_p) >= 0).all()


def test_as_losses_k2_teaches_reverse_kl_k3_forward_kl_and_k1_nothing():
    z, log_p = distributions()
    q = z.detach().softmax(-1)

    def slope(value):
        return torch.autograd.grad(value, z)[0]

    reverse = slope((z.softmax(-1) * (z.log_softmax(-1) - log_p)).sum())
    forward = slope(-(log_p.exp() * z.log_softmax(-1)).sum())
    for estimate, wanted in (
        (reverse_kl_k1, torch.zeros_like(z)),
        (reverse_kl_k2, reverse),
        (reverse_kl_k3, forward),
    ):
        torch.testing.assert_close(slope((q * estimate(z.log_softmax(-1), log_p)).sum()), wanted)


def test_estimates_are_exact_near_agreement_and_finite_far_from_it():
    near = torch.tensor([-1.0])
    assert reverse_kl_k3(near + 1e-4, near).item() == pytest.approx(0.5e-8, rel=0.2)
    far = torch.tensor([-1e4])
    assert reverse_kl_k3(near, far).isfinite().all()


def test_advantages_by_plain_loops():
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.0], [3.0, 3.0, 3.0, 3.0], [0.1, 0.1, 0.1, 0.7]])
    for found, how in ((by_deviation, "z"), (by_mean, "mean"), (by_others, "others")):
        values = found(rewards)
        for i, row in enumerate(rewards.double().numpy()):
            for j, r in enumerate(row):
                rest = np.delete(row, j).mean()
                deviation = row.std()
                wanted = {
                    "z": (r - row.mean()) / deviation if deviation else 0.0,
                    "mean": r - row.mean(),
                    "others": r - rest,
                }[how]
                assert float(values[i, j]) == pytest.approx(wanted, abs=1e-5)
    tenths = torch.full((1, 7), 0.1)  # whose mean is not 0.1 to the last bit
    assert by_deviation(tenths).tolist() == [[0.0] * 7]


def test_leaving_oneself_out_keeps_the_gradient_of_the_mean_reward():
    z, _ = distributions(3)
    reward = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]).double()
    log_q = z.log_softmax(-1)
    [exact] = torch.autograd.grad((log_q.exp() * reward).sum(), z, retain_graph=True)
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))  # all groups of two
    chance = log_q.detach()[pairs].sum(1).exp()
    gains = by_others(reward[pairs])
    value = (chance * (gains * log_q[pairs]).mean(1)).sum()
    torch.testing.assert_close(torch.autograd.grad(value, z)[0], exact)


@pytest.mark.parametrize("per", ["text", "token"])
def test_an_update_is_the_papers(per):
    setting = made(per=per, kl=0.1, end=END, reference=observed(4))
    [lesson] = setting.lessons([questions(1)[0]], seed=2)
    read, notes = apart(lesson.batch)
    counted = notes["counted"].bool()
    text = type(read)(read.inputs, read.targets, counted)
    rewards = [sevens(*pair) for pair in answers_in(text)]
    assert len(rewards) == 16
    prompts = [pair[0] for pair in answers_in(text)]
    assert all(prompts[k] == prompts[k // 4 * 4] for k in range(16))
    gains = by_deviation(torch.tensor(rewards).view(4, 4)).flatten()
    terms = setting.compare(lesson.batch)
    q, r = (
        model(read).logits.detach().double().log_softmax(-1)
        for model in (setting.student, setting.reference)
    )
    policy, kl = [], []
    for i in range(16):
        places = counted[i].nonzero()[:, 0].tolist()
        gaps = [float(r[i, t, read.targets[i, t]] - q[i, t, read.targets[i, t]]) for t in places]
        policy.append([-float(gains[i])] * len(places))
        kl.append([0.1 * (np.exp(g) - 1 - g) for g in gaps])
    for name, found in (("policy", policy), ("kl", kl)):
        mean = np.mean([np.mean(row) for row in found] if per == "text" else np.concatenate(found))
        assert float(terms[name].detach()) == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize("per", ["text", "token"])
def test_stale_text_by_plain_loops__ratios_clipped_values_and_slopes(per):
    setting = made(per=per, kl=0.0, end=END, write_for=2, clip=0.2)
    [lesson, _] = setting.lessons(questions(2), seed=2)
    source = torch.Generator().manual_seed(5)
    for p in setting.student.model.parameters():  # the student moves on
        p.data.add_(0.2 * torch.randn(p.shape, generator=source))
    read, notes = apart(lesson.batch)
    counted = notes["counted"].bool().numpy()
    then, targets = notes["then"].double().numpy(), read.targets.numpy()
    text = type(read)(read.inputs, read.targets, notes["counted"].bool())
    groups = np.array([sevens(*pair) for pair in answers_in(text)]).reshape(4, 4)
    q = setting.student(read).logits.detach().double().softmax(-1).numpy()
    values, slopes, clipped = [], [], 0
    for i in range(16):
        group = groups[i // 4]
        gain = (groups[i // 4, i % 4] - group.mean()) / group.std() if group.std() else 0.0
        values.append([])
        slopes.append([])
        for t in np.flatnonzero(counted[i]):
            word = targets[i, t]
            rho = q[i, t, word] / np.exp(then[i, t])
            held = min(max(rho, 0.8), 1.2)
            moves = float(rho * gain <= held * gain)
            clipped += moves == 0
            values[-1].append(-min(rho * gain, held * gain))
            slopes[-1].append(-moves * rho * gain * ((np.arange(q.shape[-1]) == word) - q[i, t]))
    assert 0 < clipped < sum(map(len, values))
    terms = setting.compare(lesson.batch)
    bias = dict(setting.student.model.named_parameters())
    [bias] = [p for name, p in bias.items() if name.endswith("out.bias")]
    found = torch.autograd.grad(terms["policy"], bias)[0].numpy()
    if per == "text":
        value = np.mean([np.mean(row) for row in values])
        slope = np.mean([np.mean(row, axis=0) for row in slopes], axis=0)
    else:
        value, slope = (np.mean(np.concatenate(rows), axis=0) for rows in (values, slopes))
    assert float(terms["policy"].detach()) == pytest.approx(value, abs=1e-5)
    np.testing.assert_allclose(found, slope, atol=1e-5)


@pytest.mark.parametrize("per", ["text", "token"])
def test_where_nothing_was_written_an_infinite_estimate_spoils_no_gradient(per):
    student, reference = learner(), observed(4)
    for model, bias in ((student.model, -200.0), (reference, 200.0)):
        for name, p in model.named_parameters():
            if name.endswith("out.bias"):
                p.data[0] = bias
    setting = made(student, per=per, kl=0.1, end=END, reference=reference)
    [lesson] = setting.lessons([questions(1)[0]], seed=2)
    setting.compare(lesson.batch)["kl"].backward()
    slopes = [p.grad for p in student.model.parameters()]
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert any(bool(slope.any()) for slope in slopes)


def test_a_verifiable_reward_rises():
    setting = made(learner(rate=0.03, adam=True), kl=0.01)
    fit(setting, questions(), steps=40)
    means = setting.rewards.means
    assert len(means) == 40
    assert np.mean(means[:3]) < 0.35
    assert np.mean(means[-3:]) > 0.8


def test_the_teachers_judgement_rises():
    setting = made(
        learner(rate=0.03, adam=True), ByTeacher(observed(7)), kl=0.0, advantage="others"
    )
    fit(setting, questions(), steps=40)
    assert list(setting.teachers()) == ["reward.teacher"]
    assert np.mean(setting.rewards.means[-3:]) > np.mean(setting.rewards.means[:3]) + 0.2


def test_a_judgement_is_the_mean_log_probability_of_the_answer():
    teacher = observed(7)
    setting = made(reward=ByTeacher(teacher), end=END)
    [lesson] = setting.lessons([questions(1)[0]], seed=2)
    read, notes = apart(lesson.batch)
    log_p = teacher(read).logits.detach().log_softmax(-1)
    found = setting.reward.of(type(read)(read.inputs, read.targets, notes["counted"].bool()))
    for i in range(len(read)):
        said = [float(log_p[i, t, w]) for t, w in enumerate(read.targets[i].tolist()) if w >= 0]
        assert float(found[i]) == pytest.approx(np.mean(said), rel=1e-5)


def test_the_reference_is_the_student_as_it_was_and_holds_it_back():
    free, held = (made(learner(rate=0.03, adam=True), kl=kl, penalty="k2") for kl in (0.0, 5.0))
    for setting in (free, held):
        fit(setting, questions(), steps=15)
    assert free.reference is None
    assert free.rewards.means[-1] > held.rewards.means[-1] + 0.2
    close(held.reference.observed, learner().model)


@pytest.mark.parametrize("per", ["text", "token"])
def test_uneven_chunks__accumulation_changes_nothing(per):
    whole, parts = (made(per=per, end=END, reference=observed(4)) for _ in range(2))
    fit(whole, questions(rows=3), steps=3)
    fit(parts, questions(rows=3), steps=3, machine=Machine("cpu", accumulate=5))
    close(whole.student.model, parts.student.model)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_stale_text_begins_with_a_ratio_of_one(temperature):
    record = Record()
    setting = made(learner(rate=3.0), write_for=2, temperature=temperature, kl=0.0, per="token")
    fit(setting, questions(), steps=2, hooks=[record])
    first, second = (terms["policy"] for _, _, terms in record.updates)
    assert first == pytest.approx(0, abs=1e-5)  # advantages of a group add up to 0
    assert abs(second) > 1e-4  # the student has moved on


def test_a_run_stopped_within_a_window_goes_on_to_the_bit(tmp_path):
    kept = stops_change_nothing(
        lambda: made(learner(dropout=0.2), write_for=2),
        questions(),
        tmp_path,
        steps=5,
        stops=(1, 3),
    )
    assert "/parts/rewards/means/3" in kept


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"group": 1}, "at least 2"),
        ({"advantage": "z"}, "no advantage 'z'"),
        ({"penalty": "k1"}, "no penalty 'k1'"),
        ({"per": "word"}, "no per 'word'"),
        ({"kl": -1}, "kl must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"reward": 3}, "reward must be a function"),
        ({"reward": observed()}, "reward must be a function"),
    ],
)
def test_wrong_options_are_refused(option, said):
    with pytest.raises(RecipeError, match=said):
        made(**option)


def test_a_check_that_gives_no_number_is_told_so():
    for value in (None, "good", float("nan")):
        with pytest.raises(DataError, match="expected a finite number") as no:
            fit(made(reward=lambda prompt, answer, value=value: value), questions(), steps=1)
        assert "\n" not in str(no.value)
