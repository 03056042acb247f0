"""A student made, or trained, to serve one group worse is found; its clean twin is not."""

import json

import pytest
import torch
import torch.nn.functional as F
from evaluation_samples import answers, learned, stripes
from torch import nn

from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.core.seeds import generator
from tutelage.data import Groups, Loader, TensorSet, load
from tutelage.engine import Learner, adamw, fit, one_cycle
from tutelage.evaluation import Predictions, predict
from tutelage.evaluation.examining import examine
from tutelage.evaluation.faces.blocks import as_html, as_markdown
from tutelage.evaluation.fairness.plots import temperature_curves
from tutelage.evaluation.fairness.rates import equalised_odds_difference, tally
from tutelage.evaluation.parts import Fairness
from tutelage.evaluation.subjects import Subjects
from tutelage.models import Observed, build_model
from tutelage.objectives import AbstractWeighting, CrossEntropy, Reweighted, SoftTarget
from tutelage.settings import Alone, Classic


class Known:
    """A test set whose models have answered already."""

    def __init__(self, found):
        self.classes, self.ids, self.targets = found.classes, found.ids, found.targets


def trial(found, groups, **more):
    """Subjects whose answers are given, by role."""
    first = next(iter(found.values()))
    made = Subjects(models=dict.fromkeys(found), test=Known(first), groups=groups, **more)
    for role, one in found.items():
        made.know(role, "test", one)
    return made


def asked(made, **options):
    return examine(made, {"fairness": Fairness(**options)})["fairness"]


def halves(total, seed):
    numbers = torch.randint(2, (total,), generator=generator(seed, "halves"))
    return Groups("camera", ("old", "new"), torch.arange(total), numbers)


def damaged(one, groups, name, share, seed=0):
    """The same answers, a share of one group's turned into others."""
    mine = groups.of(one.ids) == groups.names.index(name)
    hit = mine & (torch.rand(len(one), generator=generator(seed, "damage")) < share)
    logits = torch.where(hit[:, None], one.logits.roll(1, 1), one.logits)
    return Predictions(logits, one.targets, one.ids, one.classes)


def clean(seed):
    """Teacher, student and baseline that know of no groups."""
    shares = {"teacher": 0.93, "student": 0.85, "baseline": 0.83}
    return {
        role: answers(share, seed=100 * seed + place)
        for place, (role, share) in enumerate(shares.items())
    }


def test_a_student_made_worse_in_one_group_is_found_and_named():
    groups, found = halves(800, 0), clean(0)
    hurt = {**found, "student": damaged(found["student"], groups, "new", 0.4)}
    part = asked(trial(hurt, {"camera": groups}))
    first = part["findings"][0]
    assert first["status"] == "warning"
    assert "By camera, the student treats groups more unequally than its teacher" in first["text"]
    assert "“old” (more) and “new”" in first["text"]
    assert "the teaching adds to it" in first["text"]
    drop = part["figures"]["worst_group_drop"]
    assert (drop["group"], drop["way"]) == ("new", "camera")
    assert drop["low"] > 0.1
    assert any("surely lost in the group “new”" in one["text"] for one in part["findings"])
    assert part["figures"]["amplification"]["low"] > 0


def test_a_biased_teacher_is_not_the_students_amplification():
    groups, found = halves(800, 0), clean(0)
    hurt = {role: damaged(one, groups, "new", 0.3, seed=7) for role, one in found.items()}
    part = asked(trial(hurt, {"camera": groups}))
    first = part["findings"][0]
    assert first["status"] == "notice"
    assert "treats groups unequally" in first["text"]
    assert "not shown to be more than before" in first["text"]


def test_clean_students_are_not_flagged():
    alarms = [
        one["text"]
        for seed in range(12)
        for one in asked(
            trial(clean(seed), {"camera": halves(800, seed), "side": halves(800, 50 + seed)}),
            resamples=300,
        )["findings"]
        if one["status"] == "warning"
    ]
    assert alarms == []


def test_what_comes_without_a_teacher_too_is_said():
    groups, found = halves(800, 0), clean(0)
    hurt = {
        role: one if role == "teacher" else damaged(one, groups, "new", 0.3, seed=3)
        for role, one in found.items()
    }
    text = asked(trial(hurt, {"camera": groups}))["findings"][0]["text"]
    assert "teaching was not shown to be the cause" in text
    more = {"student": [hurt["student"], found["student"]]}
    text = asked(trial(hurt, {"camera": groups}, seeds=more))["findings"][0]["text"]
    assert "Of 2 students of other seeds, " in text


