"""Students that know fewer tokens."""

import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.models import Observed
from tutelage.models.shrunk import TokenMap, fewer_tokens

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 16, "intermediate_size": 20, "vocab_size": 30, "num_hidden_layers": 2}
KEEP = [4, 1, 29, 7, 2, 15, 0]


def llama(**options):
    torch.manual_seed(0)
    given = {"num_attention_heads": 2, "bos_token_id": 1, "eos_token_id": [2, 9], **SIZES}
    config = transformers.LlamaConfig(initializer_range=0.3, **given | options)
    return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_kept_tokens_have_the_logits_they_had(tied):
    teacher = llama(tie_word_embeddings=tied)
    student, tokens = fewer_tokens(teacher, KEEP)
    assert tokens.kept.tolist() == [0, 1, 2, 4, 7, 9, 15, 29]  # 9 is an end, and stays
    old = tokens.kept[torch.tensor([[3, 0, 7, 4]])]
    assert torch.equal(tokens.to_new(old), torch.tensor([[3, 0, 7, 4]]))
    wanted = teacher(old).logits[..., tokens.kept]
    torch.testing.assert_close(student(tokens.to_new(old)).logits, wanted)
    assert student.lm_head.out_features == student.model.embed_tokens.num_embeddings == 8
    assert (student.lm_head.weight is student.model.embed_tokens.weight) == tied


@torch.no_grad()
def test_probabilities_of_kept_tokens_are_the_old_ones_divided_by_their_sum():
    teacher = llama()
    student, tokens = fewer_tokens(teacher, KEEP)
    old = torch.tensor([[4, 7, 15]])
    whole = teacher(old).logits.double().softmax(-1)[..., tokens.kept]
    found = student(tokens.to_new(old)).logits.double().softmax(-1)
    torch.testing.assert_close(found, whole / whole.sum(-1, keepdim=True), rtol=1e-5, atol=1e-8)


def test_numbers_in_the_configuration_follow(tmp_path):
    teacher = llama(pad_token_id=15)
    teacher.generation_config.suppress_tokens = [3, 7]
    student, _ = fewer_tokens(teacher, KEEP)
    config = student.config
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, [2, 5], 6)
    assert config.vocab_size == 8
    assert student.model.embed_tokens.padding_idx == 6
    assert student.generation_config.eos_token_id == [2, 5]
    assert student.generation_config.suppress_tokens == [4]
    student.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    assert again.lm_head.out_features == 8
    assert teacher.generation_config.eos_token_id == [2, 9]


@torch.no_grad()
def test_a_masked_language_model_loses_rows_of_its_decoder_and_its_bias():
    torch.manual_seed(0)
    config = transformers.BertConfig(num_attention_heads=2, initializer_range=0.3, **SIZES)
    teacher = transformers.BertForMaskedLM(config).eval()
    teacher.cls.predictions.bias.copy_(torch.arange(30.0))
    student, tokens = fewer_tokens(teacher, KEEP)
    old = torch.tensor([[4, 7, 15]])
    wanted = teacher(old).logits[..., tokens.kept]
    torch.testing.assert_close(student(tokens.to_new(old)).logits, wanted)


@torch.no_grad()
def test_the_map_puts_the_teachers_logits_in_the_students_order():
    teacher = llama()
    student, tokens = fewer_tokens(teacher, KEEP)
    old = torch.tensor([[4, 7, 15]])
    seen = Observed(teacher, classes=tokens.kept.tolist())(Batch({"input_ids": old}))
    torch.testing.assert_close(student(tokens.to_new(old)).logits, seen.logits)


def test_tokens_that_are_not_kept_are_refused_unless_something_stands_for_them():
    tokens = TokenMap(torch.tensor([0, 2, 5]), 6)
    asked = torch.tensor([5, -100, 2])
    assert tokens.to_new(asked).tolist() == [2, -100, 1]
    assert tokens.to_old(tokens.to_new(asked)).tolist() == asked.tolist()
    with pytest.raises(DataError, match="token 3 is not kept: keep it, or give the number"):
        tokens.to_new(torch.tensor([5, 3]))
    assert tokens.to_new(torch.tensor([5, 3]), unknown=0).tolist() == [2, 0]
    with pytest.raises(DataError, match="token 6 is none of the 6"):
        tokens.to_new(torch.tensor([6]))
    with pytest.raises(DataError, match="token 3 is not kept"):  # what stands for it is not there
        tokens.to_new(torch.tensor([3]), unknown=4)


@pytest.mark.parametrize("keep", [[30], [-1], [True], [1.5]])
def test_numbers_that_are_no_tokens_are_refused(keep):
    with pytest.raises(ModelError, match="tokens have numbers from 0 to 29"):
        fewer_tokens(llama(), keep)
