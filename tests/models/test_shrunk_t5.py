"""Encoder-decoders of T5's kind, narrower: against weights cut by hand, and exact where it can."""

import copy

import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models.shrunk import fewer_tokens, narrower, shrunk, width_scores

transformers = pytest.importorskip("transformers")

SIZES = {"d_model": 24, "d_kv": 4, "d_ff": 20, "num_heads": 6, "vocab_size": 40}
IDS = torch.randint(2, 40, (4, 7), generator=torch.Generator().manual_seed(0))
SAID = torch.randint(2, 40, (4, 7), generator=torch.Generator().manual_seed(1))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5, [1] * 7])
ASKED = {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": SAID}
BATCHES = [Batch(ASKED)]
KINDS = {
    "plain": {"feed_forward_proj": "relu"},
    "gated": {"feed_forward_proj": "gated-gelu"},
    "head not divided": {"tie_word_embeddings": False},
}
MAKES = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
SELVES, ACROSS = [[0, 2, 5], [1, 2, 3]], [[0, 1, 4], [2, 3, 5], [1, 3, 5]]
HEADS = [SELVES[0], SELVES[1], *ACROSS]  # encoder, decoder, and across in each of its blocks
UNITS = [[n, n + 3, n + 5, n + 9] for n in range(5)]  # two blocks that read, three that write
CHANNELS = [0, 1, 2, 5, 6, 8, 9, 11, 14, 17, 20, 23]


def t5(kind="T5ForConditionalGeneration", **options):
    torch.manual_seed(0)
    made = {"num_layers": 2, "num_decoder_layers": 3, "decoder_start_token_id": 0, **SIZES}
    model = getattr(transformers, kind)(transformers.T5Config(**made | options)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0.0, 0.3 if weight.ndim > 1 else 0.1).add_("norm" in name)
    return model


def logits(model):
    with torch.no_grad():
        return model(**ASKED).logits


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


def rows(heads):
    return [4 * head + place for head in heads for place in range(4)]


def cut_by_hand(teacher, options):
    """The same function with the other heads, units and channels taken out of each weight."""
    model = copy.deepcopy(teacher)
    number = 0
    for stack, selves in ((model.encoder, SELVES[0]), (model.decoder, SELVES[1])):
        for place, block in enumerate(stack.block):
            attentions = [(block.layer[0].SelfAttention, selves)]
            if len(block.layer) == 3:
                attentions.append((block.layer[1].EncDecAttention, ACROSS[place]))
            for attention, heads in attentions:
                for part in (attention.q, attention.k, attention.v):
                    part.weight.data = part.weight[rows(heads)][:, CHANNELS].detach()
                attention.o.weight.data = attention.o.weight[CHANNELS][:, rows(heads)].detach()
                attention.n_heads, attention.inner_dim = 3, 12
                if attention.has_relative_attention_bias:
                    bias = attention.relative_attention_bias
                    bias.weight.data = bias.weight[:, heads].detach()
            network = block.layer[-1].DenseReluDense
            for name, part in network.named_children():
                if name.startswith("wi"):
                    part.weight.data = part.weight[UNITS[number]][:, CHANNELS].detach()
            network.wo.weight.data = network.wo.weight[CHANNELS][:, UNITS[number]].detach()
            number += 1
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            weight.data = weight[CHANNELS].detach()
    model.shared.weight.data = model.shared.weight[:, CHANNELS].detach()
    model.lm_head.weight = model.shared.weight
    model.model_dim = 12
    return model


@MAKES
def test_it_is_the_teacher_with_its_weights_cut_by_hand(options):
    teacher = t5(**options)
    before = logits(teacher)
    student = narrower(teacher, heads=HEADS, mlp=UNITS, width=CHANNELS, rescale=False)
    close(logits(student), logits(cut_by_hand(teacher, options)))
    assert torch.equal(logits(teacher), before)
    assert student.config.scale_decoder_outputs is teacher.config.scale_decoder_outputs
    assert student.lm_head.weight is student.shared.weight is student.encoder.embed_tokens.weight
    assert not torch.allclose(logits(student), before, atol=0.1)


@MAKES
def test_keeping_everything_is_the_identity(options):
    teacher = t5(**options)
    student = shrunk(
        teacher, BATCHES, heads=6, mlp=20, width=24, layers={"encoder": 2, "decoder": 3}
    )
    assert torch.equal(logits(student), logits(teacher))


@MAKES
@torch.no_grad()
def test_what_is_zero_goes_without_a_change(options):
    teacher = t5(**options)
    gone = [each for each in range(24) if each not in CHANNELS]
    teacher.shared.weight[:, gone] = 0
    for number, block in enumerate([*teacher.encoder.block, *teacher.decoder.block]):
        for layer in block.layer[:-1]:
            part = getattr(layer, "SelfAttention", None) or layer.EncDecAttention
            part.o.weight[gone] = 0
            part.v.weight[rows([1, 4])] = 0
        network = block.layer[-1].DenseReluDense
        network.wo.weight[gone] = 0
        for name, part in network.named_children():
            if name in ("wi", "wi_1"):
                part.weight[[n for n in range(20) if n not in UNITS[number]]] = 0
    student = narrower(teacher, heads=4, mlp=4, width=12, batches=BATCHES)
    close(logits(student), logits(teacher))
    sizes = student.config
    assert (sizes.d_model, sizes.d_ff, sizes.num_heads, sizes.d_kv) == (12, 4, 4, 4)


@torch.no_grad()
def test_self_attentions_of_a_stack_keep_the_same_heads_and_those_across_their_own():
    """The bias of positions is learnt in the first block, one number a head, for all blocks."""
    teacher = t5()
    scores = width_scores(teacher, BATCHES).heads  # encoder 0, 1; decoder self, across, self, ...
    student = narrower(teacher, heads=2, batches=BATCHES)

    def best(of):
        return sorted(of.argsort(descending=True)[:2].tolist())

    wanted = [best(scores[:2].sum(0))] * 2
    for across in (3, 5, 7):
        wanted += [best(scores[[2, 4, 6]].sum(0)), best(scores[across])]
    found = [m for m in student.modules() if type(m).__name__ == "T5Attention"]
    theirs = [m for m in teacher.modules() if type(m).__name__ == "T5Attention"]
    for ours, whole, heads in zip(found, theirs, wanted, strict=True):
        assert torch.equal(ours.q.weight, whole.q.weight[rows(heads)])
        if whole.has_relative_attention_bias:
            bias = whole.relative_attention_bias.weight[:, heads]
            assert torch.equal(ours.relative_attention_bias.weight, bias)


def test_padding_of_the_encoder_is_none_of_the_decoders():
    """Both read seven tokens here; the decoder has no padding, and all of its tokens count."""
    teacher = t5()
    whole = {**ASKED, "attention_mask": torch.ones_like(MASK)}
    found = {}

    def hook(module, args, output):
        found["given"] = args[0].double()

    last = teacher.decoder.block[2].layer[2].DenseReluDense.wo
    handle = last.register_forward_hook(hook)
    for asked in (ASKED, whole):
        with torch.no_grad():
            teacher(**asked)
        wanted = found["given"].abs().mean(1).square().sum(0).sqrt()
        scores = width_scores(teacher, [Batch(asked)]).neurons[-1]
        torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=1e-5)
    handle.remove()


