"""Language models write: as the library does, each row by itself."""

import numpy as np
import pytest
import torch
from language_models import QUIET, VOCABULARY, make
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, RecipeError
from tutelage.models import Frozen, Observed, build_model, tempered
from tutelage.models.drawing import drawn
from tutelage.models.generation import Draw, generate
from tutelage.models.headless import without_head
from tutelage.models.writing_on import next_logits

pytest.importorskip("transformers")
pytestmark = QUIET

CACHED = ["LlamaForCausalLM", "MistralForCausalLM", "GPT2LMHeadModel", "gpt"]


def model_of(name):
    if name != "gpt":
        return make(name)
    torch.manual_seed(0)
    options = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2}
    model = build_model({"gpt": options}, classes=VOCABULARY, shape=(8,))
    for weight in model.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.3)
    return model


def prompts():
    torch.manual_seed(3)
    tokens = torch.randint(3, VOCABULARY, (4, 6))
    mask = torch.tensor([[1] * 6, [0] * 2 + [1] * 4, [0] * 5 + [1], [0] + [1] * 5])
    return tokens * mask, mask


def plainly(observed):
    """The same model behind a reader that no cache is known for."""
    read = observed.read
    return Observed(observed.model, read=lambda model, inputs: read(model, inputs))


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_the_likeliest_tokens_are_those_of_the_library(name):
    model, (tokens, mask) = make(name), prompts()
    free = model.generate(
        tokens, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    end = int(free[0, 9])  # a token that is written, so that a row ends early
    found = generate(Observed(model), tokens, mask, Draw(12, temperature=0, end=end), seed=0)
    options = {"do_sample": False, "eos_token_id": end, "pad_token_id": end}
    wanted = model.generate(tokens, attention_mask=mask, max_new_tokens=12, **options)
    assert torch.equal(found.tokens[:, : wanted.shape[1]], wanted)
    assert int(found.written[0].sum()) <= 4
    assert bool((found.tokens[0, 10:] == end).all())


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("name", CACHED)
def test_what_is_kept_gives_what_reading_anew_gives(name, temperature):
    observed, (tokens, mask) = Observed(model_of(name)), prompts()
    draw = Draw(8, temperature=temperature, top_p=0.95)
    kept = generate(observed, tokens, mask, draw, seed=1)
    anew = generate(plainly(observed), tokens, mask, draw, seed=1)
    assert torch.equal(kept.tokens, anew.tokens)
    torch.testing.assert_close(kept.log_probs, anew.log_probs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CACHED)
def test_a_model_that_keeps_reads_each_token_once(name):
    observed, read = Observed(model_of(name)), []
    first = observed.lend(["embed"])["embed"]
    first.register_forward_pre_hook(lambda module, args: read.append(args[0].shape[1]))
    generate(observed, *prompts(), Draw(4), seed=0)
    assert read == [6, 1, 1, 1]


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "gpt"])
def test_a_row_writes_the_same_in_any_company_and_with_any_padding(name):
    observed, (tokens, mask) = Observed(model_of(name)), prompts()
    ids, draw = torch.tensor([7, 0, 123_456_789, 3]), Draw(10, temperature=1.0)
    together = generate(observed, tokens, mask, draw, seed=5, ids=ids)
    for row in range(4):
        real = mask[row] == 1
        alone = generate(
            observed, tokens[row][real][None], mask[row][real][None], draw, seed=5, ids=ids[[row]]
        )
        assert torch.equal(alone.tokens[0, -10:], together.tokens[row, -10:])
    order = torch.tensor([2, 0, 3, 1])
    turned = generate(observed, tokens[order], mask[order], draw, seed=5, ids=ids[order])
    assert torch.equal(turned.tokens, together.tokens[order])


