"""Narrower students: exact where what goes is zero, and the paper's importance where it is not."""

import copy
import math

import numpy as np
import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.models.shrunk import narrower, open_folder, width_scores

transformers = pytest.importorskip("transformers")

SIZES = {"hidden_size": 24, "intermediate_size": 20, "vocab_size": 30, "num_hidden_layers": 2}
IDS = torch.randint(0, 30, (4, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4, [1] * 6])
BATCHES = [Batch({"input_ids": IDS, "attention_mask": MASK})]
HEADS = [[0, 1, 4, 5], [2, 3, 4, 5]]
UNITS = [[0, 2, 3, 7, 11, 12, 13, 19], [1, 2, 4, 5, 6, 7, 8, 9]]


def llama(kind="Llama", **options):
    torch.manual_seed(0)
    given = {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 4, **SIZES, **options}
    config = getattr(transformers, f"{kind}Config")(initializer_range=0.3, **given)
    return getattr(transformers, f"{kind}ForCausalLM")(config).eval()


def bert(kind="BertForMaskedLM", **options):
    torch.manual_seed(0)
    given = {"num_attention_heads": 6, **SIZES, **options}
    config = transformers.BertConfig(initializer_range=0.3, **given)
    return getattr(transformers, kind)(config).eval()


def rest(numbers, total):
    return [each for each in range(total) if each not in numbers]


@torch.no_grad()
def zeroed(model, heads=None, units=None):
    """The model with the output weights of all other heads and units at zero."""
    model = copy.deepcopy(model)
    blocks = model.model.layers if hasattr(model, "model") else model.bert.encoder.layer
    for number, block in enumerate(blocks):
        if hasattr(block, "mlp"):
            attention, last = block.self_attn.o_proj, block.mlp.down_proj
        else:
            attention, last = block.attention.output.dense, block.output.dense
        for head in rest(heads[number], 6) if heads else ():
            attention.weight[:, 4 * head : 4 * head + 4] = 0
        for unit in rest(units[number], 20) if units else ():
            last.weight[:, unit] = 0
    return model


MODELS = {
    "llama": llama,
    "qwen2 (biases)": lambda: llama("Qwen2"),
    "qwen3 (norms of heads)": lambda: llama("Qwen3"),
    "mistral": lambda: llama("Mistral"),
    "bert": bert,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@torch.no_grad()
def test_heads_and_units_whose_weights_are_zero_go_without_a_change(make):
    teacher = zeroed(make(), HEADS, UNITS)
    student = narrower(teacher, heads=HEADS, mlp=UNITS)
    found, wanted = (
        model(input_ids=IDS, attention_mask=MASK).logits for model in (student, teacher)
    )
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in (student, teacher))
    assert ours < theirs
    assert student.config.intermediate_size == 8