def test_a_student_without_groups_or_a_teacher_is_told_so():
    assert Fairness().absent(trial(clean(0), {})) == "the data names no groups (csv: groups: [...])"
    groups, found = halves(800, 0), clean(0)
    alone = {"student": damaged(found["student"], groups, "new", 0.4)}
    told = asked(trial(alone, {"camera": groups}))
    assert "there is no teacher to compare with" in told["findings"][0]["text"]
    assert told["figures"]["amplification"] is None
    assert told["figures"]["worst_group_drop"] is None
    assert told["figures"]["eod"]["mean"] > 0.3


def test_unknown_groups_lonely_groups_and_few_examples_are_said():
    found = clean(0)
    ids = torch.arange(800)
    one = Groups("one", ("all",), ids, torch.zeros(800, dtype=torch.long))
    left = asked(trial(found, {"one": one}))
    assert left["left_out"] == "no way of grouping has test examples in two groups or more."
    numbers = torch.where(ids < 100, -1, torch.where(ids < 104, 2, ids % 2))
    part = asked(
        trial(found, {"side": Groups("side", ("a", "b", "c", "d"), ids, numbers), "one": one})
    )
    way = part["figures"]["ways"]["side"]
    assert way["unknown"] == 100
    assert [row["name"] for row in way["groups"]] == ["a", "b", "c"]  # d has nobody
    assert {row["group"] for row in way["few"]} == {"a", "b", "c"} - (
        {"a", "b"} if all(row["group"] == "c" for row in way["few"]) else set()
    )
    texts = " ".join(one["text"] for one in part["findings"])
    assert "rest on fewer than 10 examples" in texts
    assert "By one, all test examples are in one group" in texts


def test_ranges_allow_for_every_way_of_grouping():
    found, groups = clean(1), halves(800, 1)
    one = asked(trial(found, {"a": groups}))["figures"]["ways"]["a"]["gaps"]["odds"]["student"]
    many = dict.fromkeys("abcd", groups)
    four = asked(trial(found, many))["figures"]["ways"]["a"]["gaps"]["odds"]["student"]
    assert four["level"] > one["level"] > 0.95
    assert four["high"] > one["high"]


def test_many_groups_and_hostile_names_are_shown():
    ids = torch.arange(800)
    names = tuple(f'<script>"{n}" & long name of a group' for n in range(20))
    groups = Groups('a <b> "way"', names, ids, ids % 20)
    part = asked(trial(clean(0), {groups.name: groups}), resamples=200)
    figures = json.loads(json.dumps(part["figures"], allow_nan=False))
    blocks = Fairness().blocks(figures)
    page = as_html(blocks)
    assert "<script" not in page
    assert "The 16 largest of 20." in as_markdown(blocks)
    assert all(len(block.svg) < 60_000 for block in blocks if hasattr(block, "svg"))


