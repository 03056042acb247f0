"""Students with fewer layers: right by configuration, cache, first block, and on disk."""

import copy
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.models.shrunk import chosen_layers, fewer_layers
from tutelage.models.shrunk.choosing import best, spaced

transformers = pytest.importorskip("transformers")

MODELS = Path(os.environ.get("TUTELAGE_MODELS", "nowhere"))

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "vocab_size": 40}
IDS = torch.randint(0, 40, (2, 7), generator=torch.Generator().manual_seed(0))


def llama(layers=6, **options):
    torch.manual_seed(0)
    given = {"num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, **SIZES, **options}
    config = transformers.LlamaConfig(num_hidden_layers=layers, initializer_range=0.2, **given)
    return transformers.LlamaForCausalLM(config).eval()


def bert(layers=6, kind="BertModel", **options):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        num_hidden_layers=layers, initializer_range=0.2, **SIZES, **options
    )
    return getattr(transformers, kind)(config).eval()


def t5(encoder=4, decoder=3):
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=16, d_kv=4, d_ff=32, num_heads=4, vocab_size=40, decoder_start_token_id=0,
        num_layers=encoder, num_decoder_layers=decoder,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config).eval()


@torch.no_grad()
def test_the_student_is_the_teacher_with_the_other_blocks_skipped():
    teacher = llama()
    student = fewer_layers(teacher, [0, 2, 5])
    by_hand = copy.deepcopy(teacher)
    by_hand.model.layers = nn.ModuleList([by_hand.model.layers[i] for i in (0, 2, 5)])
    by_hand.config.num_hidden_layers = 3
    torch.testing.assert_close(student(IDS).logits, by_hand(IDS, use_cache=False).logits)
    assert student.config.num_hidden_layers == len(student.model.layers) == 3
    assert teacher.config.num_hidden_layers == len(teacher.model.layers) == 6


def test_teacher_and_student_share_nothing_and_all_of_the_student_learns():
    teacher = llama().requires_grad_(False)
    student = fewer_layers(teacher, 2)
    theirs = {p.data_ptr() for p in teacher.parameters()}
    assert not theirs & {p.data_ptr() for p in student.parameters()}
    assert all(p.requires_grad for p in student.parameters())
    assert not student.training
    assert student.lm_head.weight is not student.model.embed_tokens.weight
    tied = fewer_layers(llama(tie_word_embeddings=True), 2)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight


@torch.no_grad()
def test_half_precision_and_the_way_attention_is_computed_stay():
    teacher = llama().bfloat16()
    teacher.set_attn_implementation("eager")
    student = fewer_layers(teacher, [1, 3])
    assert {p.dtype for p in student.parameters()} == {torch.bfloat16}
    assert student.config._attn_implementation == "eager"
    assert torch.equal(
        student.model.layers[1].mlp.up_proj.weight, teacher.model.layers[3].mlp.up_proj.weight
    )
    assert student(IDS).logits.dtype == torch.bfloat16


def test_the_programs_random_numbers_are_left_alone():
    teacher = llama()
    before = torch.random.get_rng_state()
    fewer_layers(teacher, 2)
    assert torch.equal(torch.random.get_rng_state(), before)


@torch.no_grad()
def test_layers_are_numbered_anew_for_the_cache_of_keys_and_values():
    student = fewer_layers(llama(), [1, 4])
    assert [block.self_attn.layer_idx for block in student.model.layers] == [0, 1]
    whole = student(IDS, use_cache=False).logits
    first = student(IDS[:, :4], use_cache=True)
    assert len(first.past_key_values.layers) == 2
    later = student(IDS[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    torch.testing.assert_close(later.logits, whole[:, 4:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [llama, bert, t5], ids=["llama", "bert", "t5"])
@torch.no_grad()
def test_it_is_saved_in_the_layout_of_transformers_and_loads_again(make, tmp_path):
    student = fewer_layers(make(), 2)
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path, use_safetensors=True).eval()
    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS[:, :3]} if make is t5 else {})
    assert again.config.num_hidden_layers == 2
    torch.testing.assert_close(again(**inputs)[0], student(**inputs)[0])