def test_draws_differ_by_seed_by_id_and_by_place():
    observed = Observed(model_of("gpt"))
    tokens, mask = torch.full((3, 2), 5), torch.ones(3, 2).long()
    first = generate(observed, tokens, mask, Draw(12, temperature=5.0), seed=0).tokens[:, 2:]
    again = generate(observed, tokens, mask, Draw(12, temperature=5.0), seed=0).tokens[:, 2:]
    other = generate(observed, tokens, mask, Draw(12, temperature=5.0), seed=1).tokens[:, 2:]
    assert torch.equal(first, again)
    assert len({tuple(row) for row in [*first.tolist(), *other.tolist()]}) == 6
    assert all(len(set(row)) > 3 for row in first.tolist())


def test_log_probabilities_are_those_of_reading_what_was_written():
    observed, (tokens, mask) = Observed(model_of("LlamaForCausalLM")), prompts()
    found = generate(observed, tokens, mask, Draw(5, temperature=2.0, top_k=9), seed=2)
    whole = torch.cat([mask, torch.ones(4, 5).long()], dim=1)
    with torch.no_grad():
        logits = observed(Batch({"input_ids": found.tokens, "attention_mask": whole})).logits
    wanted = logits.log_softmax(-1)[:, 5:-1].gather(-1, found.tokens[:, 6:, None]).squeeze(-1)
    torch.testing.assert_close(found.log_probs, wanted, rtol=1e-4, atol=1e-4)
    assert found.log_probs.dtype == torch.float32


def test_written_marks_the_answer_up_to_and_including_its_end():
    observed, (tokens, mask) = Observed(model_of("gpt")), prompts()
    free = generate(observed, tokens, mask, Draw(6, temperature=0), seed=0)
    end = int(free.tokens[1, 7])
    found = generate(observed, tokens, mask, Draw(6, temperature=0, end=end), seed=0)
    for row in range(4):
        answer = free.tokens[row, 6:].tolist()
        stop = answer.index(end) + 1 if end in answer else 6
        assert found.written[row].tolist() == [False] * 6 + [True] * stop + [False] * (6 - stop)
        assert found.tokens[row, 6 + stop :].tolist() == [end] * (6 - stop)
        assert found.log_probs[row, stop:].abs().sum() == 0
        torch.testing.assert_close(found.log_probs[row, :stop], free.log_probs[row, :stop])


def test_every_module_has_its_mode_again_and_there_is_no_graph():
    model = model_of("gpt").train()
    model.layer1.eval()
    before = [module.training for module in model.modules()]
    found = generate(Observed(model), *prompts(), Draw(2), seed=0)
    assert [module.training for module in model.modules()] == before
    assert not found.log_probs.requires_grad
    frozen = Frozen(Observed(model_of("gpt")))
    assert torch.equal(generate(frozen, *prompts(), Draw(2), seed=0).tokens, found.tokens)


def test_dropout_does_not_act():
    options = {"width": 32, "layers": 1, "dropout": 0.5}
    model = build_model({"gpt": options}, classes=VOCABULARY, shape=(8,)).train()
    found = [generate(Observed(model), *prompts(), Draw(4), seed=0) for _ in range(2)]
    assert torch.equal(found[0].log_probs, found[1].log_probs)


def test_a_model_whose_logits_are_changed_behind_it_writes_by_those():
    observed, (tokens, mask) = Observed(model_of("gpt")), prompts()
    cool = generate(tempered(observed, 0.5), tokens, mask, Draw(4), seed=0)
    same = generate(observed, tokens, mask, Draw(4, temperature=0.5), seed=0)
    assert torch.equal(cool.tokens, same.tokens)
    assert not torch.allclose(cool.log_probs, same.log_probs, atol=1e-2)


def test_a_student_without_its_head_writes_with_it():
    observed = Observed(model_of("gpt"))
    wanted = generate(observed, *prompts(), Draw(3), seed=0)
    found = generate(without_head(observed, always=True), *prompts(), Draw(3), seed=0)
    assert torch.equal(found.tokens, wanted.tokens)


def test_another_order_of_tokens_is_followed():
    model, order = model_of("gpt"), [*range(VOCABULARY)][::-1]
    tokens, mask = prompts()
    steps = next_logits(Observed(model, classes=order), tokens, mask, mask.cumsum(1) - 1, 5)
    plain = next_logits(Observed(model), tokens, mask, mask.cumsum(1) - 1, 5)
    torch.testing.assert_close(next(steps), next(plain).flip(-1))


