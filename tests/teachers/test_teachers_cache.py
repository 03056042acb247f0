"""Answers that are kept are the answers that were given."""

import copy
import json

import pytest
import torch
from cache_samples import CLASSES, COUNT, STEPS, Counting, cache, loader, net, pictures, teacher
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import (
    DataError,
    Interrupted,
    MissingFeature,
    ModelError,
    RecipeError,
    ShapeMismatch,
)
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.data import AbstractTransform, Rotations, TensorSet
from tutelage.engine import Hook, Keep, Learner, Machine, fit, sgd
from tutelage.models import Frozen, Observed
from tutelage.objectives import CrossEntropy, Match, SoftTarget
from tutelage.settings import Classic
from tutelage.teachers import Cached, Ensemble, Form, as_kept, teacher_hash


def trained(who, source=None, steps=12, objective=None, **options):
    """The weights of a student who learnt from ``who``."""
    student = Learner(Observed(net(1)), sgd(learning_rate=0.1))
    objective = 0.5 * CrossEntropy() + SoftTarget(2.0) if objective is None else objective
    setting = Classic(student, who, objective)
    fit(setting, loader() if source is None else source, steps=steps, machine=CPU, **options)
    return torch.cat([p.detach().flatten() for p in student.model.parameters()])


CPU = Machine("cpu")


@pytest.mark.parametrize(
    "steps",
    [(), STEPS[:2], (STEPS[0], "mixup"), ("flip", "cutmix"), STEPS],
    ids=["none", "shift flip", "mixup", "cutmix", "all"],
)
def test_cached_and_live_students_go_the_same_way(tmp_path, steps):
    live = trained(teacher(), loader(steps=steps))
    exact, near = teacher(), teacher()
    source = loader(steps=steps)
    with cache(tmp_path / "32", exact, source, precision="fp32") as kept:
        assert torch.equal(trained(kept, loader(steps=steps)), live)
    with cache(tmp_path / "16", near, source) as kept:
        rounded = trained(kept, loader(steps=steps))
    assert not torch.equal(rounded, net_weights(1))
    torch.testing.assert_close(rounded, live, rtol=0, atol=2e-4)
    # 12 steps are 4 epochs of 2 views: each was asked for once.
    assert exact.asked == near.asked == COUNT * (2 if steps else 1)


def net_weights(seed):
    return torch.cat([p.detach().flatten() for p in net(seed).parameters()])


def test_built_ahead_the_teacher_is_not_asked_again(tmp_path):
    who, on_the_way = teacher(), teacher()
    with cache(tmp_path / "ahead", who) as kept:
        filled = kept.fill(loader(batch=5).in_order())
        assert (filled.answers, filled.asked, filled.torn) == (2 * COUNT, 2 * COUNT, 0)
        assert filled.record == 24  # tag, look and largest of 4 bytes, 5 times 2, rounded up to 8
        assert filled.bytes == 2 * COUNT * 24
        asked = who.asked
        ahead = trained(kept)
        assert who.asked == asked
        assert kept.fill(loader().in_order()).asked == 0
    with cache(tmp_path / "way", on_the_way) as kept:
        torch.testing.assert_close(trained(kept), ahead, rtol=0, atol=1e-6)


def test_without_its_teacher_a_full_cache_answers_and_an_empty_one_says_so(tmp_path):
    with cache(tmp_path, teacher()) as kept:
        kept.fill(loader().in_order())
        batch = next(loader().epoch(1))
        expected = kept(batch).logits
    alone = Cached(None, tmp_path, loader())
    assert torch.equal(alone(batch).logits, expected)
    empty = Cached(None, tmp_path / "none", loader())
    with pytest.raises(DataError, match=r"lacks the answer to example \d+ in view 1, .* fill it"):
        empty(batch)


def test_dense_answers_come_back_to_a_thousandth_and_in_fp32_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 1000, generator=generator) * 5 + 300
    answer = Outputs(logits)
    back = as_kept(answer, Form()).logits
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, logits, rtol=0, atol=0.02)
    torch.testing.assert_close(back.softmax(-1), logits.softmax(-1), rtol=0.02, atol=1e-6)
    torch.testing.assert_close(back.amax(-1), logits.amax(-1), rtol=0, atol=0)
    assert torch.equal(as_kept(answer, Form(precision="fp32")).logits, logits)


