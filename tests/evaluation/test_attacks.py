"""Attacks: what they reach, and models that hide their gradients are found and named."""

import copy
import logging
import sys

import numpy as np
import pytest
import torch
from evaluation_samples import stripes, subjects
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, NotInstalled, RecipeError
from tutelage.evaluation.examining import examine
from tutelage.evaluation.parts.attacks import Attacks
from tutelage.evaluation.robustness import autoattack, fgsm, noise, pgd, signs
from tutelage.evaluation.robustness.attacks import margin
from tutelage.evaluation.robustness.auto import fitting
from tutelage.evaluation.whitebox import some, whitebox
from tutelage.models import Observed


@pytest.fixture(scope="module")
def trial():
    return subjects()


def linear(classes=2, seed=0):
    dice = np.random.default_rng(seed)
    weight, bias = dice.normal(size=(classes, 6)), dice.normal(size=classes) * 0.1
    inputs = dice.uniform(size=(40, 6))
    truth = (inputs @ weight.T + bias).argmax(1)
    net = nn.Linear(6, classes)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight))
        net.bias.copy_(torch.tensor(bias))
    return Observed(net.eval()), weight, bias, inputs, truth


class TestOnALinearModel:
    """With two classes the worst image is known: every pixel moves to its corner."""

    @pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.4, 1.0])
    @pytest.mark.parametrize("loss", ["ce", "margin"])
    def test_pgd_reaches_the_corner(self, epsilon, loss):
        model, weight, bias, inputs, truth = linear()
        sign = np.where(truth == 0, 1, -1)[:, None] * np.sign(weight[1] - weight[0])
        corner = np.clip(inputs + epsilon * sign, 0, 1)
        survives = (corner @ weight.T + bias).argmax(1) == truth
        x, y = torch.tensor(inputs).float(), torch.tensor(truth)
        with whitebox(model) as logits:
            found = pgd(logits, x, y, torch.arange(40), epsilon=epsilon, loss=loss)
            one = fgsm(logits, x, y, epsilon=epsilon)
        np.testing.assert_allclose(found.images.numpy(), corner, atol=1e-6)
        np.testing.assert_allclose(one.images.numpy(), corner, atol=1e-6)
        assert found.robust.tolist() == one.robust.tolist() == survives.tolist()
        assert epsilon > 0.05 or survives.any()
        assert epsilon < 0.3 or not survives.all()

    def test_the_steps_are_those_of_a_plain_loop(self):
        model, weight, bias, inputs, truth = linear(classes=4, seed=3)
        x, y, ids = torch.tensor(inputs).float(), torch.tensor(truth), torch.arange(40)
        with whitebox(model) as logits:
            first = pgd(logits, x, y, ids, epsilon=0.2, steps=1, seed=5).images
            found = pgd(logits, x, y, ids, epsilon=0.2, steps=7, seed=5).images
        from tutelage.core.seeds import derive, uniform

        start = 0.2 * (2 * uniform(derive(5, "pgd", 0), ids, 6).double().numpy() - 1)
        for steps, answer in ((1, first), (7, found)):
            moved = np.clip(inputs + start, 0, 1)
            for _ in range(steps):
                z = moved @ weight.T + bias
                p = np.exp(z - z.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                p[np.arange(40), truth] -= 1
                moved = moved + 2.5 * 0.2 / steps * np.sign(p @ weight)
                moved = np.clip(np.clip(moved, inputs - 0.2, inputs + 0.2), 0, 1)
            np.testing.assert_allclose(answer.numpy(), moved, atol=2e-6)


class TestEveryAttack:
    def attacked(self, trial, epsilon):
        batch = trial.test.batch(torch.arange(60))
        with whitebox(trial.models["student"]) as logits:
            given = (logits, batch.inputs, batch.targets)
            yield batch.inputs, fgsm(*given, epsilon=epsilon).images
            yield batch.inputs, pgd(*given, batch.ids, epsilon=epsilon, steps=5).images
            yield batch.inputs, noise(*given, batch.ids, epsilon=epsilon).images

    @pytest.mark.parametrize("epsilon", [0.05, 0.3])
    def test_images_stay_near_and_in_0_to_1(self, trial, epsilon):
        for clean, images in self.attacked(trial, epsilon):
            assert (images - clean).abs().max() <= epsilon + 1e-6
            assert images.min() >= 0
            assert images.max() <= 1
            assert not torch.equal(images, clean)

    def test_an_example_meets_the_same_attack_in_any_batch(self, trial):
        batch = trial.test.batch(torch.arange(20))
        with whitebox(trial.models["student"]) as logits:
            whole = pgd(logits, batch.inputs, batch.targets, batch.ids, epsilon=0.2)
            part = pgd(logits, batch.inputs[7:9], batch.targets[7:9], batch.ids[7:9], epsilon=0.2)
        torch.testing.assert_close(whole.images[7:9], part.images, rtol=0, atol=1e-3)
        assert torch.equal(whole.robust[7:9], part.robust)

    def test_the_stronger_the_attack_the_fewer_stay_right(self, trial):
        """AutoAttack <= PGD <= FGSM, and more steps, starts or room never help the model."""
        batch = stripes(40, 5).batch(torch.arange(40))
        with whitebox(trial.models["student"]) as logits:
            given = (logits, batch.inputs, batch.targets)
            auto = autoattack(*given, epsilon=0.25).robust.sum()
            one = fgsm(*given, epsilon=0.25).robust.sum()
            many = pgd(*given, batch.ids, epsilon=0.25, restarts=2).robust.sum()
            lot = noise(*given, batch.ids, epsilon=0.25).robust.sum()
            sizes = [pgd(*given, batch.ids, epsilon=e).robust.sum() for e in (0.1, 0.2, 0.3, 1.0)]
        assert auto <= many <= one <= lot
        assert auto < lot
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] > sizes[-1] == 0

    def test_restarts_only_ever_break_more(self, trial):
        batch = stripes(60, 5).batch(torch.arange(60))
        with whitebox(trial.models["student"]) as logits:
            given = (logits, batch.inputs, batch.targets, batch.ids)
            once, thrice = (pgd(*given, epsilon=0.22, steps=4, restarts=n).robust for n in (1, 3))
        assert not (thrice & ~once).any()

    def test_the_model_is_left_as_it_was(self, trial):
        model = copy.deepcopy(trial.models["student"]).train()
        model.model[0].weight.requires_grad_(False)
        before = copy.deepcopy(model.state_dict())
        batch, state, trace = (
            trial.test.batch(torch.arange(20)),
            torch.get_rng_state(),
            sys.gettrace(),
        )
        np_state = np.random.get_state()[1].copy()
        with whitebox(model) as logits:
            assert not any(module.training for module in model.modules())
            given = (logits, batch.inputs, batch.targets)
            pgd(*given, batch.ids, epsilon=0.1, steps=2)
            autoattack(*given, epsilon=0.1, attacks=("apgd-ce", "fab-t", "square"), queries=10)
        assert all(module.training for module in model.modules())
        asked = [p.requires_grad for p in model.parameters()]
        assert asked == [False] + [True] * (len(asked) - 1)
        assert all(p.grad is None for p in model.parameters())
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == np_state).all()
        assert sys.gettrace() is trace
        assert not logging.getLogger("auto-attack").disabled

    def test_margin_is_the_best_other_logit_minus_the_true_one(self):
        logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
        assert margin(logits, torch.tensor([0, 2])).tolist() == [-1.0, 4.0]

    def test_rows_are_drawn_by_id_alone(self):
        test = stripes(90, 3)
        first = test.ids[some(test, 20, 4)]
        again = test.take(torch.arange(90).flip(0))
        assert sorted(first.tolist()) == sorted(again.ids[some(again, 20, 4)].tolist())
        unlabelled = test.with_targets(torch.where(test.targets == 0, -1, test.targets))
        assert (unlabelled.targets[some(unlabelled, 200, 0)] >= 0).all()
        assert len(some(test, 500, 0)) == 90