@pytest.mark.parametrize("keep", [[1], [0, 1]], ids=["second", "both"])
@torch.no_grad()
def test_fewer_blocks_of_both_stacks_are_the_others_skipped(keep):
    teacher = t5()
    student = shrunk(teacher, BATCHES, layers={"encoder": keep, "decoder": [1, 2]}, heads=4)
    by_hand = narrower(teacher, heads=4, batches=BATCHES)
    for stack, kept in ((by_hand.encoder, keep), (by_hand.decoder, [1, 2])):
        bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias
        stack.block = torch.nn.ModuleList([stack.block[number] for number in kept])
        first = stack.block[0].layer[0].SelfAttention
        first.relative_attention_bias, first.has_relative_attention_bias = bias, True
    with torch.no_grad():
        wanted = by_hand(**ASKED, use_cache=False).logits
    close(logits(student), wanted)
    assert (student.config.num_layers, student.config.num_decoder_layers) == (len(keep), 2)


@MAKES
@torch.no_grad()
def test_it_is_saved_in_the_layout_of_transformers_and_writes_as_it_reads(options, tmp_path):
    student = shrunk(t5(**options), BATCHES, layers=2, heads=2, mlp=8, width=10)
    student.save_pretrained(tmp_path)
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, use_safetensors=True)
    close(logits(again.eval()), logits(student))
    first = student(input_ids=IDS, decoder_input_ids=SAID[:, :3], use_cache=True)
    later = student(
        encoder_outputs=(first.encoder_last_hidden_state,),
        decoder_input_ids=SAID[:, 3:],
        past_key_values=first.past_key_values,
    )
    close(later.logits, student(input_ids=IDS, decoder_input_ids=SAID).logits[:, 3:])


@torch.no_grad()
def test_other_heads_and_fewer_tokens():
    body = t5("T5EncoderModel")
    student = narrower(body, heads=2, width=12, batches=[Batch({"input_ids": IDS})])
    assert student(IDS).last_hidden_state.shape == (4, 7, 12)
    ends = t5()
    few, tokens = fewer_tokens(ends, range(2, 30))
    asked = {"input_ids": IDS.clamp(max=29), "decoder_input_ids": SAID.clamp(max=29)}
    renamed = {name: tokens.to_new(each) for name, each in asked.items()}
    close(few(**renamed).logits, ends(**asked).logits[..., tokens.kept])


@torch.no_grad()
def test_a_head_of_its_own_stays_one_whatever_the_configuration_says():
    """T5 1.1 has a head of its own, and its configuration ties it to the embedding all the same."""
    teacher = t5(tie_word_embeddings=False)
    teacher.lm_head.weight = torch.nn.Parameter(torch.randn(40, 24))
    everything = {"heads": 6, "mlp": 20, "width": 24, "layers": [0, 1]}
    student = shrunk(t5(num_decoder_layers=2), BATCHES, **everything)
    assert student.lm_head.weight is student.shared.weight
    student = shrunk(teacher, BATCHES, heads=6, width=24)
    assert student.lm_head.weight is not student.shared.weight
    assert torch.equal(logits(student), logits(teacher))


def test_wrong_sizes_are_one_line():
    for options, words in (
        ({"heads": 7}, "heads: there are 6, and 7 were to stay"),
        ({"heads": [[0, 1]] * 4}, "for each of 5 attentions"),
        ({"mlp": [[0]] * 4}, "for each of 5 blocks"),
    ):
        with pytest.raises(ModelError, match=words) as caught:
            narrower(t5(), batches=BATCHES, **options)
        assert "\n" not in str(caught.value)
