"""Tasks on a model whose probabilities are known by hand."""

import json
import math

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.core.text import Encoded
from tutelage.evaluation.language.likelihood import likelihoods, rolling
from tutelage.evaluation.language.tasks import answer_task, load_task

LETTERS = "abcdefghijklmnopqrstuvwxyz ?:\n0123456789"


class Letters:
    name, size, begin, end, padding, special = "letters", len(LETTERS), None, None, 0, frozenset()

    def encode(self, text):
        spans = tuple((i, i + 1) for i in range(len(text)))
        return Encoded(tuple(LETTERS.index(c) for c in text), spans)


class Bigram:
    """Logits of the next letter from the last one alone."""

    def __init__(self):
        self.table = torch.randn(
            len(LETTERS), len(LETTERS), generator=torch.Generator().manual_seed(1)
        )

    def __call__(self, batch):
        assert set(batch.inputs) == {"input_ids", "attention_mask"}
        return Outputs(self.table[batch.inputs["input_ids"]])

    def by_hand(self, context, more):
        total, last = 0.0, context[-1]
        for letter in more:
            row = self.table[LETTERS.index(last)].double()
            total += float(row[LETTERS.index(letter)] - math.log(float(row.exp().sum())))
            last = letter
        return total


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_likelihoods_are_sums_by_hand(at_once):
    model = Bigram()
    asked = [("what", " is"), ("a", "b"), ("long context here", "x"), ("no", "thing at all")]
    found = likelihoods(model, Letters(), asked, longest=64, at_once=at_once)
    for one, pair in zip(found, asked, strict=True):
        assert one.log_p == pytest.approx(model.by_hand(*pair), rel=1e-5)
        assert (one.tokens, one.text_bytes) == (len(pair[1]), len(pair[1]))
        likeliest = all(
            int(model.table[LETTERS.index(a)].argmax()) == LETTERS.index(b)
            for a, b in zip(pair[0][-1] + pair[1], pair[1], strict=False)
        )
        assert one.greedy == likeliest


def test_a_context_that_is_too_long_loses_its_beginning():
    model = Bigram()
    (short,) = likelihoods(model, Letters(), [("abcdefgh", "ij")], longest=3)
    assert short.log_p == pytest.approx(model.by_hand("h", "ij"), rel=1e-5)
    (whole,) = likelihoods(model, Letters(), [("a", "bcd")], longest=3)  # d need not be read
    assert whole.log_p == pytest.approx(model.by_hand("a", "bcd"), rel=1e-5)
    with pytest.raises(DataError, match="has 4 tokens, and the model reads 3"):
        likelihoods(model, Letters(), [("a", "bcde")], longest=3)
    with pytest.raises(DataError, match="nothing before it"):
        likelihoods(model, Letters(), [("", "bcd")], longest=9)
    with pytest.raises(DataError, match="has no tokens"):
        likelihoods(model, Letters(), [("a", "")], longest=9)


class Ended(Letters):
    end = LETTERS.index("\n")


@pytest.mark.parametrize("longest", [1, 2, 3, 5, 64])
def test_a_text_of_any_length_has_each_token_predicted_once(longest):
    model = Bigram()
    texts = ["hello there", "a", "no more than this"]
    found = rolling(model, Ended(), texts, longest=longest, at_once=2)
    for one, text in zip(found, texts, strict=True):
        assert one.log_p == pytest.approx(model.by_hand("\n", text), rel=1e-5)
        assert (one.tokens, one.text_bytes) == (len(text), len(text))
    with pytest.raises(DataError, match="has no tokens"):
        rolling(model, Ended(), [""], longest=longest)
    with pytest.raises(DataError, match="nothing before it"):
        rolling(model, Letters(), ["a"], longest=longest)


def test_windows_keep_all_the_context_there_is_room_for():
    seen = []

    class Seen(Bigram):
        def __call__(self, batch):
            for row, mask in zip(*batch.inputs.values(), strict=True):
                seen.append("".join(LETTERS[i] for i in row[mask.bool()].tolist()))
            return super().__call__(batch)

    rolling(Seen(), Ended(), ["0123456789"], longest=4)
    assert sorted(seen) == ["\n012", "3456", "5678"]  # the last one again reads what it may


