"""Which blocks matter: formulas against numpy, on blocks whose answer is known."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Frozen, Observed
from tutelage.models.shrunk import block_influence, chosen_layers, loss_left_out

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 30}
IDS = torch.randint(0, 30, (4, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4, [1] * 6])


def llama(layers=4):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        num_hidden_layers=layers, initializer_range=0.3, num_key_value_heads=1, **SIZES
    )
    return transformers.LlamaForCausalLM(config).eval()


def batches(*sizes):
    parts = zip(IDS.split(sizes or 4), MASK.split(sizes or 4), strict=True)
    return [Batch({"input_ids": ids, "attention_mask": mask}) for ids, mask in parts]


def test_block_influence_is_the_formula_of_the_paper():
    """ShortGPT, eq. 1: 1 - E[x_i . x_{i+1} / |x_i| |x_{i+1}|], over tokens that are no padding."""
    model, states = llama(), []
    hooks = [
        block.register_forward_hook(lambda _, args, out: states.append((args[0], out)))
        for block in model.model.layers
    ]
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=MASK)
    for hook in hooks:
        hook.remove()
    wanted = []
    for before, after in states:
        total = count = 0.0
        for row in range(4):
            for place in range(6):
                if MASK[row, place]:
                    x = before[row, place].numpy().astype(np.float64)
                    y = after[row, place].numpy().astype(np.float64)
                    total += x @ y / math.sqrt(x @ x) / math.sqrt(y @ y)
                    count += 1
        wanted.append(1 - total / count)
    found = block_influence(model, batches())["model.layers"]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


@pytest.mark.parametrize("measure", [block_influence, loss_left_out])
def test_it_is_of_no_matter_how_calibration_is_cut_into_batches(measure):
    whole, cut = (measure(llama(), each)["model.layers"] for each in (batches(), batches(1, 3)))
    torch.testing.assert_close(whole, cut, rtol=1e-5, atol=1e-9)


@torch.no_grad()
def test_the_loss_without_a_block_is_the_divergence_of_a_model_that_has_none():
    model = llama()
    whole = torch.log_softmax(model(input_ids=IDS, attention_mask=MASK).logits.double(), -1).numpy()
    wanted = []
    for left in range(4):
        other = copy.deepcopy(model)
        del other.model.layers[left]
        other.config.num_hidden_layers = 3
        answer = other(input_ids=IDS, attention_mask=MASK, use_cache=False).logits.double()
        without = torch.log_softmax(answer, -1).numpy()
        total = count = 0.0
        for row in range(4):
            for place in range(6):
                if MASK[row, place]:
                    for c in range(30):
                        p = whole[row, place, c]
                        total += math.exp(p) * (p - without[row, place, c])
                    count += 1
        wanted.append(total / count)
    found = loss_left_out(model, batches())["model.layers"]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-4)


@torch.no_grad()
def test_a_block_that_does_nothing_scores_zero_and_goes_first():
    model = llama()
    idle = model.model.layers[1]
    for weight in (idle.self_attn.o_proj.weight, idle.mlp.down_proj.weight):
        weight.zero_()
    for choose, measure in (("importance", block_influence), ("left_out", loss_left_out)):
        scores = measure(model, batches())["model.layers"]
        assert abs(float(scores[1])) < 1e-6
        assert float(scores[[0, 2, 3]].min()) > 1e-3
        kept = chosen_layers(model, 3, choose=choose, batches=batches())
        assert kept == {"model.layers": [0, 2, 3]}


@torch.no_grad()
def test_only_positions_that_count_are_looked_at_when_a_block_is_left_out():
    masked = Batch({"input_ids": IDS}, mask=torch.arange(6).expand(4, 6) == 2)
    model = llama()
    found = loss_left_out(model, [masked])["model.layers"]
    first = loss_left_out(model, [Batch({"input_ids": IDS[:, :3]}, mask=masked.mask[:, :3])])
    torch.testing.assert_close(found, first["model.layers"], rtol=1e-5, atol=1e-9)
    assert not torch.allclose(found, loss_left_out(model, batches())["model.layers"], rtol=1e-3)


def test_encoders_without_logits_are_compared_by_their_hidden_states():
    torch.manual_seed(0)
    config = transformers.BertConfig(num_hidden_layers=3, initializer_range=0.3, **SIZES)
    model = transformers.BertModel(config)
    found = loss_left_out(model, batches())["encoder.layer"]
    assert (found > 1e-3).all()
    assert (found < 2).all()


def test_encoder_and_decoder_are_looked_at_each_with_its_own_padding():
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=16, d_kv=4, d_ff=16, num_heads=4, vocab_size=30, decoder_start_token_id=0,
        num_layers=2, num_decoder_layers=3,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    inputs = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS[:, :6]}
    inputs |= {"decoder_attention_mask": MASK.flip(0)}
    for measure in (block_influence, loss_left_out):
        found = measure(model, [Batch(inputs)])
        assert {path: len(each) for path, each in found.items()} == {
            "encoder.block": 2,
            "decoder.block": 3,
        }
    longer = dict(inputs)  # what stands where there is padding is of no matter
    longer["decoder_input_ids"] = torch.where(MASK.flip(0).bool(), IDS, IDS.flip(1))
    torch.testing.assert_close(
        block_influence(model, [Batch(longer)])["decoder.block"],
        block_influence(model, [Batch(inputs)])["decoder.block"],
    )


class Maps(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x.flatten(1)


def test_maps_are_compared_channel_by_channel_at_each_place():
    turn = nn.Conv2d(2, 2, 1, bias=False)
    turn.weight.data = torch.tensor([[0.0, -1.0], [1.0, 0.0]])[:, :, None, None]
    same = nn.Conv2d(2, 2, 1, bias=False)
    same.weight.data = 3 * torch.eye(2)[:, :, None, None]
    found = block_influence(Maps(turn, same), [Batch(torch.rand(2, 2, 3, 3))])["blocks"]
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0]).double())


def test_the_model_is_left_as_it_was():
    model = llama().train()
    model.model.layers[1].eval()
    before = copy.deepcopy(model.state_dict())
    for measure in (block_influence, loss_left_out):
        measure(model, batches())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not model.model.layers[1].training
    assert model.model.layers[1].mlp.training is False
    assert not any(module._forward_hooks for module in model.model.layers)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("measure", [block_influence, loss_left_out])
def test_an_observed_model_is_asked_as_it_is(measure):
    found = measure(Frozen(Observed(llama())), batches())
    wanted = measure(llama(), batches())["model.layers"]
    torch.testing.assert_close(found["model.layers"], wanted)


def test_blocks_that_change_the_shape_and_answers_of_no_kind_are_told():
    class Shrinks(nn.Module):
        def forward(self, x):
            return x[:, :-1]

    with pytest.raises(ModelError, match=r"makes \(2, 4\) of \(2, 5\): only blocks that keep"):
        block_influence(Maps(Shrinks(), Shrinks()), [Batch(torch.ones(2, 5))])
