"""Hidden states and relations of transformers as they are now: fused attention, grouped heads."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.models import Observed
from tutelage.objectives import (
    AbstractObjective,
    BertEMD,
    DualSpace,
    MiniLM,
    MiniLMRelations,
    TinyBERT,
    minilm,
)

transformers = pytest.importorskip("transformers")
MODELS = Path(os.environ.get("TUTELAGE_MODELS", Path(__file__).parents[3] / "lm"))
DATA = Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
LAYER, ATTENTION = "encoder.layer.*", "encoder.layer.*.attention.self."
QK: tuple[dict[str, str], ...] = tuple({ATTENTION + n: ATTENTION + n} for n in ("query", "key"))
LENGTHS = (7, 4, 2, 6)


def bert(layers: int, width: int, heads: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers,
        intermediate_size=2 * width, max_position_embeddings=16, initializer_range=0.3,
        attn_implementation="sdpa",
    )  # fmt: skip
    made: nn.Module = transformers.BertModel(config).eval()
    return made


def llama(layers: int, width: int, heads: int, groups: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=width, num_attention_heads=heads, num_key_value_heads=groups,
        num_hidden_layers=layers, intermediate_size=2 * width, max_position_embeddings=16,
        initializer_range=0.3, attn_implementation="sdpa",
    )  # fmt: skip
    made: nn.Module = transformers.LlamaForCausalLM(config).eval()
    return made


def hidden(model: nn.Module, inputs: Any) -> Tensor:
    """The first token's state, as a bare encoder is read."""
    state: Tensor = model(**inputs).last_hidden_state[:, 0]
    return state


def texts(side: str = "right", lengths: tuple[int, ...] = LENGTHS) -> Batch:
    """Padded rows of tokens; the same texts on either side."""
    source = torch.Generator().manual_seed(0)
    drawn = [torch.randint(1, 40, (n,), generator=source) for n in LENGTHS]
    longest = max(lengths)
    rows, seen = [], []
    for tokens in (d for d in drawn if len(d) in lengths):
        fill = torch.zeros(longest - len(tokens), dtype=torch.int64)
        pair = (tokens, fill) if side == "right" else (fill, tokens)
        rows.append(torch.cat(pair))
        seen.append(torch.cat([torch.ones_like(p) * (p is tokens) for p in pair]))
    inputs = {"input_ids": torch.stack(rows), "attention_mask": torch.stack(seen)}
    return Batch(inputs)


def answers(model: nn.Module, paths: Any, batch: Batch, read: Any = None) -> Outputs:
    with torch.no_grad():
        return Observed(model, read=read).tap(paths)(batch)


def value(objective: AbstractObjective, s: Outputs, t: Outputs, batch: Batch) -> float:
    return float(sum(each.detach() for each in objective(s, t, batch).values()))


def tinybert() -> TinyBERT:
    states = {"embeddings": "embeddings", LAYER: LAYER}
    return TinyBERT(states, *QK, heads=[2, 4], layers=[2, 4], meet="mean", prediction=False)


def relations() -> MiniLMRelations:
    pairs = [
        {f"encoder.layer.1.attention.self.{n}": f"encoder.layer.3.attention.self.{n}"}
        for n in ("query", "key", "value")
    ]
    return MiniLMRelations(4, *pairs)


def emd() -> BertEMD:
    return BertEMD({LAYER: LAYER}, *QK, heads=[2, 4], layers=[2, 4], meet="mean")


@pytest.mark.parametrize("make", [tinybert, relations, emd])
def test_a_narrower_bert_learns_from_a_deeper_one(make: Any) -> None:
    objective = make()
    student = Observed(bert(2, 16, 2, 0), read=hidden).tap(objective.taps[0])
    batch = texts()
    theirs = answers(bert(4, 24, 4, 1), objective.taps[1], batch, hidden)
    with torch.no_grad():
        objective.bind(student(batch), theirs)
    before = value(objective, student(batch), theirs, batch)
    descent = torch.optim.Adam([*student.parameters(), *objective.parameters()], 0.01)
    for _ in range(15):
        descent.zero_grad()
        sum(objective(student(batch), theirs, batch).values()).backward()
        descent.step()
        objective.advance()
    assert value(objective, student(batch), theirs, batch) < 0.7 * before