def test_logits_beyond_fp16_do_not_overflow():
    far = torch.tensor([[1e6, 1e6 - 3, -1e6, -torch.inf]])
    back = as_kept(Outputs(far), Form()).logits
    assert back[0, :2].tolist() == [1e6, 1e6 - 3]
    assert back[0, 2] == 1e6 - 65504
    assert back[0, 3] == -torch.inf


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("form", [Form(), Form("top", 2)])
def test_answers_that_are_no_numbers_are_refused(bad, form):
    with pytest.raises(ModelError, match="NaN or infinite logits"):
        as_kept(Outputs(torch.tensor([[1.0, bad, 2.0]])), form)


@pytest.mark.parametrize(("classes", "kind"), [(10, "<i2"), (40_000, "<u2"), (70_000, "<i4")])
def test_the_top_k_with_their_tail_are_those_of_the_live_teacher(tmp_path, classes, kind):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, classes, generator=generator) * 3
    logits[0, -1] = 30.0  # the highest class number
    p = logits.double().softmax(-1)
    values, top = p.topk(4, dim=-1)
    for precision, error in (("fp32", 1e-5), ("fp16", 0.008)):
        back = as_kept(Outputs(logits), Form("top", 4, precision))
        assert isinstance(back, SparseOutputs)
        assert torch.equal(back.top, top)
        assert back.top.dtype == torch.int64
        torch.testing.assert_close(back.logits.double(), values.log(), rtol=0, atol=error)
        tail = (p.sum(-1) - values.sum(-1)).clamp(min=1e-30)
        small = tail < 1e-9  # the double difference itself has no digits there
        torch.testing.assert_close(
            back.log_tail.double()[~small], tail.log()[~small], rtol=0, atol=error * 2
        )
        whole = back.logits.exp().sum(-1) + back.log_tail.exp()
        torch.testing.assert_close(whole, torch.ones(6), rtol=0, atol=0.01)
    source = loader(TensorSet(torch.rand(6, 3), classes=()), ())
    name = {"name": "these", "form": "top", "k": 4}
    with Cached(lambda batch: Outputs(logits[batch.ids]), tmp_path, source, **name) as kept:
        kept.fill(source)
        assert kept._store.layout.record.fields["top"][0].base.str == kind


def test_all_classes_as_top_have_no_tail():
    back = as_kept(Outputs(torch.randn(2, 3)), Form("top", 3))
    assert back.log_tail.tolist() == [-torch.inf, -torch.inf]
    with pytest.raises(RecipeError, match="k is 4, and there are 3 classes"):
        as_kept(Outputs(torch.randn(2, 3)), Form("top", 4))


def test_kd_learns_from_the_top_as_from_the_same_sparse_answers_live(tmp_path):
    who = teacher()

    def sparse(batch):
        every = who(batch).logits.log_softmax(-1)
        top = every.topk(2, dim=-1)
        tail = every.scatter(-1, top.indices, -torch.inf).logsumexp(-1)
        return SparseOutputs(top.values, top=top.indices, log_tail=tail)

    with cache(tmp_path, teacher(), form="top", k=2) as kept:
        learnt = trained(kept, objective=SoftTarget(1.0))
    live = trained(sparse, objective=SoftTarget(1.0))
    torch.testing.assert_close(learnt, live, rtol=0, atol=1e-3)
    dense = trained(teacher(), objective=SoftTarget(1.0))
    assert (live - dense).abs().max() > 5e-3  # the bound above tells them apart


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_features_are_kept_and_shown_when_tapped(tmp_path, precision):
    who = teacher()
    with cache(tmp_path, who, features=["1", "2"], precision=precision) as kept:
        assert kept(next(loader().epoch(0))).features == {}
        kept.tap(["2"])
        first, batch = (kept(next(loader().epoch(0))), next(loader().epoch(0)))
        live = who.tap(["2"])(batch)
        assert list(first.features) == ["2"]
        near = {"rtol": 0, "atol": 0 if precision == "fp32" else 5e-3}
        torch.testing.assert_close(first["2"], live["2"], **near)
        with pytest.raises(MissingFeature, match=r"keeps no feature '3'.* Known: 1, 2"):
            kept.tap(["3"])
        kept.release()
        assert kept(batch).features == {}
        assert who.observed.taps == []


def test_an_objective_on_features_learns_from_a_cache(tmp_path):
    def objective():
        return SoftTarget(2.0) + 0.1 * Match({"2": "2"}, adapter="linear")

    live = trained(teacher(), objective=objective())
    with cache(tmp_path, teacher(), features=["2"], precision="fp32") as kept:
        assert torch.equal(trained(kept, objective=objective()), live)
        before = kept.counts.asked
        assert torch.equal(trained(kept, objective=objective()), live)  # tapped again
        assert kept.counts.asked == before