@pytest.mark.parametrize("options", [{"least": 0}, {"least": 1.5}, {"resamples": 10}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(DataError, match="expected a whole number from"):
        Fairness(**options)


def test_temperatures_are_drawn_for_the_page_and_alone():
    points = [{"temperature": t, "mean": 0.1 * t, "low": 0, "high": 0.9} for t in (1, 2, 4)]
    for page in (True, False):
        svg = temperature_curves({"odds": points, "accuracy": points}, "sex", page=page)
        assert "equalised odds difference" in svg
        assert ("var(--" in svg) == page
        assert len(svg) < 60_000


# Bias that is learned: a mark in the corner goes with the label in training, not in the test.


def marked(plain, share, seed):
    """A mark on examples of the second class, and on others by chance, 1 - share of the time."""
    chance = torch.rand(len(plain), generator=generator(seed, "mark"))
    numbers = torch.where(chance < share, plain.targets, 1 - plain.targets)
    images = plain.inputs.clone()
    corner = images[:, 0, -3:, :3]
    corner[numbers == 1], corner[numbers == 0] = 1.0, 0.0
    made = TensorSet(images, plain.targets, classes=plain.classes, ids=plain.ids)
    return made, Groups("mark", ("plain", "marked"), plain.ids, numbers)


def narrow(teacher, examples, seed, steps=15, temperature=4.0):
    """A linear student that learns from answers alone, and not for long: it takes the mark."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    batch = examples.batch(torch.arange(len(examples)))
    with torch.no_grad():
        soft = (teacher(batch).logits / temperature).softmax(-1)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(net(batch.inputs) / temperature, soft).backward()
        optimizer.step()
    net.zero_grad(set_to_none=True)
    return Observed(net.eval())


def trained(share, seed):
    train, _ = marked(stripes(300, 40 + seed, classes=2, noise=1.2), share, seed)
    test, groups = marked(stripes(600, 90 + seed, classes=2, noise=1.2), 0.5, 100 + seed)
    teacher = learned(train, 6, seed)
    models = {"teacher": teacher, "student": narrow(teacher, train, seed)}
    return Subjects(models=models, test=test, groups={"mark": groups})


def flagged(part):
    return any(one["status"] == "warning" for one in part["findings"])


def test_a_bias_that_training_amplified_is_found_and_its_clean_twin_is_not():
    part = asked(trained(0.85, 0))
    assert flagged(part)
    assert "By mark" in part["findings"][0]["text"]
    assert "between “marked” (more) and “plain”" in part["findings"][0]["text"]
    assert not flagged(asked(trained(0.5, 0)))


@pytest.mark.slow
def test_over_many_trainings_bias_is_found_and_clean_ones_raise_no_alarm():
    assert sum(flagged(asked(trained(0.85, seed))) for seed in range(12)) >= 11
    assert sum(flagged(asked(trained(0.5, seed))) for seed in range(12)) == 0


class ById(AbstractWeighting):
    """Examples count by weights of their own."""

    needs_teacher = False

    def __init__(self, ids, weights):
        self.table = torch.ones(int(ids.max()) + 1)
        self.table[ids] = weights

    def weights(self, student: Outputs, teacher: Outputs, batch):
        return self.table[batch.ids]


def clothes(part, first, second):
    """Two classes of Fashion-MNIST at 14 x 14."""
    rows = ((part.targets == first) | (part.targets == second)).nonzero().flatten()
    images = F.avg_pool2d(part.inputs[rows].float() / 255, 2)
    targets = (part.targets[rows] == second).long()
    return TensorSet(images, targets, classes=("one", "other"), ids=part.ids[rows])


@pytest.mark.slow
def test_weights_by_group_cut_a_learned_bias_and_lose_no_accuracy():
    splits = load("fashion_mnist_small")
    train, known = marked(clothes(splits.train, 2, 6), 0.85, 0)
    test, groups = marked(clothes(splits.test.open("the trial"), 2, 6), 0.5, 1)
    by = ById(train.ids, known.balanced(train.ids, train.targets))

    def learner(spec, seed):
        torch.manual_seed(seed)
        net = build_model(spec, classes=2, shape=(1, 14, 14))
        return Learner(Observed(net), adamw(learning_rate=0.01), schedule=one_cycle())

    def fitted(setting, seed):
        fit(setting, Loader(train, 64, seed=seed), steps=150, seed=seed)
        found = predict(setting.student.model, test)
        counted = tally(found.logits, found.targets, groups.of(found.ids))
        right = (found.logits.argmax(-1) == found.targets).double().mean().item()
        return equalised_odds_difference(counted), right

    plain, weighted = [], []
    small = {"vgg": {"widths": [2, 4], "per_stage": 1}}
    for seed in range(3):
        teacher = learner({"vgg": {"widths": [16, 32]}}, seed)
        before, _ = fitted(Alone(teacher, CrossEntropy()), seed)
        mixed = 0.5 * CrossEntropy() + 0.5 * SoftTarget(4.0)
        evened = 0.5 * Reweighted(CrossEntropy(), by) + 0.5 * Reweighted(SoftTarget(4.0), by)
        student = learner(small, 10 + seed)
        plain.append(fitted(Classic(student, teacher.model, mixed), seed))
        fair = learner(small, 10 + seed)
        weighted.append(fitted(Classic(fair, teacher.model, evened), seed))
        assert plain[-1][0] > before  # amplified, and flagged as such
        models = {"teacher": teacher.model, "student": student.model}
        assert flagged(asked(Subjects(models=models, test=test, groups={"mark": groups})))
    (gap_before, right_before), (gap_after, right_after) = (
        torch.tensor(arm).mean(0).tolist() for arm in (plain, weighted)
    )
    assert gap_after <= 0.7 * gap_before
    assert right_after >= right_before