@torch.no_grad()
def test_units_without_any_activation_are_those_that_go():
    teacher = llama()
    for number, block in enumerate(teacher.model.layers):
        for unit in rest(UNITS[number], 20):
            block.mlp.up_proj.weight[unit] = 0
        for group in rest([h // 2 for h in HEADS[number]], 3):
            block.self_attn.v_proj.weight[4 * group : 4 * group + 4] = 0
    student = narrower(teacher, heads=4, mlp=8, batches=BATCHES)
    torch.testing.assert_close(student(IDS).logits, teacher(IDS).logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_whole_groups_of_queries_go_with_their_keys_and_values():
    teacher = llama()
    student = narrower(teacher, heads=2, batches=BATCHES)
    config = student.config
    sizes = (config.num_attention_heads, config.num_key_value_heads, config.head_dim)
    assert sizes == (2, 1, 4)
    scores = width_scores(teacher, BATCHES).heads
    for number, block in enumerate(student.model.layers):
        group = int(scores[number].reshape(3, 2).sum(1).argmax())
        theirs = teacher.model.layers[number].self_attn
        ours = block.self_attn
        assert torch.equal(ours.k_proj.weight, theirs.k_proj.weight[4 * group : 4 * group + 4])
        assert torch.equal(ours.q_proj.weight, theirs.q_proj.weight[8 * group : 8 * group + 8])
        assert torch.equal(ours.o_proj.weight, theirs.o_proj.weight[:, 8 * group : 8 * group + 8])


CHANNELS = [0, 1, 2, 5, 6, 8, 9, 11, 14, 17, 20, 23]


@pytest.mark.parametrize("tied", [False, True])
@torch.no_grad()
def test_hidden_channels_that_are_zero_go_without_a_change(tied):
    teacher = llama(tie_word_embeddings=tied)
    gone = rest(CHANNELS, 24)
    teacher.model.embed_tokens.weight[:, gone] = 0
    for block in teacher.model.layers:
        block.self_attn.o_proj.weight[gone] = 0
        block.mlp.down_proj.weight[gone] = 0
    student = narrower(teacher, width=12, batches=BATCHES)
    torch.testing.assert_close(student(IDS).logits, teacher(IDS).logits, atol=1e-5, rtol=1e-5)
    assert student.config.hidden_size == 12
    assert {len(p) for name, p in student.named_parameters() if "norm" in name} == {12}
    plain = narrower(teacher, width=12, batches=BATCHES, rescale=False)
    assert not torch.allclose(plain(IDS).logits, teacher(IDS).logits, atol=1e-2)
    torch.testing.assert_close(
        plain.model.norm.weight, teacher.model.norm.weight[CHANNELS], atol=0, rtol=0
    )


@torch.no_grad()
def test_a_bert_loses_channels_from_every_part_of_it():
    for kind in ("BertForMaskedLM", "BertForSequenceClassification", "BertModel"):
        teacher = bert(kind)
        student = narrower(teacher, width=CHANNELS, heads=[[0, 1, 2]] * 2)
        body, whole = (getattr(model, "bert", model) for model in (student, teacher))
        layer, other = body.encoder.layer[1], whole.encoder.layer[1]
        rows = other.intermediate.dense.weight[:, CHANNELS]
        assert torch.equal(layer.intermediate.dense.weight, rows)
        wanted = other.attention.output.dense.weight[CHANNELS][:, :12]
        assert torch.equal(layer.attention.output.dense.weight, wanted)
        wanted = whole.embeddings.position_embeddings.weight[:, CHANNELS]
        assert torch.equal(body.embeddings.position_embeddings.weight, wanted)
        assert student(IDS)[0].isfinite().all()
        assert student.config.hidden_size == 12


def numpy_scores(model, over_tokens, over_batch):
    """The paper's sums with plain loops, from what hooks catch."""
    caught = {}

    def catch(name, given):
        def hook(module, args, output):
            caught[name] = (args[0] if given else output).detach().double().numpy()

        return hook

    hooks = []
    for number, block in enumerate(model.model.layers):
        for name, module, given in (
            (("heads", number), block.self_attn.o_proj, True),
            (("neurons", number), block.mlp.down_proj, True),
            (("norm", number, 0), block.input_layernorm, False),
            (("norm", number, 1), block.post_attention_layernorm, False),
        ):
            hooks.append(module.register_forward_hook(catch(name, given)))
    hooks.append(model.model.norm.register_forward_hook(catch(("norm", 2, 0), False)))
    with torch.no_grad():
        model(input_ids=IDS, attention_mask=MASK)
    for hook in hooks:
        hook.remove()

    def total(values):  # (N, T) -> one number
        rows = []
        for row in range(4):
            real = [values[row, place] for place in range(6) if MASK[row, place]]
            if over_tokens == "mean":
                rows.append(sum(abs(v) for v in real) / len(real))
            else:
                rows.append(math.sqrt(sum(v * v for v in real)))
        if over_batch == "mean":
            return sum(rows) / len(rows)
        return math.sqrt(sum(v * v for v in rows))

    heads, neurons, channels = np.zeros((2, 6)), np.zeros((2, 20)), np.zeros(24)
    for key, values in caught.items():
        if key[0] == "heads":
            for head in range(6):
                part = values[:, :, 4 * head : 4 * head + 4]
                heads[key[1], head] = total(np.sqrt((part**2).sum(-1)))
        elif key[0] == "neurons":
            neurons[key[1]] = [total(values[:, :, unit]) for unit in range(20)]
        else:
            channels += [total(values[:, :, channel]) for channel in range(24)]
    return heads, neurons, channels


@pytest.mark.parametrize("over_tokens", ["mean", "l2"])
@pytest.mark.parametrize("over_batch", ["l2", "mean"])
def test_importance_is_the_formula_of_minitron(over_tokens, over_batch):
    """arXiv:2407.14679, section 2.2; (batch=L2, seq=mean) is what the authors chose."""
    model = llama()
    found = width_scores(model, BATCHES, over_tokens=over_tokens, over_batch=over_batch)
    wanted = numpy_scores(model, over_tokens, over_batch)
    for ours, theirs in zip((found.heads, found.neurons, found.channels), wanted, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)
    parts = zip(IDS.split([1, 3]), MASK.split([1, 3]), strict=True)
    cut = [Batch({"input_ids": ids, "attention_mask": mask}) for ids, mask in parts]
    again = width_scores(model, cut, over_tokens=over_tokens, over_batch=over_batch)
    torch.testing.assert_close(again.neurons, found.neurons, rtol=1e-5, atol=0)


@pytest.mark.parametrize("options", [{"heads": 2}, {"width": 12, "mlp": 5}, {"width": 18}])
@torch.no_grad()
def test_a_narrower_llama_is_saved_in_the_layout_of_transformers(options, tmp_path):
    student = narrower(llama(), batches=BATCHES, **options)
    student.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    torch.testing.assert_close(again.eval()(IDS).logits, student(IDS).logits)
    cached = student(IDS[:, :3], use_cache=True).past_key_values
    later = student(IDS[:, 3:], past_key_values=cached).logits
    torch.testing.assert_close(later, student(IDS).logits[:, 3:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_bert_whose_heads_make_up_its_hidden_size_is_an_ordinary_folder(tmp_path):
    student = narrower(bert(), heads=3, width=12, batches=BATCHES)
    student.save_pretrained(tmp_path)
    for opened in (
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, use_safetensors=True).eval(),
        open_folder(tmp_path),
    ):
        torch.testing.assert_close(opened(IDS).logits, student(IDS).logits)


@pytest.mark.parametrize("options", [{"heads": 5}, {"width": 16}, {"heads": 4, "width": 9}])
@torch.no_grad()
def test_a_bert_whose_heads_do_not_is_opened_by_this_library_and_refused_by_others(
    options, tmp_path
):
    student = narrower(bert(), batches=BATCHES, **options)
    student.save_pretrained(tmp_path)
    opened = open_folder(tmp_path)
    torch.testing.assert_close(opened(IDS).logits, student(IDS).logits)
    assert opened.cls.predictions.decoder.weight is opened.bert.embeddings.word_embeddings.weight
    with pytest.raises((RuntimeError, ValueError)):
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path, use_safetensors=True)
    again = narrower(opened, heads=2, mlp=4, batches=BATCHES)  # and cut once more
    assert again(IDS).logits.isfinite().all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "needs a number of heads, mlp units or width"),
        ({"heads": 3}, r"heads: there are 6, and 3 were to stay: .* that 2 divides \(whole groups"),
        ({"heads": 8}, "heads: there are 6, and 8 were to stay"),
        ({"heads": [[0, 1], [1, 2]]}, "in whole groups of 2"),
        ({"heads": [[0, 1]]}, "for each of 2 blocks"),
        ({"mlp": [[0, 1], [2]]}, "by as many rising numbers from 0 to 19"),
        ({"mlp": 0}, "mlp: there are 20, and 0 were to stay: give a number from 1 to 20"),
        ({"width": [3, 2]}, "width: .* rising numbers from 0 to 23"),
        ({"width": 13}, "need a hidden size that their number of heads divides, .* take 12"),
    ],
)
def test_wrong_sizes_are_one_line(options, words):
    with pytest.raises(ModelError, match=words) as caught:
        narrower(llama(), batches=BATCHES, **options)
    assert "\n" not in str(caught.value)


def test_other_families_and_parts_that_are_not_known_are_refused():
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=30)
    )
    with pytest.raises(ModelError, match="of kind 'gpt2' cannot be cut, only that of llama, "):
        narrower(gpt2, mlp=4, batches=BATCHES)
    with pytest.raises(ModelError, match="kind 'Linear' cannot be cut"):
        narrower(torch.nn.Linear(2, 2), mlp=4, batches=BATCHES)
    added = llama()
    added.model.layers[0].adapter = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"adapter\.\w+' is no part that a llama has"):
        narrower(added, mlp=4, batches=BATCHES)
    with pytest.raises(DataError, match="none was given"):
        narrower(llama(), mlp=4)
    with pytest.raises(ModelError, match="over_batch: got 'l3'"):
        width_scores(llama(), BATCHES, over_batch="l3")


def test_a_folder_that_holds_no_model_is_told(tmp_path):
    with pytest.raises(ModelError, match=r"there is no config\.json that names the class"):
        open_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    with pytest.raises(ModelError, match="transformers has no class 'NoSuchModel'"):
        open_folder(tmp_path)
