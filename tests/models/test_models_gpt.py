"""The zoo's language model: against the library's Llama, its cache, its positions, its packing."""

import numpy as np
import pytest
import torch
from language_models import QUIET, VOCABULARY, packed
from language_models import zoo_gpt as gpt
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Observed, load_weights, save_weights
from tutelage.models.documents import causal_view, document_numbers, positions_of
from tutelage.models.hf_layout import as_llama
from tutelage.models.zoo.key_values import KeyValues
from tutelage.models.zoo.rotary import turned, turns

pytestmark = QUIET


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_it_is_the_library_s_llama(kv_heads, tied):
    pytest.importorskip("transformers")
    model = gpt(kv_heads=kv_heads, tied=tied, base=500.0)
    other = as_llama(model)
    for inputs in ({"input_ids": torch.randint(VOCABULARY, (3, 9))}, packed()[0]):
        ours, theirs = (Observed(each)(Batch(inputs)).logits for each in (model, other))
        torch.testing.assert_close(ours[:, :9], theirs[:, :9], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
def test_a_token_sees_only_what_was_before_it(activation):
    model, tokens = gpt(activation=activation), torch.randint(VOCABULARY, (2, 8))
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % VOCABULARY
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-2)


def test_more_tokens_than_it_has_room_for_are_refused_in_one_line():
    with pytest.raises(ModelError, match="this gpt reads 8 tokens, and got 9: cut them") as error:
        gpt(length=8)(torch.zeros(1, 9, dtype=torch.long))
    assert "\n" not in str(error.value)


def test_a_shift_of_all_positions_changes_nothing():
    """Rotary positions are relative; and a later start is still one document."""
    model, tokens = gpt(), torch.randint(VOCABULARY, (1, 6))
    shifted = model(tokens, position_ids=torch.arange(40, 46)[None])
    torch.testing.assert_close(shifted, model(tokens), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_reading_in_two_parts_is_reading_at_once(cut):
    model, tokens = gpt(), torch.randint(VOCABULARY, (3, 7))
    mask = torch.tensor([[1] * 7, [0] * 2 + [1] * 5, [0] * 5 + [1] * 2])
    whole, cache = model(tokens, mask), KeyValues(7)
    first = model(tokens[:, :cut], mask[:, :cut], cache=cache)
    rest = model(tokens[:, cut:], mask, cache=cache)
    seen = mask.bool()
    parts = torch.cat([first, rest], dim=1)
    torch.testing.assert_close(parts[seen], whole[seen], rtol=1e-4, atol=1e-4)
    assert cache.length == 7


def test_half_precision_keeps_positions_exact():
    """Far apart, positions in bfloat16 would be the same: 1000 and 1001 are."""
    states = torch.ones(1, 1, 2, 8, dtype=torch.bfloat16)
    far = turned(states, turns(torch.tensor([[1000, 1001]]), 8, 10_000.0))
    assert far.dtype == torch.bfloat16
    assert (far[0, 0, 0] - far[0, 0, 1]).abs().max() > 0.2
    exact = turned(states.double(), turns(torch.tensor([[1000, 1001]]), 8, 10_000.0))
    torch.testing.assert_close(far.double(), exact, rtol=0.01, atol=0.01)
    logits = gpt().bfloat16()(torch.randint(VOCABULARY, (1, 5)))
    assert logits.dtype == torch.bfloat16
    assert bool(logits.isfinite().all())


def test_turning_is_its_formula():
    rng = np.random.default_rng(0)
    states, places, size, base = rng.normal(size=(1, 2, 3, 6)), [4, 0, 9], 6, 100.0
    wanted = np.zeros_like(states)
    for t, place in enumerate(places):
        for i in range(size // 2):
            angle = place * base ** (-2 * i / size)
            a, b = states[:, :, t, i], states[:, :, t, i + size // 2]
            wanted[:, :, t, i] = a * np.cos(angle) - b * np.sin(angle)
            wanted[:, :, t, i + size // 2] = a * np.sin(angle) + b * np.cos(angle)
    found = turned(torch.tensor(states), turns(torch.tensor([places]), size, base))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-5)


def test_who_sees_whom_is_counted_out():
    places = torch.tensor([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
    documents = [[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, -1, -2]]
    view = causal_view(6, places, mask)[:, 0]
    for row in range(2):
        for i in range(6):
            for j in range(6):
                same = documents[row][i] == documents[row][j]
                assert bool(view[row, i, j]) == (j <= i and same)
    alone = causal_view(2, None, torch.tensor([[0, 1, 1, 1]]), past=2)[0, 0]
    assert alone.tolist() == [[False, True, True, False], [False, True, True, True]]
    assert causal_view(4, None, None) is None
    left = causal_view(3, None, torch.tensor([[0, 0, 1]]))[0, 0]
    assert left.tolist() == [[True, False, False], [False, True, False], [False, False, True]]


def test_documents_of_one_token_are_documents():
    assert document_numbers(torch.tensor([[0, 0, 0, 1]])).tolist() == [[0, 1, 2, 2]]
    padded = document_numbers(torch.tensor([[0, 1, 2]]), torch.tensor([[0, 0, 1]]))
    assert len(set(padded[0].tolist())) == 3
    assert positions_of(torch.tensor([[0, 1, 0, 1]])).tolist() == [[0, 0, 0, 1]]


def test_tied_weights_are_one_tensor_in_a_file(tmp_path):
    model, other = gpt(), gpt()
    nn.init.zeros_(other.embed.weight)
    save_weights(model, tmp_path / "model.safetensors")
    load_weights(other, tmp_path / "model.safetensors")
    assert other.linear.weight is other.embed.weight
    assert torch.equal(other.embed.weight, model.embed.weight)
    assert gpt(tied=False).linear.weight is not gpt(tied=False).embed.weight


def test_an_answer_has_its_gradient_through_head_and_embedding_alike():
    model = gpt()
    model(torch.tensor([[1, 2]])).sum().backward()
    rows = model.embed.weight.grad.abs().sum(1)
    assert bool((rows > 0).all())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns of its own ways
def test_it_is_exported_with_padding_for_any_number_and_length_of_texts(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = gpt()
    rows, length = torch.export.Dim("n"), torch.export.Dim("t", max=1024)
    inputs = torch.randint(VOCABULARY, (2, 6)), torch.ones(2, 6, dtype=torch.long)
    program = torch.onnx.export(
        model,
        inputs,
        dynamo=True,
        dynamic_shapes=({0: rows, 1: length}, {0: rows, 1: length}),
        verbose=False,
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [one.name for one in session.get_inputs()]
    for shape in ((1, 3), (4, 11)):
        tokens, mask = torch.randint(VOCABULARY, shape), torch.ones(shape, dtype=torch.long)
        mask[:, 0] = 0
        feed = dict(zip(names, (tokens.numpy(), mask.numpy()), strict=True))
        (found,) = session.run(None, feed)
        wanted = model(tokens, mask).detach()
        torch.testing.assert_close(torch.tensor(found), wanted, rtol=1e-3, atol=1e-3)