class Counting(nn.Module):
    """A causal model of another make: the next token is this one plus one."""

    takes_names = True

    def forward(self, input_ids, attention_mask):
        return nn.functional.one_hot((input_ids + 1) % 10, 10).float() * 50


def test_any_other_causal_model_reads_anew():
    tokens, mask = torch.tensor([[4, 7], [0, 2]]), torch.tensor([[1, 1], [0, 1]])
    found = generate(Observed(Counting()), tokens, mask, Draw(4, end=0), seed=0)
    assert found.tokens.tolist() == [[4, 7, 8, 9, 0, 0], [0, 2, 3, 4, 5, 6]]


def test_drawing_is_its_formula():
    rng = np.random.default_rng(0)
    logits, chances = rng.normal(size=(40, 12)) * 2, rng.random(40)
    for temperature, top_p, top_k in (
        (1.0, 1.0, None),
        (0.7, 0.6, None),
        (2.0, 1.0, 3),
        (1.5, 0.7, 5),
    ):
        draw = Draw(1, temperature=temperature, top_p=top_p, top_k=top_k)
        found = drawn(torch.tensor(logits), draw, torch.tensor(chances)).tolist()
        for row, chance, got in zip(logits, chances, found, strict=True):
            p = np.exp(row / temperature)
            p /= p.sum()
            ranked = sorted(range(12), key=lambda c: -p[c])[:top_k]
            kept, mass = [], 0.0
            for c in ranked:
                if mass >= top_p * sum(p[c] for c in ranked):
                    break
                kept.append(c)
                mass += p[c]
            below, wanted = 0.0, None
            for c in sorted(kept):
                below += p[c] / mass
                if chance < below:
                    wanted = c
                    break
            assert got == wanted


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log().expand(4000, 4)
    torch.manual_seed(0)
    found = drawn(logits, Draw(1), torch.rand(4000).double())
    shares = torch.bincount(found, minlength=4) / 4000
    torch.testing.assert_close(shares, logits[0].exp(), rtol=0, atol=0.03)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"most": 0}, "most must be at least 1 token, got 0"),
        ({"most": 1, "temperature": -1}, "temperature must be a number from 0, got -1"),
        ({"most": 1, "top_p": 0}, "top_p must be above 0 and at most 1, got 0"),
        ({"most": 1, "top_k": 0}, "top_k must be at least 1, got 0"),
    ],
)
def test_a_draw_out_of_range_is_one_line(options, words):
    with pytest.raises(RecipeError, match=words):
        Draw(**options)


@pytest.mark.parametrize(
    ("tokens", "mask", "most", "words"),
    [
        ([[3, 4]], [[1, 0]], 2, "a row ends in padding, or has a hole"),
        ([[3, 4, 5]], [[1, 0, 1]], 2, "a row ends in padding, or has a hole"),
        ([[3, 4]], [[1]], 2, r"prompts \(N, P\) and a mask of that shape"),
        (
            [[3, 4]],
            [[1, 1]],
            63,
            "prompts of up to 2 tokens and 63 more are 65, .* has 64 positions",
        ),
    ],
)
def test_prompts_that_cannot_be_written_on_are_one_line(tokens, mask, most, words):
    observed = Observed(make("LlamaForCausalLM"))
    with pytest.raises(ModelError, match=words) as caught:
        generate(observed, torch.tensor(tokens), torch.tensor(mask), Draw(most), seed=0)
    assert "\n" not in str(caught.value)


def test_what_is_no_language_model_is_told():
    classifier = make("BertForSequenceClassification", config="BertConfig")
    with pytest.raises(ModelError, match=r"one that writes answers \(N, T, V\)"):
        generate(Observed(classifier), *prompts(), Draw(1), seed=0)
    with pytest.raises(ModelError, match="generate takes an Observed, got a Linear"):
        generate(nn.Linear(2, 2), *prompts(), Draw(1), seed=0)