def test_kinds_of_layers_in_the_configuration_follow_the_blocks():
    kinds = ["full_attention", "sliding_attention"] * 3
    config = transformers.Qwen2Config(
        num_hidden_layers=6, layer_types=kinds, use_sliding_window=True, sliding_window=3,
        num_key_value_heads=2, **SIZES,
    )  # fmt: skip
    teacher = transformers.Qwen2ForCausalLM(config).eval()
    student = fewer_layers(teacher, [0, 1, 5])
    assert student.config.layer_types == [kinds[0], kinds[1], kinds[5]]
    for place, number in enumerate([0, 1, 5]):
        theirs, ours = teacher.model.layers[number], student.model.layers[place]
        assert ours.self_attn.sliding_window == theirs.self_attn.sliding_window


def test_blocks_whose_kind_the_configuration_would_change_are_refused():
    config = transformers.SmolLM3Config(
        num_hidden_layers=4, no_rope_layers=[1, 0, 1, 0], num_key_value_heads=2, pad_token_id=0,
        **SIZES,
    )  # fmt: skip
    teacher = transformers.SmolLM3ForCausalLM(config)
    assert fewer_layers(teacher, [1, 2]).config.no_rope_layers == [0, 1]
    gpt2 = transformers.GPT2Config(
        n_embd=16, n_layer=4, n_head=2, vocab_size=40, scale_attn_by_inverse_layer_idx=True
    )
    with pytest.raises(ModelError, match="scaled by the number of its layer"):
        fewer_layers(transformers.GPT2LMHeadModel(gpt2), 2)


def test_other_families_say_their_number_of_layers_under_other_names():
    gpt2 = transformers.GPT2Config(n_embd=16, n_layer=4, n_head=2, vocab_size=40)
    assert fewer_layers(transformers.GPT2LMHeadModel(gpt2), 2).config.n_layer == 2
    small = transformers.DistilBertConfig(
        dim=16, n_layers=4, n_heads=2, hidden_dim=16, vocab_size=40
    )
    assert fewer_layers(transformers.DistilBertModel(small), 3).config.n_layers == 3
    bart = transformers.BartConfig(
        d_model=16, encoder_layers=3, decoder_layers=4, encoder_attention_heads=2, vocab_size=40,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    student = fewer_layers(transformers.BartModel(bart), {"decoder": 2})
    assert (student.config.encoder_layers, student.config.decoder_layers) == (3, 2)
    assert [block.self_attn.layer_idx for block in student.decoder.layers] == [0, 1]


@torch.no_grad()
def test_what_only_t5s_first_block_has_goes_to_the_block_that_comes_first():
    teacher = t5()
    student = fewer_layers(teacher, {"encoder": [1, 3], "decoder": [2]})
    assert (student.config.num_layers, student.config.num_decoder_layers) == (2, 1)
    for side in ("encoder", "decoder"):
        theirs = getattr(teacher, side).block[0].layer[0].SelfAttention.relative_attention_bias
        ours = getattr(student, side).block[0].layer[0].SelfAttention.relative_attention_bias
        torch.testing.assert_close(ours.weight, theirs.weight)
    theirs, ours = teacher.encoder.block[3], student.encoder.block[1]
    assert torch.equal(ours.layer[0].SelfAttention.q.weight, theirs.layer[0].SelfAttention.q.weight)
    assert student(input_ids=IDS, decoder_input_ids=IDS[:, :3]).logits.isfinite().all()


class Own(nn.Module):
    """Somebody's own model: blocks in a ModuleList, told their number."""

    def __init__(self, layers=5):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4) for _ in range(layers)])
        for number, block in enumerate(self.blocks):
            block.layer_idx = number
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x).tanh()
        return self.head(x)


@torch.no_grad()
def test_any_model_with_a_list_of_equal_blocks_can_lose_some():
    teacher = Own().requires_grad_(False)
    student = fewer_layers(teacher, [1, 4])
    assert [block.layer_idx for block in student.blocks] == [0, 1]
    assert len(teacher.blocks) == 5
    assert teacher.blocks[4].layer_idx == 4
    x = torch.ones(2, 4)
    hidden = x + teacher.blocks[1](x).tanh()
    hidden = hidden + teacher.blocks[4](hidden).tanh()
    torch.testing.assert_close(student(x), teacher.head(hidden))
    assert all(p.requires_grad for p in student.parameters())