def test_features_too_large_for_fp16_are_refused(tmp_path):
    who = teacher()
    who.observed.model[1].bias.data += 1e6
    with (
        cache(tmp_path, who, features=["1"]) as kept,
        pytest.raises(ModelError, match=r"feature '1' reaches 1e\+06, beyond fp16.*'fp32'"),
    ):
        kept(next(loader().epoch(0)))


def test_an_ensemble_is_kept_as_one_teacher(tmp_path):
    members = [Frozen(Observed(net(seed))) for seed in (1, 2)]
    who = Ensemble(members, weights=[1, 3])
    live = trained(who)
    options = {"precision": "fp32", "features": ["1/2", "0/logits"]}
    with cache(tmp_path, who, **options) as kept:
        # Rows of a mixture are rounded by their place in the batch: not to the bit.
        torch.testing.assert_close(trained(kept), live, rtol=0, atol=1e-6)
        batch = next(loader().epoch(0))
        shown = kept.tap(["1/2", "0/logits"])(batch)
        assert torch.equal(shown["0/logits"], members[0](batch).logits)
        assert torch.equal(shown["1/2"], members[1].tap(["2"])(batch)["2"])
    with pytest.raises(DataError, match="another teacher"):
        cache(tmp_path, Ensemble(members, weights=[3, 1]), **options)
    with pytest.raises(DataError, match="another teacher"):
        cache(tmp_path, Ensemble(members, weights=[1, 3], combine="logits"), **options)


def test_a_cache_is_a_member_of_an_ensemble(tmp_path):
    both = [teacher(1), teacher(2)]
    live = trained(Ensemble(both))
    with cache(tmp_path, teacher(1), precision="fp32") as kept:
        assert torch.equal(trained(Ensemble([kept, teacher(2)])), live)


def test_numbers_far_apart_take_no_room_and_find_their_rows(tmp_path):
    ids = torch.tensor([10**15, 3, 77, -5])
    examples = pictures(4, ids=ids)
    source, who = loader(examples, ("flip",), batch=3), teacher()
    with cache(tmp_path, who, source) as kept:
        assert kept.fill(source.in_order()).bytes == 2 * 4 * 24
        batch = next(source.epoch(3))
        torch.testing.assert_close(kept(batch).logits, who(batch).logits, rtol=0, atol=0.01)
        strange = Batch(batch.inputs, ids=torch.tensor([3, 4, 77]), view=1)
        with pytest.raises(DataError, match="example 4 is none of the 4 that this cache is for"):
            kept(strange)


def test_one_example_is_a_batch(tmp_path):
    source, who = loader(batch=1), teacher()
    with cache(tmp_path, who, source) as kept:
        for _ in range(2):
            for batch in source.epoch(0):
                answer = kept(batch).logits
                assert answer.shape == (1, CLASSES)
                torch.testing.assert_close(answer, who(batch).logits, rtol=0, atol=0.01)
        assert (kept.counts.asked, kept.counts.found) == (COUNT, COUNT)


def test_answers_of_several_units_keep_their_shape(tmp_path):
    tokens = TensorSet(torch.rand(6, 4, 3), classes=())
    source = loader(tokens, (), batch=4)
    turn = torch.eye(3)[:, [1, 2, 0]]
    for form in ("dense", "top"):
        options = {"name": "turn", "form": form, "k": 3, "precision": "fp32"}
        ask = lambda batch: Outputs(batch.inputs @ turn)  # noqa: E731
        with Cached(ask, tmp_path / form, source, **options) as kept:
            kept.fill(source)
            batch = next(source.epoch(1))
            answer = kept(batch)
            assert answer.logits.shape == (4, 4, 3)
            if form == "top":
                assert answer.log_tail.shape == (4, 4)
                order = (batch.inputs @ turn).argsort(-1, descending=True)
                assert torch.equal(answer.top, order)
            else:
                assert torch.equal(answer.logits, batch.inputs @ turn)
    with pytest.raises(ShapeMismatch, match=r"logits are \(4, 2\) for each example.*\(4, 3\)"):
        kept._store.layout.encode(Outputs(torch.rand(1, 4, 2)))


def test_the_precision_of_the_teacher_is_its_own_whoever_asks(tmp_path):
    batch, who = next(loader().epoch(0)), teacher()
    plain = who(batch).logits
    with torch.autocast("cpu", torch.bfloat16), cache(tmp_path / "1", who) as kept:
        torch.testing.assert_close(kept(batch).logits, plain, rtol=0, atol=5e-3)
    with cache(tmp_path / "2", who, compute="bf16", precision="fp32") as kept:
        answer = kept(batch).logits
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(answer, who(batch).logits.float())
        assert not torch.equal(answer, plain)
    with pytest.raises(RecipeError, match="compute is 'int8'"):
        cache(tmp_path / "3", who, compute="int8")


