"""The zoo's gpt, shrunk: the words and the laws are those of other makes."""

import copy

import pytest
import torch
from language_models import QUIET, VOCABULARY, packed, zoo_gpt

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Draw, Observed, generate
from tutelage.models.hf_layout import as_llama
from tutelage.models.shrunk import (
    block_influence,
    chosen_layers,
    fewer_layers,
    fewer_tokens,
    loss_left_out,
    narrower,
    shrunk,
    width_scores,
)

pytestmark = QUIET

IDS = torch.randint(0, VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [0] * 3 + [1] * 4, [1] * 7])
BATCHES = [Batch({"input_ids": IDS, "attention_mask": MASK})]
WHOLE = {"layers": 5, "heads": 8, "kv_heads": 4}


def close(found, wanted):
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def own(weights):
    return {tensor.data_ptr() for tensor in weights.parameters()}


@pytest.mark.parametrize(
    ("keep", "choose", "kept"),
    [(2, "even", [0, 4]), (3, "even", [0, 2, 4]), (2, "last", [3, 4]), ([1, 2, 3], "even", None)],
)
@torch.no_grad()
def test_the_student_is_the_teacher_with_the_other_blocks_skipped(keep, choose, kept):
    teacher = zoo_gpt(**WHOLE).requires_grad_(False)
    student = fewer_layers(teacher, keep, choose=choose)
    kept = kept or keep
    by_hand = copy.deepcopy(teacher)
    by_hand.blocks = tuple(f"layer{number + 1}" for number in kept)
    close(student(IDS, MASK), by_hand(IDS, MASK))
    assert not own(student) & own(teacher)
    assert all(p.requires_grad for p in student.parameters())
    assert student.feature_points == ("embed", *(f"layer{n + 1}" for n in range(len(kept))))
    assert student.linear.weight is student.embed.weight


@torch.no_grad()
def test_importance_is_that_of_the_same_llama():
    pytest.importorskip("transformers")
    teacher = zoo_gpt(**WHOLE)
    llama = as_llama(teacher).eval()
    for measure in (block_influence, loss_left_out):
        (found,), (wanted,) = (measure(each, BATCHES).values() for each in (teacher, llama))
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-4)
    ours, theirs = (width_scores(each, BATCHES) for each in (teacher, llama))
    for name in ("heads", "neurons", "channels"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=1e-5, rtol=1e-4)
    for choose in ("importance", "left_out"):
        kept = chosen_layers(teacher, 2, choose=choose, batches=BATCHES)
        (there,) = chosen_layers(llama, 2, choose=choose, batches=BATCHES).values()
        assert kept == {"layers": there}


@pytest.mark.parametrize(
    "options",
    [{"heads": 4}, {"mlp": 24}, {"width": 16}, {"heads": 2, "mlp": 40, "width": 12, "layers": 3}],
    ids=["heads", "mlp", "width", "all"],
)
@torch.no_grad()
def test_a_narrow_student_is_that_of_the_same_llama(options):
    pytest.importorskip("transformers")
    teacher = zoo_gpt(**WHOLE)
    student = shrunk(teacher, BATCHES, **options)
    other = shrunk(as_llama(teacher).eval(), BATCHES, **options)
    close(student(IDS, MASK)[MASK.bool()], Observed(other)(BATCHES[0]).logits[MASK.bool()])
    close(as_llama(student)(IDS).logits, student(IDS))


@pytest.mark.parametrize("activation", ["swiglu", "gelu"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@torch.no_grad()
def test_keeping_everything_is_the_identity(tied, activation):
    teacher = zoo_gpt(tied=tied, activation=activation)
    inner = teacher.sizes.inner
    student = shrunk(teacher, BATCHES, layers=2, heads=4, mlp=inner, width=32)
    assert student.sizes == teacher.sizes
    assert torch.equal(student(IDS, MASK), teacher(IDS, MASK))
    assert (student.linear.weight is student.embed.weight) is tied


@torch.no_grad()
def test_channels_heads_and_units_that_are_zero_go_without_a_change():
    teacher = zoo_gpt()
    gone = list(range(0, 32, 2))
    teacher.embed.weight[:, gone] = 0
    for block in (teacher.layer1, teacher.layer2):
        block.attention.out.weight[gone] = 0
        block.mlp.down.weight[gone] = 0
        block.attention.values.weight[8:] = 0  # the second of two groups
        block.mlp.up.weight[:40] = 0
    units = teacher.sizes.inner - 40
    student = narrower(teacher, width=16, heads=2, mlp=units, batches=BATCHES)
    close(student(IDS), teacher(IDS))
    sizes = student.sizes
    assert (sizes.width, sizes.heads, sizes.kv_heads, sizes.head_size) == (16, 2, 1, 8)


@torch.no_grad()
def test_it_writes_and_packs_as_before():
    teacher = zoo_gpt(**WHOLE)
    student = shrunk(teacher, BATCHES, layers=[1, 3], heads=4)
    found = generate(Observed(student), IDS[:, :3], torch.ones(4, 3).long(), Draw(4), seed=0)
    with torch.no_grad():
        anew = student(found.tokens).float().log_softmax(-1)[:, 2:-1]
    drawn = anew.gather(-1, found.tokens[:, 3:, None]).squeeze(-1)
    close(found.log_probs, drawn)
    row, documents = packed()
    alone = torch.cat([student(one)[0] for one in documents])
    close(student(**row)[0, :12], alone)


@torch.no_grad()
def test_one_inside_another_module_and_one_with_fewer_tokens():
    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = zoo_gpt(tied=False)

        def forward(self, ids):
            return self.inside(ids)

    around = Around().eval()
    student = fewer_layers(around, [1])
    assert isinstance(student, Around)
    close(student(IDS), fewer_layers(around.inside, [1])(IDS))
    few, tokens = fewer_tokens(around.inside, range(3, 30))
    ids = IDS.clamp(3, 29)
    close(few(tokens.to_new(ids)), around.inside(ids)[..., 3:30])


def test_its_head_takes_no_adapter_and_its_blocks_do():
    pytest.importorskip("peft")
    student = shrunk(zoo_gpt(), lora={"rank": 2})
    learning = {name.split(".")[0] for name, p in student.named_parameters() if p.requires_grad}
    assert learning == {"layer1", "layer2"}
    with pytest.raises(ModelError, match="'linear' is the head"):
        shrunk(zoo_gpt(), lora={"rank": 2, "targets": ["linear"]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 3}, "'layers' has 2 blocks, and 3 were to stay"),
        ({"heads": 3}, "heads: there are 4, and 3 were to stay: .* that 2 divides"),
        ({"mlp": 1000}, "mlp: there are 88, and 1000 were to stay"),
        ({"width": 13}, "need a hidden size that their number of heads divides, .* take 12"),
    ],
)
def test_wrong_sizes_are_one_line(options, words):
    with pytest.raises(ModelError, match=words) as caught:
        shrunk(zoo_gpt(), BATCHES, **options)
    assert "\n" not in str(caught.value)