class TestAutoAttack:
    def test_it_says_what_it_ran(self, trial):
        batch = trial.test.batch(torch.arange(10))
        with whitebox(trial.models["student"]) as logits:
            found = autoattack(logits, batch.inputs, batch.targets, epsilon=0.5, queries=20)
        assert found.attacks == ("apgd-ce", "apgd-dlr", "square")  # three classes
        assert found.version
        assert fitting(("apgd-ce", "apgd-t", "fab-t"), 10) == ("apgd-ce", "apgd-t", "fab-t")
        assert fitting(("apgd-ce", "apgd-t", "square"), 2) == ("apgd-ce", "square")

    def test_twice_the_same(self, trial):
        batch = stripes(30, 5).batch(torch.arange(30))
        with whitebox(trial.models["student"]) as logits:
            given = (logits, batch.inputs, batch.targets)
            one, two = (autoattack(*given, epsilon=0.22, queries=50).robust for _ in range(2))
        assert torch.equal(one, two)

    def test_without_the_package_one_line_says_how_to_get_it(self, trial, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyautoattack", None)
        batch = trial.test.batch(torch.arange(4))
        with (
            whitebox(trial.models["student"]) as logits,
            pytest.raises(NotInstalled, match=r'pip install "tutelage\[robust\]"'),
        ):
            autoattack(logits, batch.inputs, batch.targets, epsilon=0.1)
        part = Attacks(examples=10, steps=2, restarts=1)
        found = examine(trial, {"attacks": part})["attacks"]
        assert found["left_out"] is None
        assert "tutelage[robust]" in found["figures"]["models"]["student"]["auto"]["left_out"]
        assert "AutoAttack was left out" in part.blocks(found["figures"])[0].text


class TestSigns:
    def flags(self, right: int, total: int = 100):
        return torch.arange(total) < right

    def usual(self, **changes):
        given = {
            "weak": {"fgsm": self.flags(40), "noise": self.flags(80)},
            "pgd": self.flags(20),
            "strong": {"auto": self.flags(12)},
            "unbounded": self.flags(0),
            "flat": self.flags(0),
            "clean": self.flags(90),
        }
        return signs(**{**given, **changes})

    def test_an_honest_model_shows_none(self):
        assert self.usual() == []

    @pytest.mark.parametrize(
        ("change", "kind"),
        [
            ({"weak": {"noise": torch.arange(100) < 5}}, "weak"),
            ({"strong": {"auto": torch.arange(100) < 0}, "pgd": torch.arange(100) < 60}, "strong"),
            ({"unbounded": torch.arange(100) < 30}, "unbounded"),
            ({"flat": torch.arange(100) < 30}, "flat"),
        ],
    )
    def test_each_is_seen(self, change, kind):
        found = self.usual(**change)
        assert kind in {sign["kind"] for sign in found}

    def test_a_handful_is_chance(self):
        assert self.usual(weak={"noise": self.flags(17)}) == []
        assert self.usual(unbounded=self.flags(5)) == []
        assert self.usual(flat=self.flags(4)) == []

    def test_more_in_both_directions_is_chance(self):
        pgd, weak = self.flags(50), ~self.flags(45)
        assert self.usual(pgd=pgd, weak={"noise": weak}, strong={}) == []

    def test_lengths_must_agree(self):
        with pytest.raises(DataError, match="equal"):
            self.usual(flat=torch.zeros(3).bool())


class TestPart:
    def test_options_out_of_range_are_refused_in_one_line(self):
        for options in (
            {"epsilon": 0},
            {"epsilon": 8},
            {"examples": 0},
            {"auto": "standart"},
            {"tolerated": 2},
        ):
            with pytest.raises(RecipeError) as caught:
                Attacks(**options)
            assert "\n" not in str(caught.value)

    def test_tables_are_left_out(self, trial):
        from dataclasses import replace

        from tutelage.data import TensorSet

        flat = TensorSet(torch.rand(9, 4), torch.arange(9) % 3, classes=("a", "b", "c"))
        assert "no images" in Attacks().absent(replace(trial, test=flat))
        shut = replace(trial, models={"student": lambda batch: trial.models["student"](batch)})
        assert "only answers" in Attacks().absent(shut)

    def test_refused_inputs(self):
        def logits(x):
            return x.flatten(1)[:, :2]

        x, y = torch.rand(2, 4), torch.tensor([0, 1])
        for change, message in (
            ({"epsilon": 0.0}, "above 0"),
            ({"inputs": x + 1}, "above 1"),
            ({"targets": y[:1]}, "class number"),
            ({"loss": "cee"}, "ce"),
            ({"steps": 0}, "at least 1"),
        ):
            given = {"inputs": x, "targets": y, "epsilon": 0.1, **change}
            with pytest.raises(DataError, match=message):
                pgd(logits, ids=torch.arange(2), **given)

    def test_a_batch_is_asked_as_the_data_gives_it(self, trial):
        """The intake normalises inside: an attacked image is one that the data could give."""
        from tutelage.models import Intake

        inner = trial.models["student"].model
        model = Observed(inner, intake=Intake(0.3, 0.5))
        batch = trial.test.batch(torch.arange(10))
        with whitebox(model) as logits:
            images = fgsm(logits, batch.inputs, batch.targets, epsilon=0.1).images
            assert torch.equal(logits(images), model(Batch(images)).logits)
        assert (images - batch.inputs).abs().max() <= 0.1 + 1e-6