def test_modules_are_lent_by_the_live_teacher(tmp_path):
    who = teacher()
    kept = cache(tmp_path, who)
    assert kept.lend(["3"])["3"] is who.observed.model[3]
    assert kept.lend([]) == {}
    with pytest.raises(MissingFeature, match="no modules of its own to lend"):
        Cached(None, tmp_path, loader()).lend(["3"])


def test_a_run_that_was_stopped_goes_on_to_the_same_bit(tmp_path):
    class CtrlC(Hook):
        def stepped(self, step):
            if step == 5:
                raise KeyboardInterrupt

    through = trained(cache(tmp_path / "whole"))
    for precision in ("fp16", "fp32"):
        folder = tmp_path / precision
        keep = Keep(folder / "run", every=2, identity="x")
        with (
            cache(folder / "kept", precision=precision) as kept,
            pytest.raises((KeyboardInterrupt, Interrupted)),
        ):
            trained(kept, keep=keep, hooks=[CtrlC()])
        who = teacher()
        with cache(folder / "kept", who, precision=precision) as kept:
            ended = trained(kept, keep=keep)
            assert who.asked == 2 * COUNT - 5 * 8
    whole = trained(cache(tmp_path / "again", precision="fp32"))
    assert torch.equal(ended, whole)
    assert not torch.equal(through, whole)


def test_a_teacher_that_changes_while_it_teaches_is_still_found_out(tmp_path):
    from tutelage.core.errors import TeacherChanged

    who = teacher()

    class Meddle(Hook):
        def stepped(self, step):
            who.observed.model[3].bias.data += 1

    with cache(tmp_path, who) as kept, pytest.raises(TeacherChanged):
        trained(kept, steps=2, hooks=[Meddle()])


def test_a_teacher_is_told_by_all_that_it_computes_with():
    first = teacher_hash(Observed(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))))
    assert len(first) == 64

    def changed(act):
        torch.manual_seed(0)
        model = Observed(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
        act(model)
        return teacher_hash(model)

    same = [lambda m: None, lambda m: m.eval(), lambda m: m.use_channels_last()]
    same += [lambda m: m.requires_grad_(False), lambda m: m.tap(["0"])]
    assert len({changed(act) for act in same}) == 1
    others = [
        lambda m: setattr(m.model[0], "stride", (2, 2)),
        lambda m: setattr(m.model[1], "eps", 1e-3),
        lambda m: m.model[1].running_mean.add_(1),
        lambda m: m.model.append(nn.ReLU()),
        lambda m: m.model[0].weight.data[0, 0, 0].add_(1e-3),
        lambda m: setattr(m, "read", lambda model, inputs: model(inputs)),
    ]
    assert len({changed(act) for act in [*others, same[0]]}) == len(others) + 1
    with pytest.raises(ModelError, match=r"a function has no weights .* name='...'"):
        teacher_hash(lambda batch: batch)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"who": teacher(8)}, "for another teacher"),
        ({"who": Counting(nn.Sequential(*teacher().observed.model, nn.Tanh()))}, "another teacher"),
        ({"source": loader(pictures(seed=1))}, "for other examples"),
        ({"source": loader(pictures(20))}, "for other examples"),
        ({"source": loader(pictures(ids=torch.arange(COUNT) + 1))}, "for other examples"),
        ({"source": loader(steps=STEPS[:2])}, "for another augmentation"),
        ({"source": loader(steps=({"shift": {"pixels": 2}}, *STEPS[1:]))}, "another augmentation"),
        ({"source": loader(steps=(*STEPS[:2], "cutmix", STEPS[2]))}, "another augmentation"),
        ({"source": loader(seed=4)}, "for views of another seed"),
        ({"precision": "fp32"}, "in another precision"),
        ({"form": "top", "k": 2}, "in another form"),
        ({"features": ["2"]}, "with other features"),
        ({"compute": "bf16"}, "computes in another precision"),
    ],
)
def test_answers_of_something_else_are_refused_in_one_line(tmp_path, change, says):
    with cache(tmp_path) as kept:
        kept.fill(loader().in_order())
    with pytest.raises(DataError, match=says) as refused:
        cache(tmp_path, **change)
    assert "\n" not in str(refused.value)
    assert "choose another folder, or remove this one" in str(refused.value)


