"""Tokens of a text read once: against plain loops in float64, and the report made of them."""

import json
import math

import numpy as np
import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.data import TensorSet
from tutelage.evaluation import DataFacts
from tutelage.evaluation.costs.latency import Latency
from tutelage.evaluation.language import (
    LanguageReport,
    MeasuredLanguage,
    beside,
    figures_of,
    read_tokens,
    reads_tokens,
)
from tutelage.evaluation.language.figures import by_rows
from tutelage.evaluation.language.report import LanguageSeed
from tutelage.evaluation.language.verdict import verdict

DICE = torch.Generator().manual_seed(3)
ROWS, LENGTH, CLASSES = 7, 5, 6


class Texts:
    """What a set of texts is here: fixed logits live beside it in `Said`."""

    vocabulary, example_shape = CLASSES, (LENGTH,)

    def __init__(self, targets, mask=None):
        self.targets, self.mask = targets, mask
        self.ids = torch.arange(len(targets)) + 100

    def __len__(self):
        return len(self.targets)

    def batch(self, rows):
        mask = None if self.mask is None else self.mask[rows]
        words = {"input_ids": rows[:, None].expand(-1, LENGTH)}
        return Batch(words, self.targets[rows], mask, self.ids[rows])


class Said:
    def __init__(self, logits):
        self.logits = logits

    def __call__(self, batch):
        return Outputs(self.logits[batch.inputs["input_ids"][:, 0]])


def drawn(classes=CLASSES, scale=2.0):
    return scale * torch.randn(ROWS, LENGTH, classes, generator=DICE)


def texts():
    targets = torch.randint(CLASSES, (ROWS, LENGTH), generator=DICE)
    targets[2, 1:] = -100
    mask = torch.rand(ROWS, LENGTH, generator=DICE) < 0.7
    return Texts(targets, mask)


def softmax(row):
    row = np.exp(row - row.max())
    return row / row.sum()


@pytest.mark.parametrize("most_rows", [1, 3, 64])
def test_tables_are_those_of_plain_loops(most_rows):
    text, first, second = texts(), drawn(), drawn(CLASSES + 3)
    tables, apart = read_tokens(
        {"t": Said(first), "s": Said(second)},
        text,
        pairs={"s": ("t", "s")},
        most_rows=most_rows,
    )
    nll, kl, same, where = [], [], [], []
    for n in range(ROWS):
        for t in range(LENGTH):
            if not text.mask[n, t] or text.targets[n, t] < 0:
                continue
            p = softmax(first[n, t].double().numpy())
            q = softmax(second[n, t].double().numpy())
            shared = softmax(second[n, t, :CLASSES].double().numpy())
            nll.append(-math.log(q[text.targets[n, t]]))
            kl.append(float((p * np.log(p / shared)).sum()))
            same.append(p.argmax() == shared.argmax())
            where.append((n, t))
    table = tables["s"]
    assert torch.stack([table.rows, table.places], 1).tolist() == [list(each) for each in where]
    np.testing.assert_allclose(table.nll.numpy(), nll, rtol=1e-5)
    np.testing.assert_allclose(apart["s"].kl.numpy(), kl, rtol=1e-4)
    assert apart["s"].same.tolist() == same
    found = figures_of(table, text_bytes=3 * len(nll))
    assert found.perplexity == pytest.approx(math.exp(np.mean(nll)), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(np.mean(nll) / (3 * math.log(2)), rel=1e-6)


def test_a_model_beside_itself_is_not_apart():
    said = Said(drawn())
    tables, apart = read_tokens({"a": said, "b": said}, texts(), pairs={"b": ("a", "b")})
    found = beside(tables["a"], tables["b"], apart["b"])
    assert found["predictive_kl"] == pytest.approx(0, abs=1e-7)
    assert (found["agreement"], found["negative_flip_rate"]) == (1.0, 0.0)
    assert found["nll_change"]["mean"] == found["nll_change"]["high"] == 0


def test_logits_of_minus_infinity_stay_finite():
    sharp = drawn()
    sharp[..., 1:] = -torch.inf
    tables, apart = read_tokens(
        {"a": Said(sharp), "b": Said(1e4 * drawn())}, texts(), pairs={"b": ("a", "b")}
    )
    assert tables["a"].entropy.abs().max() == 0
    assert apart["b"].kl.isfinite().all()


def test_rows_that_stay_together_widen_the_interval():
    rows = torch.arange(40).repeat_interleave(50)
    values = torch.randn(40, generator=DICE).repeat_interleave(50)  # all of a row is alike
    wide = by_rows(values, rows)
    narrow = by_rows(values, torch.arange(len(values)))
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)