@torch.no_grad()
def test_a_transformers_model_inside_another_module_is_shrunk_there():
    class Sentence(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.scale = bert(), nn.Parameter(torch.tensor(2.0))

        def forward(self, input_ids):
            return self.body(input_ids).last_hidden_state.mean(1) * self.scale

    teacher = Sentence()
    student = fewer_layers(teacher, 2)
    assert isinstance(student, Sentence)
    assert len(student.body.encoder.layer) == 2
    assert len(teacher.body.encoder.layer) == 6
    assert student.scale is not teacher.scale
    torch.testing.assert_close(student(IDS), fewer_layers(teacher.body, 2)(IDS)[0].mean(1) * 2)


def test_even_is_what_distilbert_takes_and_goes_from_end_to_end():
    assert spaced(12, 6) == [0, 2, 4, 7, 9, 11]  # scripts/extract.py of its authors
    assert spaced(30, 10) == [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]
    for total in range(1, 40):
        for keep in range(1, total + 1):
            chosen = spaced(total, keep)
            assert len(set(chosen)) == keep
            assert chosen == sorted(chosen)
            assert chosen[0] == 0
            assert keep == 1 or chosen[-1] == total - 1
    assert best([0.2, 0.9, 0.2, 0.4], 3) == [0, 1, 3]


def test_ends_and_lists_are_taken_as_they_are_said():
    teacher = Own()
    assert chosen_layers(teacher, 2, choose="first") == {"blocks": [0, 1]}
    assert chosen_layers(teacher, 2, choose="last") == {"blocks": [3, 4]}
    assert chosen_layers(teacher, [0, 3], choose="importance") == {"blocks": [0, 3]}
    assert chosen_layers(teacher, {"blocks": 1}) == {"blocks": [0]}


@pytest.mark.parametrize(
    ("keep", "choose", "words"),
    [
        (9, "even", "'blocks' has 5 blocks, and 9 were to stay: give a number from 1 to 5"),
        (0, "even", "and 0 were to stay"),
        (True, "even", "how many, or by their numbers from 0 to 4 in rising order, got True"),
        ([3, 1], "even", r"in rising order, got \[3, 1\]"),
        ([1, 1], "even", "in rising order"),
        ([], "even", "in rising order"),
        ([0, 5], "even", "in rising order"),
        ({"block": 2}, "even", "'block' is the name of no stack of blocks. Did you mean 'blocks'"),
        ({}, "even", "must name each stack once"),
        (2, "evne", "no choice of layers 'evne'. Did you mean 'even'"),
    ],
)
def test_wrong_wishes_are_one_line(keep, choose, words):
    with pytest.raises(ModelError, match=words) as caught:
        fewer_layers(Own(), keep, choose=choose)
    assert "\n" not in str(caught.value)


def test_calibration_that_is_missing_or_wrong_is_said():
    with pytest.raises(DataError, match="none was given: give some batches"):
        fewer_layers(Own(), 2, choose="importance")
    with pytest.raises(DataError, match="must be of the class Batch, got a Tensor"):
        fewer_layers(Own(), 2, choose="importance", batches=[torch.ones(2, 4)])
    with pytest.raises(ModelError, match="Linear has no ModuleList of 2 or more equal blocks"):
        fewer_layers(nn.Linear(2, 2), 1)
    with pytest.raises(ModelError, match="'block' is the name of 2 stacks"):
        fewer_layers(t5(), {"block": 1})


def test_batches_are_needed_only_where_something_is_measured():
    assert len(fewer_layers(Own(), 2, batches=[Batch(torch.ones(2, 4))]).blocks) == 2


@pytest.mark.data
@pytest.mark.skipif(not (MODELS / "smollm2").is_dir(), reason="set TUTELAGE_MODELS")
def test_smollm2_of_ten_layers_has_63_7_million_parameters():
    teacher = transformers.AutoModelForCausalLM.from_pretrained(MODELS / "smollm2")
    student = fewer_layers(teacher, 10)
    assert round(sum(p.numel() for p in student.parameters()) / 1e6, 1) == 63.7
    assert student(IDS).logits.isfinite().all()


@pytest.mark.data
@pytest.mark.skipif(not (MODELS / "minilm").is_dir(), reason="set TUTELAGE_MODELS")
@pytest.mark.parametrize(("layers", "kept"), [(3, [0, 3, 5]), (2, [0, 5])])
def test_minilm_of_three_and_two_layers(layers, kept):
    teacher = transformers.AutoModel.from_pretrained(MODELS / "minilm")
    assert chosen_layers(teacher, layers) == {"encoder.layer": kept}
    student = fewer_layers(teacher, layers)
    assert student(IDS).last_hidden_state.shape == (2, 7, 384)
