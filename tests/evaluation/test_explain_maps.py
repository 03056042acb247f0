"""Maps of where models look, and their measures, against plain forms."""

import copy
import sys

import numpy as np
import pytest
import torch
from evaluation_samples import subjects
from scipy import stats
from torch import nn

from tutelage.core.errors import DataError, NotInstalled
from tutelage.evaluation.explain import (
    area,
    attention_rollout,
    cells,
    chance,
    cosine,
    deletion_curve,
    gini,
    grad_cam,
    hidden_cells,
    integrated_gradients,
    rank_correlation,
    resized,
    spread,
)
from tutelage.evaluation.explain.looking import place_of
from tutelage.evaluation.parts.explanations import Explanations
from tutelage.evaluation.whitebox import whitebox
from tutelage.models import Observed, build_model


@pytest.fixture(scope="module")
def trial():
    return subjects()


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


class TestGradCam:
    def pooled(self):
        """Convolution, mean, one linear layer: here Grad-CAM is CAM, known in closed form."""
        torch.manual_seed(0)
        conv, line = nn.Conv2d(1, 5, 3, padding=1), nn.Linear(5, 3)
        net = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), line)
        return net.eval(), conv, line

    def test_it_is_cam_where_the_map_is_averaged(self):
        with torch.random.fork_rng():
            net, conv, line = self.pooled()
        images, classes = (
            torch.rand(6, 1, 8, 10, generator=dice()),
            torch.tensor([0, 1, 2, 0, 1, 2]),
        )
        found = grad_cam(Observed(net), images, classes)
        maps = conv(images).relu().detach().double()
        want = torch.einsum("nc,nchw->nhw", line.weight.detach().double()[classes], maps) / 80
        torch.testing.assert_close(found, want.clamp(min=0), rtol=1e-5, atol=1e-7)
        assert found.max() > 0

    def test_it_takes_the_map_behind_normalisation_and_activation(self, trial):
        model = trial.models["student"]
        batch = trial.test.batch(torch.arange(5))
        seen = []
        hook = model.model[5].register_forward_hook(lambda m, i, o: seen.append(o.shape))
        found = grad_cam(model, batch.inputs, batch.targets)
        hook.remove()
        assert found.shape[1:] == seen[0][2:]  # the ReLU behind the second convolution

    @pytest.mark.parametrize(
        "name", ["resnet20", "mobilenetv2", "shufflenetv2", "vgg", "lenet", "convnext"]
    )
    def test_networks_of_the_zoo_have_a_map(self, name):
        spec = {"vgg": {"widths": [4, 8]}} if name == "vgg" else name
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Observed(build_model(spec, classes=4, shape=(1, 28, 28)).eval())
        found = grad_cam(model, torch.rand(2, 1, 28, 28, generator=dice()), torch.tensor([0, 3]))
        assert found.ndim == 3
        assert found[0].numel() > 1

    def test_who_has_no_map_says_none(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            line = Observed(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
            options = {"size": 8, "patch": 2, "dim": 16, "depth": 2, "heads": 2}
            vit = Observed(build_model({"vit": options}, classes=3, shape=(1, 8, 8)).eval())
        images, classes = torch.rand(3, 1, 8, 8), torch.zeros(3).long()
        assert grad_cam(line, images, classes) is None
        assert grad_cam(vit, images, classes) is None
        assert attention_rollout(line, images) is None
        assert attention_rollout(vit, images).shape == (3, 4, 4)

    def test_rollout_is_the_product_of_all_blocks(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            options = {"size": 8, "patch": 2, "dim": 16, "depth": 3, "heads": 2}
            vit = Observed(build_model({"vit": options}, classes=3, shape=(1, 8, 8)).eval())
            images = torch.rand(2, 1, 8, 8)
        asked = copy.deepcopy(vit)
        asked.tap([f"scaled_dot_product_attention()#{b}:in.{i}" for b in range(3) for i in (0, 1)])
        from tutelage.core.batch import Batch

        with torch.no_grad():
            answer = asked(Batch(images))
        rolled = np.eye(17)
        for block in range(3):
            q, k = (
                answer[f"scaled_dot_product_attention()#{block}:in.{i}"][1].double().numpy()
                for i in (0, 1)
            )
            z = np.einsum("htd,hsd->hts", q, k) / np.sqrt(8)
            w = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
            rolled = (0.5 * w.mean(0) + 0.5 * np.eye(17)) @ rolled
        found = attention_rollout(vit, images)
        np.testing.assert_allclose(found[1].numpy(), rolled[0, 1:].reshape(4, 4), atol=1e-6)
        assert vit.taps == []


class TestIntegratedGradients:
    def test_they_are_a_plain_sum_over_the_way_and_complete(self, trial):
        model, batch = trial.models["student"], trial.test.batch(torch.arange(4))
        found = integrated_gradients(model, batch.inputs, batch.targets, steps=64)
        total = torch.zeros_like(batch.inputs)
        with whitebox(model) as logits:
            for point in (np.arange(400) + 0.5) / 400:
                x = (float(point) * batch.inputs).requires_grad_()
                score = logits(x).gather(1, batch.targets[:, None]).sum()
                total += torch.autograd.grad(score, x)[0] / 400
            ends = [
                logits(x).gather(1, batch.targets[:, None])[:, 0].detach()
                for x in (batch.inputs, torch.zeros_like(batch.inputs))
            ]
        signed = (total * batch.inputs).sum((1, 2, 3))
        torch.testing.assert_close(signed, ends[0] - ends[1], rtol=0.02, atol=0.02)
        want = (total * batch.inputs).abs().sum(1).double()
        assert rank_correlation(found, want).min() > 0.98
        assert cosine(found, want).min() > 0.99

    def test_without_the_package_one_line_says_how_to_get_it(self, trial, monkeypatch):
        monkeypatch.setitem(sys.modules, "captum", None)
        monkeypatch.setitem(sys.modules, "captum.attr", None)
        batch = trial.test.batch(torch.arange(2))
        with pytest.raises(NotInstalled, match=r'pip install "tutelage\[explain\]"'):
            integrated_gradients(trial.models["student"], batch.inputs, batch.targets)
        part = Explanations(examples=20, pictures=1)
        figures = part.figures(trial)
        assert "tutelage[explain]" in figures["integrated"]["left_out"]
        assert part.findings(figures)
        assert "left out" in part.blocks(figures)[-1].text


class TestMeasures:
    def maps(self, ties=False, total=12):
        made = torch.rand(2, total, 5, 7, generator=dice(1), dtype=torch.float64)
        return (made * 4).round() if ties else made

    @pytest.mark.parametrize("ties", [False, True])
    def test_rank_correlation_is_scipys(self, ties):
        one, other = self.maps(ties)
        want = [
            stats.spearmanr(a.flatten(), b.flatten())[0] for a, b in zip(one, other, strict=True)
        ]
        np.testing.assert_allclose(rank_correlation(one, other).numpy(), want, atol=1e-9)

    def test_cosine_spread_and_gini_are_plain_loops(self):
        one, other = self.maps()
        for a, b, c, s, g in zip(
            one, other, cosine(one, other), spread(one), gini(one), strict=True
        ):
            x, y = a.flatten().numpy(), b.flatten().numpy()
            assert abs(c - x @ y / np.linalg.norm(x) / np.linalg.norm(y)) < 1e-9
            assert abs(s - stats.entropy(x) / np.log(35)) < 1e-9
            pairs = np.abs(x[:, None] - x[None]).sum()
            assert abs(g - pairs / (2 * 35 * x.sum())) < 1e-9

    def test_empty_and_flat_maps_have_no_figure(self):
        none, flat = torch.zeros(1, 3, 3), torch.ones(1, 3, 3)
        assert cosine(none, flat).isnan().all()
        assert rank_correlation(flat, torch.rand(1, 3, 3)).isnan().all()
        assert spread(none).isnan().all()
        assert gini(none).isnan().all()
        assert cells(none, 2).isnan().all()
        assert spread(flat).item() == pytest.approx(1)
        assert gini(flat).item() == pytest.approx(0)

    def test_cells_are_shares_of_the_map(self):
        places = torch.zeros(1, 8, 8)
        places[0, 6:, :2] = 3.0
        assert cells(places, 4)[0].tolist() == [0.0] * 12 + [1.0, 0.0, 0.0, 0.0]
        assert place_of(12) == "the bottom left corner"

    @pytest.mark.parametrize(
        ("maps", "told"),
        [
            (torch.zeros(3, 4), "N, H, W"),
            (-torch.ones(1, 2, 2), "negative"),
            (torch.full((1, 2, 2), float("nan")), "NaN"),
        ],
    )
    def test_what_is_no_map_is_refused(self, maps, told):
        with pytest.raises(DataError, match=told):
            spread(maps)

    def test_maps_of_different_size_are_refused(self):
        with pytest.raises(DataError, match="one size"):
            cosine(torch.ones(1, 2, 2), torch.ones(1, 3, 3))
        assert resized(torch.ones(1, 2, 2), 6, 6).eq(1).all()


class TestDeletion:
    def test_the_curve_is_a_plain_loop(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = Observed(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval())
            images, maps = torch.rand(5, 1, 3, 4), torch.rand(5, 3, 4)
        classes = torch.tensor([0, 1, 2, 0, 1])
        weight, bias = (p.detach().double().numpy() for p in model.parameters())
        with whitebox(model) as logits:
            found = deletion_curve(logits, images, classes, maps, steps=4)
        for row in range(5):
            x, order = (
                images[row].flatten().double().numpy(),
                maps[row].flatten().argsort(descending=True),
            )
            for step in range(5):
                y = x.copy()
                y[order[: 3 * step].numpy()] = x.mean()
                z = weight @ y + bias
                want = np.exp(z[classes[row]]) / np.exp(z).sum()
                assert abs(found[row, step].item() - want) < 1e-6
        assert area(torch.tensor([[1.0, 0.5, 0.25]])).item() == pytest.approx(0.5625)

    def test_the_important_first_is_faster_than_chance(self, trial):
        """A map that knows the stripe beats one that knows nothing; its reverse is worse."""
        batch = trial.test.batch(torch.arange(60))
        truth = torch.zeros(60, 12, 12)
        for row, target in enumerate(batch.targets.tolist()):
            truth[row, 4 * target : 4 * target + 4] = 1
        with whitebox(trial.models["student"]) as logits:
            given = (logits, batch.inputs, batch.targets)
            best, lot, worst = (
                area(deletion_curve(*given, one)).mean()
                for one in (truth, chance(batch.inputs, batch.ids, 0), 1 - truth)
            )
        assert best < lot - 0.1
        assert best < worst - 0.1

    def test_chance_goes_by_the_id(self):
        images, ids = torch.zeros(6, 1, 4, 4), torch.arange(6)
        assert torch.equal(chance(images, ids, 1)[2:], chance(images[2:], ids[2:], 1))

    def test_hiding_the_only_mark_costs_the_answer(self):
        class Corner(nn.Module):
            def forward(self, x):
                mark = x[:, 0, :3, :3].mean((1, 2))
                return torch.stack([0.5 - mark, mark - 0.5], 1)

        images = 0.4 * torch.ones(8, 1, 12, 12)
        images[:4, :, :3, :3] = 1
        targets = torch.tensor([1] * 4 + [0] * 4)
        with whitebox(Observed(Corner())) as logits:
            cost = hidden_cells(logits, images, targets, 4)
        assert cost[:4, 0].eq(1).all()
        assert cost[:, 1:].eq(0).all()
        assert cost[4:].eq(0).all()