@pytest.mark.parametrize("make", [tinybert, relations])
def test_a_padded_batch_is_worth_the_mean_of_its_texts(make: Any) -> None:
    """Each text alone, without padding, counts for the same as in the batch."""
    objective = make()
    student, teacher = bert(2, 16, 2, 0), bert(4, 24, 4, 1)

    def both(batch: Batch) -> tuple[Outputs, Outputs]:
        return (
            answers(student, objective.taps[0], batch, hidden),
            answers(teacher, objective.taps[1], batch, hidden),
        )

    objective.bind(*both(texts()))
    alone = [value(objective, *both(texts(lengths=(n,))), texts(lengths=(n,))) for n in LENGTHS]
    found = value(objective, *both(texts()), texts())
    assert found == pytest.approx(sum(alone) / len(alone), rel=1e-4)


CALL = "scaled_dot_product_attention()#{}:in.{}"


def causal_relations(layers: tuple[int, int], fused: bool) -> MiniLMRelations:
    ours, theirs = (n - 1 for n in layers)
    pairs = [
        {CALL.format(ours, i): CALL.format(theirs, i)}
        if fused
        else {
            f"model.layers.{ours}.self_attn.{n}_proj": f"model.layers.{theirs}.self_attn.{n}_proj"
        }
        for i, n in enumerate("qkv")
    ]
    return MiniLMRelations(4, *pairs, causal=True)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
def test_relations_of_llamas_with_other_heads_and_grouped_keys(fused: bool, side: str) -> None:
    """States (N, heads, T, d) of the fused call, or projections (N, T, heads * d)."""
    objective = causal_relations((1, 2), fused)
    student, teacher = llama(1, 16, 2, 1, 0), llama(2, 32, 4, 2, 1)
    batch = texts(side)
    s, t = (
        answers(model, paths, batch)
        for model, paths in zip((student, teacher), objective.taps, strict=True)
    )
    dims = 4 if fused else 3
    assert {f.ndim for f in (*s.features.values(), *t.features.values())} == {dims}
    objective.bind(s, t)
    found = objective(s, t, batch)["minilm_v2"]
    assert found.isfinite()
    assert found > 0
    # What stands at padded places is no matter.
    real = batch.inputs["attention_mask"].bool()  # type: ignore[call-overload]
    kept = real[:, None, :, None] if fused else real[..., None]
    other = Outputs(s.logits, {k: torch.where(kept, f, 9.0) for k, f in s.features.items()})
    torch.testing.assert_close(objective(other, t, batch)["minilm_v2"], found)
    # No token relates to one behind it.
    changed = {k: f.clone() for k, f in s.features.items()}
    for feature in changed.values():
        feature[0, ..., -1, :] += 5
    batch_of_one, first = batch[:1], s.map(lambda x: x[:1])
    shifted = Outputs(first.logits, {k: f[:1] for k, f in changed.items()})
    places = torch.zeros(1, 7, dtype=torch.bool)
    places[0, :6] = True
    counted = Batch(batch_of_one.inputs, mask=places)
    one = t.map(lambda x: x[:1])
    torch.testing.assert_close(
        objective(shifted, one, counted)["minilm_v2"], objective(first, one, counted)["minilm_v2"]
    )


def test_minilm_repeats_values_where_the_other_network_has_more_heads_of_them() -> None:
    torch.manual_seed(0)
    q = torch.rand(2, 4, 5, 3)
    few, many = torch.rand(2, 2, 5, 3), torch.rand(2, 4, 5, 3)
    attention, found = minilm([q, few, few], [q, many, many])
    repeated = few.repeat_interleave(2, 1)
    wanted = minilm([q, repeated, repeated], [q, many, many])
    torch.testing.assert_close((attention, found), wanted)
    with pytest.raises(ShapeMismatch, match="heads and tokens must be as many"):
        minilm([q, few, torch.rand(2, 3, 5, 3)], [q, many, many])


def test_states_by_head_need_no_number_of_heads() -> None:
    torch.manual_seed(0)
    s, t = (Outputs(torch.zeros(2, 3), {n: torch.rand(2, 4, 5, 3) for n in "qkv"}) for _ in "st")
    pairs = ({"q": "q"}, {"k": "k"}, {"v": "v"})
    batch = Batch(torch.zeros(2, 1))
    assert torch.equal(*(MiniLM(h, *pairs)(s, t, batch)["minilm"] for h in (None, 4)))
    flat = Outputs(s.logits, {n: f.transpose(1, 2).flatten(2) for n, f in s.features.items()})
    with pytest.raises(ShapeMismatch, match="minilm needs the number of heads to cut states"):
        MiniLM(None, *pairs).bind(flat, t)