def test_what_cannot_be_read_is_told():
    with pytest.raises(DataError, match="this set is a TensorSet"):
        read_tokens({"a": Said(drawn())}, TensorSet(torch.zeros(2, 3)))
    assert reads_tokens(texts())
    with pytest.raises(DataError, match="no token of this set counts"):
        read_tokens({"a": Said(drawn())}, Texts(torch.full((ROWS, LENGTH), -1)))
    with pytest.raises(ShapeMismatch, match="logits \\(N, T, V\\) are needed"):
        read_tokens({"a": Said(drawn()[:, 0])}, texts())
    with pytest.raises(ShapeMismatch, match="knows 2 tokens"):
        read_tokens({"a": Said(drawn(2))}, texts())


def measured(table, size):
    latency = Latency(p50=size / 10, p99=size, backend="torch", threads=1, batch=1, calls=10)
    return MeasuredLanguage(table, 100 * size, 400 * size, None, [latency], "gpt")


def report(gates):
    text, good = texts(), drawn()
    truth = torch.nn.functional.one_hot(text.targets.clamp(min=0), CLASSES).float()
    arms = {"teacher": 4.0, "student": 2.0, "baseline": 0.5}
    said = {role: Said(good + sure * truth) for role, sure in arms.items()}
    pairs = {role: ("teacher", role) for role in ("student", "baseline")}
    tables, apart = read_tokens(said, text, pairs=pairs)
    sizes = {"teacher": 9, "student": 3, "baseline": 3}
    return LanguageReport(
        recipe={"name": "tiny"},
        seed=0,
        models={role: measured(table, sizes[role]) for role, table in tables.items()},
        apart=apart,
        data=DataFacts(name="texts", train=5, validation=5, test=ROWS),
        seeds=[LanguageSeed(0, 1.5, 1.9), LanguageSeed(1, 1.6, 2.0), LanguageSeed(2, 1.4, 1.7)],
        gates=gates,
        parts={"By slice": {"words": ["One."], "head": ["slice", "loss"], "rows": [["a|b", 1]]}},
        length=LENGTH,
    )


def test_the_report_says_what_its_figures_say(tmp_path):
    made = report({"perplexity_ratio": {"at_most": 1.001, "by": "estimate"}})
    figures = made.write(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(figures))
    change = figures["comparison"]["nll_change"]["mean"]
    assert change > 0
    (gate,) = figures["gates"]
    assert gate["value"] == pytest.approx(math.exp(change))
    assert not gate["passed"]
    assert figures["verdict"]["status"] == "no"
    assert figures["comparison"]["gain"]["mean"] == pytest.approx(0.4 - 0.1 / 3)
    assert "saved it 0.367 nats" in figures["verdict"]["headline"]
    student = figures["models"]["student"]
    assert student["tokens_per_second"] == pytest.approx(1000 * LENGTH / 0.3)
    told = (tmp_path / "report.md").read_text()
    assert f"{student['perplexity']:.3f}" in told
    assert "a\\|b" in told
    html = (tmp_path / "report.html").read_text()
    assert "Do not ship" in html
    assert "<script" not in html


@pytest.mark.parametrize(
    ("gain", "told"),
    [
        ((0.2, 0.1, 0.3, 3), "the teacher saved it 0.200 nats a token"),
        ((-0.2, -0.3, -0.1, 3), "the teacher cost it 0.200 nats a token"),
        ((0.2, 0.1, 0.3, 1), "0.200 nats a token ahead of itself alone"),
        ((-0.2, -0.3, -0.1, 2), "0.200 nats a token behind itself alone"),
        ((0.2, -0.1, 0.5, 3), "was not shown to help"),
    ],
)
def test_the_headline_claims_no_more_than_the_seeds_allow(gain, told):
    figures = report({}).figures
    said = dict(zip(("mean", "low", "high", "seeds"), gain, strict=True))
    figures["comparison"]["gain"] = said
    assert told in verdict(figures)["headline"]


def test_a_gate_on_text_fails_where_there_is_no_text():
    passed = report({"perplexity": 1e6}).figures["gates"][0]["passed"]
    assert passed