def test_labels_order_batch_size_and_more_views_are_no_other_answers(tmp_path):
    with cache(tmp_path) as kept:
        kept.fill(loader().in_order())
    relabelled = pictures().with_targets(None)
    source = loader(relabelled, STEPS[:2], batch=5)
    assert source.identity() == loader(steps=STEPS[:2], shuffle=False).identity()
    who = teacher()
    orders = loader(seed=12, view_seed=3, views=3, batch=5)
    with cache(tmp_path, who, orders) as kept:
        assert kept.fill(orders).asked == COUNT  # the third view alone
        assert who.asked == COUNT


def test_a_batch_that_the_teacher_did_not_see_is_refused(tmp_path):
    with cache(tmp_path) as kept:
        kept.fill(loader().in_order())
        with pytest.raises(DataError, match=r"does not look as it did .* view_seed and views"):
            trained(kept, loader(seed=4))
        with pytest.raises(DataError, match="this batch shows view 2, and the cache is for 2"):
            trained(kept, loader(views=5))
        with pytest.raises(DataError, match="shows other views than the one the cache"):
            kept.fill(loader(seed=4))
        batch = next(loader().epoch(0))
        with pytest.raises(DataError, match="this batch has no ids"):
            kept(Batch(batch.inputs, view=0))
        with pytest.raises(DataError, match="this batch has no view"):
            kept(Batch(batch.inputs, ids=batch.ids))
        with pytest.raises(DataError, match="several variants of each example"):
            kept(next(Rotations(loader()).epoch(0)))


def test_an_augmentation_that_cannot_be_written_down_cannot_be_told_from_others(tmp_path):
    class Own(AbstractTransform):
        draws = 1

        def __init__(self, change):
            self.change = change

        def check(self, shape):
            pass

        def __call__(self, images, numbers):
            return images

    written = loader(steps=(Own([1, (2.5, "x")]),)).identity()["augment"]
    assert written[0][2] == {"change": [1, [2.5, "x"]]}
    with pytest.raises(DataError, match="an option of Own is a function, which cannot be written"):
        cache(tmp_path, source=loader(steps=(Own(lambda images: images),)))


def test_sources_without_an_end_of_views_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a new view of each example in every epoch.* views=4"):
        cache(tmp_path, source=loader(views=None))
    with pytest.raises(DataError, match="a list does not say which examples"):
        cache(tmp_path, source=[next(loader().epoch(0))])
    assert cache(tmp_path, source=loader(steps=(), views=None)).teacher is not None


def test_named_inputs_are_kept_too(tmp_path):
    class Pairs:
        ids, views = torch.arange(6), 1

        def identity(self):
            return {"data": "pairs", "augment": [], "seed": None}

        def __len__(self):
            return 1

        def epoch(self, number, start=0):
            inputs = {"a": torch.arange(6.0)[:, None], "b": torch.arange(6)}
            yield Batch(inputs, ids=self.ids, view=0)

    def ask(batch):
        return Outputs(batch.inputs["a"] * torch.tensor([1.0, 2.0]))

    with Cached(ask, tmp_path, Pairs(), name="pairs", precision="fp32") as kept:
        assert kept.fill(Pairs()).asked == 6
        (batch,) = Pairs().epoch(0)
        assert torch.equal(kept(batch).logits, ask(batch).logits)
        batch.inputs["b"][3] = 9
        with pytest.raises(DataError, match="example 3 in view 0 does not look as it did"):
            kept(batch)


def test_the_manifest_says_what_is_in_the_folder(tmp_path):
    with cache(tmp_path, form="top", k=3, features=["2"]) as kept:
        kept.fill(loader().in_order())
    found = json.loads((tmp_path / "manifest.json").read_text())
    assert found["augment"][0] == ["shift", "Shift", {"pixels": 1}]
    assert found["teacher"] == teacher_hash(teacher())
    assert found["data"] == pictures().with_targets(None).fingerprint()
    expected = {"format": 2, "seed": 3, "temperature": 1, "k": 3, "precision": "fp16"}
    expected |= {"classes": CLASSES, "features": ["2"], "feature shapes": {"2": [16]}}
    assert {key: found[key] for key in expected} == expected


def test_nothing_is_written_before_there_is_an_answer(tmp_path):
    cache(tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_copy_of_the_teacher_is_the_same_teacher(tmp_path):
    who = teacher()
    with cache(tmp_path, who) as kept:
        kept.fill(loader().in_order())
    again = copy.deepcopy(who)
    with cache(tmp_path, again) as kept:
        assert kept.fill(loader().in_order()).asked == 0
