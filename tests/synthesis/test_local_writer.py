"""A model that lies here writes what it would write alone, whoever is answered along with it."""

import pytest
import torch
from torch import nn

from tutelage.core.errors import RecipeError
from tutelage.core.text import Encoded
from tutelage.core.writing import Request
from tutelage.models import Observed
from tutelage.synthesis.local_writer import LocalWriter, dialogue

END, BEGIN = 128, 129


class Letters:
    """A tokenizer of ASCII letters."""

    name, size, begin, end, padding, special = (
        "letters",
        130,
        BEGIN,
        END,
        END,
        frozenset((128, 129)),
    )

    def encode(self, text):
        data = text.encode("ascii")
        return Encoded(tuple(data), tuple((i, i + 1) for i in range(len(data))))

    def token_bytes(self, token):
        return bytes([token]) if token < 128 else b""

    def decode(self, tokens):
        return b"".join(map(self.token_bytes, tokens)).decode()

    def fingerprint(self):
        return "0" * 64


class Pairs(nn.Module):
    """A causal model that looks at the last letter alone; 60 positions."""

    class config:
        max_position_embeddings = 60

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.table = nn.Parameter(torch.randn(130, 130) * 2)

    def forward(self, inputs):
        logits = self.table[inputs["input_ids"]].clone()
        logits[..., BEGIN] = -1e9
        return logits


def writer(batch_size=4, **options):
    options = {"template": lambda said: said[-1][1], "name": "pairs"} | options
    return LocalWriter(Observed(Pairs()), Letters(), batch_size=batch_size, **options)


def asked(count=7, **options):
    options = {"most_tokens": 9, "temperature": 1.0} | options
    return [Request(f"q{i}", (("user", "abc"[: i % 3 + 1]),), **options) for i in range(count)]


def by_key(answers):
    return {one.key: one for one in answers}


def test_every_request_gets_exactly_one_answer():
    answers = list(writer().write(asked(11)))
    assert sorted(a.key for a in answers) == sorted(f"q{i}" for i in range(11))
    assert all(a.model == "pairs" and not a.error for a in answers)
    assert all(len(a.text) <= a.tokens_written <= 9 for a in answers)


def test_an_answer_does_not_depend_on_who_is_answered_along_with_it():
    alone, many = by_key(writer(1).write(asked(9))), by_key(writer(5).write(asked(9)[::-1]))
    assert {k: a.text for k, a in alone.items()} == {k: a.text for k, a in many.items()}
    assert len({a.text for a in alone.values()}) > 5


def test_the_likeliest_tokens_are_those_of_the_model():
    (answer,) = writer().write([Request("q", (("user", "a"),), most_tokens=6)])
    table, place, expected = Pairs().table, ord("a"), ""
    for _ in range(6):
        logits = table[place].clone()
        logits[BEGIN] = -1e9
        place = int(logits.argmax())
        if place == END:
            break
        expected += chr(place)
    assert answer.text == expected


def test_a_seed_decides_the_draw():
    same = [Request(f"q{i}", (("user", "a"),), 8, 1.0, seed=5) for i in range(3)]
    texts = {a.text for a in writer().write(same)}
    assert len(texts) == 1
    other = [Request(f"q{i}", (("user", "a"),), 8, 1.0, seed=i) for i in range(3)]
    assert len({a.text for a in writer().write(other)}) == 3
    assert by_key(writer(seed=1).write(asked())) != by_key(writer(seed=2).write(asked()))


def test_log_probabilities_are_told_for_each_token_and_the_likeliest_there():
    (answer,) = writer().write([Request("q", (("user", "a"),), 5, 1.0, top_logprobs=3)])
    assert len(answer.logprobs) == answer.tokens_written
    place = ord("a")
    for token, p, top in answer.logprobs:
        logits = Pairs().table[place].detach().clone()
        logits[BEGIN] = -1e9
        log_p = logits.log_softmax(-1)
        best = log_p.topk(3)
        number = ord(token) if token else END
        assert p == pytest.approx(float(log_p[number]), abs=1e-5)
        assert [each for _, each in top] == pytest.approx(best.values.tolist(), abs=1e-5)
        place = number


def test_an_answer_ends_where_a_stop_begins():
    (whole,) = writer().write([Request("q", (("user", "a"),), 9, 1.0, seed=3)])
    mark = whole.text[2:4]
    (cut,) = writer().write(
        [Request("q", (("user", "a"),), 9, 1.0, seed=3, stop=("\x00\x00", mark))]
    )
    assert cut.text == whole.text[: whole.text.find(mark)]
    assert cut.finish == "stop"


def test_what_cannot_be_read_fails_alone_and_raises_nothing():
    long = Request("long", (("user", "x" * 70),), most_tokens=9, temperature=1.0)
    wrong = Request("wrong", (("user", "a"),), most_tokens=9, temperature=-1.0)
    answers = by_key(writer(4).write([*asked(2), long, *asked(5)[2:]]))
    assert "positions" in answers["long"].error
    assert answers["long"].finish == "error"
    assert [answers[f"q{i}"].error for i in range(5)] == [""] * 5
    assert by_key(writer(4).write(asked(5)))["q3"].text == answers["q3"].text
    assert by_key(writer().write([wrong]))["wrong"].finish == "error"


def test_a_text_begins_once():
    class Begun(Letters):
        def encode(self, text):
            found = super().encode(text.removeprefix("<s>"))
            mark = (BEGIN,) if text.startswith("<s>") else ()
            return Encoded((*mark, *found.tokens), ((0, 0),) * len(mark) + found.spans)

    templates = [lambda said: "<s>" + said[0][1], lambda said: said[0][1]]
    read = []
    for template in templates:
        one = LocalWriter(Observed(Pairs()), Begun(), template=template, name="pairs")
        read.append(next(iter(one.write(asked(1)))).tokens_read)
    assert read == [2, 2]


def test_a_tokenizer_with_a_template_is_asked_for_it():
    class Knows(Letters):
        def render(self, messages, asking):
            return f"[{messages[0][1]}]" + ("!" if asking else "")

    one = LocalWriter(Observed(Pairs()), Knows(), name="pairs")
    assert next(iter(one.write(asked(1)))).tokens_read == 1 + len("[a]!")
    plain = LocalWriter(Observed(Pairs()), Letters(), name="pairs")
    assert next(iter(plain.write(asked(1)))).tokens_read == 1 + len(dialogue(asked(1)[0].messages))


def test_the_name_tells_models_apart():
    one, other = Pairs(), Pairs()
    other.table.data[0, 0] += 1
    names = [LocalWriter(Observed(m), Letters()).name for m in (one, Pairs(), other)]
    assert names[0] == names[1] != names[2]
    assert names[0].startswith("Pairs ")


def test_a_batch_of_no_requests_is_refused():
    with pytest.raises(RecipeError, match="batch_size is 0"):
        writer(0)
    assert list(writer().write([])) == []