def test_a_text_without_context_stands_behind_the_end_of_another():
    model = Bigram()
    (found,) = likelihoods(model, Ended(), [("", "bcd")], longest=9)
    assert found.log_p == pytest.approx(model.by_hand("\n", "bcd"), rel=1e-5)


def written(tmp_path, body, lines=()):
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, lines)))
    path = tmp_path / "task.yaml"
    path.write_text(body)
    return path


CHOICES = [
    {"prompt": "a:", "answer": "xx", "choices": ["xx", "yyyyyy"]},
    {"prompt": "b:", "answer": 1, "choices": ["q", "zz"]},
    {"prompt": "c:", "answer": "last", "choices": ["last", "first"]},
]


def test_choices_are_taken_by_likelihood_and_by_bytes(tmp_path):
    task = load_task(
        written(tmp_path, "{name: t, kind: multiple_choice, items: items.jsonl, shots: 1}", CHOICES)
    )
    model = Bigram()
    found = answer_task(task, model, Letters(), longest=64)
    expected, by_bytes = [], []
    for item in CHOICES[:2]:
        context = "c:last\n\n" + item["prompt"]
        said = [model.by_hand(context, each) for each in item["choices"]]
        right = item["answer"] if isinstance(item["answer"], int) else 0
        expected.append(said.index(max(said)) == right)
        shares = [each / len(c) for each, c in zip(said, item["choices"], strict=True)]
        by_bytes.append(shares.index(max(shares)) == right)
    assert (found["items"], found["right"]) == (2, expected)
    assert found["accuracy_by_bytes"] == sum(by_bytes) / 2


def test_exact_matches_forgive_what_the_task_says(tmp_path):
    items = [{"prompt": f"{i}?", "answer": "Forty Two"} for i in range(4)]
    body = "{name: t, kind: exact_match, items: items.jsonl, stop: ['##']}"
    task = load_task(written(tmp_path, body, items))

    def write(prompts, stop):
        assert (prompts[0], stop) == ("0?", ("##",))
        return [" forty two.", "forty  two ## or not", "forty three", ""]

    assert answer_task(task, Bigram(), Letters(), longest=9, write=write)["right"] == [
        True,
        True,
        False,
        False,
    ]
    with pytest.raises(DataError, match="needs a model that writes"):
        answer_task(task, Bigram(), Letters(), longest=9)


def test_yes_and_no_are_words(tmp_path):
    body = "{kind: multiple_choice, items: [{prompt: 'a:', answer: no, choices: [yes, no]}]}"
    (item,) = load_task(written(tmp_path, body)).items
    assert (item.answer, item.choices) == ("no", ("yes", "no"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{kind: exact_match, items: items.jsonl, lower: maybe}", "expected true or false"),
        ("[1]", "is no mapping"),
        ("{kind: multiple, items: items.jsonl}", "expected multiple_choice or exact_match"),
        ("{knd: exact_match}", "Did you mean 'kind'"),
        ("{kind: exact_match, items: []}", "has no items"),
        ("{kind: exact_match, items: none.jsonl}", "cannot be read"),
        ("{kind: exact_match, items: [{prompt: a}]}", "item 1: expected prompt and answer"),
        ("{kind: multiple_choice, items: [{prompt: a, answer: b}]}", "two choices at least"),
        ("{kind: multiple_choice, items: [{prompt: a, answer: 5, choices: [b, c]}]}", "number 5"),
        ("{kind: multiple_choice, items: [{prompt: a, answer: d, choices: [b, c]}]}", "not one of"),
        ("{kind: exact_match, items: items.jsonl, shots: 3}", "3 items and 3 shots"),
        ("{kind: [", "cannot be read"),
        ("{kind: exact_match, most: 0, items: items.jsonl}", "most: '0', expected 1 or more"),
        ("{kind: exact_match, items: [{promt: a, answer: b}]}", "Did you mean 'prompt'"),
    ],
)
def test_a_wrong_task_is_one_line(tmp_path, body, told):
    with pytest.raises(DataError, match=told) as error:
        load_task(written(tmp_path, body, CHOICES))
    assert "\n" not in str(error.value)
