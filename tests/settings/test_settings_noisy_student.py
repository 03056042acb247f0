"""NoisyStudent: clean images for the teacher, noised ones for the student."""

import pytest
import torch
import torch.nn.functional as F
from settings_resume import stops_change_nothing
from settings_views import views
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build
from tutelage.data import Augment, Loader, StrongViews, TensorSet
from tutelage.engine import Learner, Machine, Record, adamw, fit, sgd
from tutelage.models import Frozen, Observed
from tutelage.settings import NoisyStudent


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def by_inputs(batch):
    return Outputs(batch.inputs[:, :3])


def setting(optimizer=None, teacher=None, **options):
    student = Learner(Observed(net()), optimizer or sgd(learning_rate=0.1))
    return NoisyStudent(student, teacher or Frozen(Observed(net(1))), **options)


@pytest.mark.parametrize("hard", [False, True])
def test_updates_are_those_of_plain_torch(hard):
    made = setting(
        sgd(learning_rate=0.1, momentum=0.0, weight_decay=0.0),
        confidence=0.4,
        hard=hard,
        most=3.0,
    )
    record = Record()
    fit(made, views(), steps=4, hooks=[record])

    plain, teacher = net(), net(1).eval()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    counts, dropped = [0, 0, 0], 0
    for item in views():
        clean, noised, targets = item.inputs[::2], item.inputs[1::2], item.targets[::2]
        with torch.no_grad():
            p = teacher(clean).softmax(-1)
        log_q = plain(noised).log_softmax(-1)
        loss, seen = 0.0, []
        mean = sum(count + 1 for count in counts) / 3
        for row in range(12):
            if targets[row] >= 0:
                loss = loss - log_q[row, targets[row]]
            elif p[row].max() >= 0.4:
                named = int(p[row].argmax())
                weight = min(max(mean / (counts[named] + 1), 1 / 3), 3)
                seen.append(named)
                label = F.one_hot(torch.tensor(named), 3) if hard else p[row]
                loss = loss - weight * (label * log_q[row]).sum()
            else:
                dropped += 1
        for named in seen:
            counts[named] += 1
        optimizer.zero_grad()
        (loss / 12).backward()
        optimizer.step()
    assert dropped > 0
    assert made.kept.values.tolist() == counts
    for ours, theirs in zip(made.student.model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert record.updates[-1][2]["ce"] == pytest.approx(loss.item() / 12, rel=1e-5)


def test_the_teacher_sees_clean_rows_and_the_student_noised_ones():
    seen = []

    def teacher(batch):
        seen.append(batch.inputs)
        return Outputs(batch.inputs[:, :3])

    made = setting(teacher=teacher)
    item = views(1)[0]
    fit(made, [item], steps=1)
    assert all(torch.equal(each, item.inputs[::2]) for each in seen)
    [update] = made.updates(item)
    assert torch.equal(update.batch.inputs, item.inputs[1::2])
    assert update.batch.targets[:5].sum(-1).tolist() == [1.0] * 5
    assert torch.equal(update.batch.targets[:5].argmax(-1), item.targets[:10:2])


def test_rare_classes_weigh_more_and_without_balance_all_weigh_alike():
    item = views(1, labelled=0)[0]
    sums = {}
    for balance in (True, False):
        made = setting(teacher=by_inputs, confidence=0.0, balance=balance)
        made.prepare(item)
        made.kept.values += torch.tensor([29, 14, 2])
        [update] = made.updates(item)
        answer = item.inputs[::2, :3].argmax(-1)
        assert len(set(answer.tolist())) == 3
        sums[balance] = {
            int(k): w for k, w in zip(answer, update.batch.targets.sum(-1), strict=True)
        }
    mean = (30 + 15 + 3) / 3
    assert sums[True][0] == pytest.approx(mean / 30)
    assert sums[True][1] == pytest.approx(mean / 15)
    assert sums[True][2] == pytest.approx(mean / 3)
    assert all(weight == pytest.approx(1.0) for weight in sums[False].values())


def test_a_stop_in_mid_run_changes_no_bit_and_the_teacher_stays(tmp_path):
    whole = stops_change_nothing(
        lambda: setting(adamw(learning_rate=0.01), confidence=0.4), views(), tmp_path
    )
    assert sum(whole["/parts/kept/values"].tolist()) > 0
    made = setting()
    before = made.teacher.fingerprint()
    fit(made, views(), steps=3)
    assert made.teacher.fingerprint() == before


@pytest.mark.filterwarnings("ignore::tutelage.engine.BatchwiseWarning")
def test_cutting_a_batch_changes_no_label():
    ends = []
    for accumulate in (1, 3):
        torch.manual_seed(0)
        student = Learner(Observed(nn.Linear(8, 3)), sgd(learning_rate=0.1))
        made = NoisyStudent(student, Frozen(Observed(net(1))))
        fit(made, views(), steps=4, machine=Machine("cpu", accumulate=accumulate))
        ends.append(student.model.model.weight)
    assert torch.allclose(*ends, atol=1e-6)


def test_it_learns_from_a_loader_of_labelled_and_unlabelled_images():
    dice = torch.Generator().manual_seed(0)
    images, targets = torch.rand(40, 1, 6, 6, generator=dice) / 2, torch.arange(40) % 3
    images[torch.arange(40), 0, targets] += 0.5
    targets[10:] = -1
    source = StrongViews(
        Loader(TensorSet(images, targets, classes=list("abc")), 20),
        Augment([{"shift": {"pixels": 1}}]),
    )
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(36, 3)) for _ in range(2)]
    student = Learner(Observed(nets[0]), adamw(learning_rate=0.02))
    record = Record()
    made = NoisyStudent(student, Observed(nets[1]), balance=False, hard=True)
    fit(made, source, steps=60, hooks=[record])
    losses = [terms["ce"] for _, _, terms in record.updates]
    assert sum(losses[-6:]) < 0.9 * sum(losses[:6])


def test_recipes_can_build_it_and_wrong_options_are_refused_in_one_line():
    made = build(
        "setting",
        "noisy_student",
        {"confidence": 0.5},
        student=Learner(Observed(net()), sgd()),
        teacher=Frozen(Observed(net(1))),
    )
    assert made.confidence == 0.5
    for options, said in [({"confidence": 2}, "confidence must be"), ({"most": 0}, "most must be")]:
        with pytest.raises(RecipeError, match=said) as caught:
            setting(**options)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("item", "said", "kind"),
    [
        (Batch(torch.zeros(4, 8)), "has no variants: wrap the loader in", DataError),
        (
            Batch(torch.zeros(4, 8), variant=torch.tensor([0, 0, 1, 1])),
            "variants 0 and 1 in turn",
            DataError,
        ),
        (
            Batch(torch.zeros(2, 8), ids=torch.tensor([1, 2]), variant=torch.tensor([0, 1])),
            "side by side",
            DataError,
        ),
        ((torch.zeros(2, 8),), "this tuple has no variants", DataError),
    ],
)
def test_items_without_two_views_are_refused_in_one_line(item, said, kind):
    with pytest.raises(kind, match=said) as caught:
        setting().prepare(item)
    assert "\n" not in str(caught.value)


def test_a_teacher_of_other_classes_is_refused():
    made = setting(teacher=Frozen(Observed(nn.Linear(8, 4))))
    with pytest.raises(RecipeError, match=r"\(12, 3\) and the teacher \(12, 4\)"):
        made.prepare(views()[0])