def test_dual_space_teaches_a_llama_from_one_with_a_larger_vocabulary_of_its_family() -> None:
    student, teacher = llama(1, 16, 2, 1, 0), llama(2, 32, 4, 2, 1)
    teacher.resize_token_embeddings(48, mean_resizing=False)  # type: ignore[operator]
    objective = DualSpace("lm_head:in", "lm_head:in", "lm_head", "lm_head", start="logits")
    ours, theirs = Observed(student).tap(objective.taps[0]), Observed(teacher).tap(["lm_head:in"])
    teacher.requires_grad_(False)
    objective.borrow(ours.lend(["lm_head"]), theirs.lend(["lm_head"]))
    batch = texts()
    ids = batch.inputs["input_ids"]  # type: ignore[call-overload]
    batch = Batch(batch.inputs, targets=ids.roll(-1, 1), mask=ids.roll(-1, 1) > 0)
    with torch.no_grad():
        taught = theirs(batch)
        objective.bind(ours(batch), taught)
    descent = torch.optim.Adam([*student.parameters(), *objective.parameters()], 0.01)
    values = []
    for _ in range(30):
        descent.zero_grad()
        terms = objective(ours(batch), taught, batch)
        sum(terms.values()).backward()
        descent.step()
        values.append({name: float(term.detach()) for name, term in terms.items()})
    # The student's own target moves, as the projector learns.
    assert sum(values[-1].values()) < 0.5 * sum(values[0].values())
    assert values[-1]["dskd_teacher"] < 0.5 * values[0]["dskd_teacher"]


@pytest.mark.data
@pytest.mark.parametrize("make", ["tinybert", "minilm_v2"])
def test_minilm_of_three_layers_learns_from_six_on_real_sentences(make: str) -> None:
    """20 steps of 16 sentences; what is asked falls on sentences that were not seen."""
    folder, file = MODELS / "minilm", DATA / "text" / "sst2" / "stsa.binary.train"
    for path, name in ((folder, "TUTELAGE_MODELS"), (file, "TUTELAGE_DATA")):
        if not path.exists():
            pytest.skip(f"{path.name} is not in {path.parent} (set {name})")
    cutter = transformers.AutoTokenizer.from_pretrained(folder)
    teacher = transformers.AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    student = copy.deepcopy(teacher)
    student.encoder.layer = nn.ModuleList(student.encoder.layer[i] for i in (1, 3, 5))
    lines = [line[2:] for line in file.read_text(encoding="utf-8").splitlines()[: 21 * 16]]

    def batch(number: int) -> Batch:
        some = lines[16 * number : 16 * number + 16]
        cut = cutter(some, padding=True, truncation=True, max_length=48, return_tensors="pt")
        return Batch({name: cut[name] for name in ("input_ids", "attention_mask")})

    if make == "tinybert":
        states = {"embeddings": "embeddings", LAYER: LAYER}
        objective: AbstractObjective = TinyBERT(
            states, *QK, heads=12, layers=[3, 6], prediction=False
        )
    else:
        kinds = ("query", "key", "value")
        last = [ATTENTION.replace("*", "{}") + kind for kind in kinds]
        objective = MiniLMRelations(48, *({path.format(2): path.format(5)} for path in last))
    ours = Observed(student, read=hidden).tap(objective.taps[0])
    held = batch(20)
    theirs = answers(teacher, objective.taps[1], held, hidden)
    with torch.no_grad():
        objective.bind(ours(held), theirs)
        before = value(objective, ours(held), theirs, held)
    descent = torch.optim.AdamW([*student.parameters(), *objective.parameters()], 1e-4)
    for step in range(20):
        taught = answers(teacher, objective.taps[1], batch(step), hidden)
        descent.zero_grad()
        sum(objective(ours(batch(step)), taught, batch(step)).values()).backward()
        descent.step()
    with torch.no_grad():
        after = value(objective, ours(held), theirs, held)
    assert after < 0.8 * before
