import pytest
import torch
from text_samples import TEXT, byte_level, chat_folder, hf_folder, json_lines

from tutelage.core.errors import DataError
from tutelage.data import chat
from tutelage.data.text import tokenizer_of
from tutelage.data.text.conversations import Conversation
from tutelage.data.text.templates import Piece, marked, plain, rendered

TALK = (
    ("system", "Be brief."),
    ("user", "To be?"),
    ("assistant", "or not"),
    ("user", "é?"),
    ("assistant", "🦊 that is"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return chat_folder(tmp_path_factory.mktemp("chatml"))


def rows(count=20, answer="not to be"):
    return [{"prompt": f"question {i}?", "answer": f"{answer} {i}"} for i in range(count)]


def learnt(examples, row=0):
    """What a row's counted targets say, with the end token as ⏹."""
    batch = examples.batch(torch.tensor([row]))
    tokens = batch.targets[batch.mask].tolist()
    made = examples.tokenizer
    return "".join("⏹" if t == made.end else made.token_bytes(t).decode("latin-1") for t in tokens)


def in_bytes(text):
    return text.encode().decode("latin-1")


def by_hand(messages, made):
    """ChatML's tokens and marks, message by message, by special token numbers."""
    start, end = made.encode("<|im_start|>").tokens[0], made.encode("<|im_end|>").tokens[0]
    tokens, counted = [], []
    for role, text in messages:
        head = [start, *made.encode(f"{role}\n").tokens]
        body = [*made.encode(text).tokens, end]
        tail = list(made.encode("\n").tokens)
        tokens += head + body + tail
        counted += [False] * len(head) + [role == "assistant"] * len(body) + [False] * len(tail)
    return tokens, counted


def test_exactly_the_answers_and_their_end_tokens_count(folder):
    made = tokenizer_of(f"hf:{folder}")
    tokens, counted = marked(rendered(Conversation(TALK, "line 1"), made, [2, 4]), made)
    wanted, marks = by_hand(TALK, made)
    assert tokens.tolist() == wanted[: len(tokens)]
    assert counted.tolist() == marks[: len(tokens)]
    assert not any(marks[len(tokens) :])
    assert int(counted.sum()) == sum(marks)


def test_the_source_learns_all_answers_or_the_last(tmp_path, folder):
    said = [{"messages": [{"role": r, "content": f"{t}{i}"} for r, t in TALK]} for i in range(12)]
    path = json_lines(tmp_path / "a.jsonl", said)
    for learn, wanted in (("all", "or not{}⏹🦊 that is{}⏹"), ("last", "🦊 that is{}⏹")):
        splits = chat(path, f"hf:{folder}", length=256, learn=learn)
        found = {learnt(splits.train, row) for row in range(len(splits.train))}
        assert len(found) == 10
        # the end token's mark is beyond latin-1, so it is taken out before the bytes are read
        texts = {
            "⏹".join(in_bytes(part) for part in wanted.format(i, i).split("⏹")) for i in range(12)
        }
        assert found <= texts


def test_the_plain_template_ends_answers_by_the_end_token(tmp_path):
    splits = chat(json_lines(tmp_path / "a.jsonl", rows()), "bytes", length=80)
    assert splits.origin["template"] == "plain"
    assert {learnt(splits.train, row)[:10] for row in range(len(splits.train))} == {" not to be"}
    assert all(learnt(splits.train, row).endswith("⏹") for row in range(len(splits.train)))
    first = splits.train.tokenizer.decode(splits.train.fetch(torch.tensor([0]))[0].tolist())
    assert first.startswith("User: question ")
    assert "\nAssistant: not to be" in first


def test_no_token_is_partly_question_and_partly_answer():
    made = tokenizer_of({"bpe": {"size": 300}}, [TEXT, " that" * 20])
    word = made.encode(" that").tokens
    assert len(word) == 1
    tokens, counted = marked([Piece(" th"), Piece("at", True, closes=True)], made)
    question, answer = made.encode(" th").tokens, made.encode("at").tokens
    assert tokens.tolist() == [*question, *answer, made.end]
    assert counted.tolist() == [False] * len(question) + [True] * (len(answer) + 1)


def test_a_piece_that_falls_between_tokens_is_encoded_in_its_place():
    made = tokenizer_of("bytes")
    pieces = plain(Conversation(TALK, "line 1"), [4])
    tokens, counted = marked(pieces, made)
    assert made.decode(tokens[counted].tolist()) == " 🦊 that is"
    assert int((tokens == made.end).sum()) == 2  # the first answer ends too, uncounted
    assert made.decode(tokens.tolist()) == "".join(piece.text for piece in pieces)


def test_a_beginning_token_stands_once_whoever_writes_the_template(tmp_path):
    library, words = byte_level(begin=True), {"bos_token": "<s>", "eos_token": "<|im_end|>"}
    template = "<s>{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>{% endif %}"
    named = hf_folder(tmp_path / "own", library, template, **words)
    path = json_lines(tmp_path / "a.jsonl", rows())
    for options in ({}, {"template": "plain"}):
        splits = chat(path, f"hf:{named}", length=120, **options)
        tokens = splits.train.fetch(torch.arange(len(splits.train)))
        assert bool((tokens[:, 0] == 0).all())
        assert int((tokens == 0).sum()) == len(tokens)


def test_empty_answers_are_dropped_with_a_count_and_leave_no_row_without_units(tmp_path):
    path = json_lines(
        tmp_path / "a.jsonl", [*rows(), *({"prompt": f"{i}", "answer": " \n"} for i in range(5))]
    )
    splits = chat(path, "bytes", length=80, empty="drop")
    test = splits.test.open("counting")
    assert splits.origin["dropped_empty"] == 5
    assert len(splits.train) + len(splits.validation) + len(test) == 20
    for examples in (splits.train, splits.validation, test):
        assert bool(examples.batch(torch.arange(len(examples))).mask.any(1).all())


def test_long_conversations_are_dropped_or_cut_with_a_count(tmp_path):
    long = [{"prompt": "q" * 70, "answer": "a"}, {"prompt": "q", "answer": "a" * 70}]
    path, good = json_lines(tmp_path / "a.jsonl", long), json_lines(tmp_path / "g.jsonl", rows())
    given = {"length": 50, "validation_path": good, "test_path": good}
    splits = chat([path, good], "bytes", long="drop", **given)
    assert (splits.origin["dropped_long"], splits.origin["cut"], len(splits.train)) == (2, 0, 20)
    assert splits.origin["shared_openings"]["test"] == 20  # the files given are the same
    splits = chat([path, good], "bytes", long="cut", **given)
    assert (splits.origin["dropped_long"], splits.origin["cut"], len(splits.train)) == (1, 1, 21)
    assert set(learnt(splits.train, 0)) == {" ", "a"}  # cut off before its end


def test_packed_conversations_are_whole_and_count_alike(tmp_path):
    path, units = json_lines(tmp_path / "a.jsonl", rows(40)), []
    for pack in (True, False):
        splits = chat(path, "bytes", length=150, pack=pack)
        batch = splits.train.batch(torch.arange(len(splits.train)))
        assert ("position_ids" in batch.inputs) == pack
        assert ("attention_mask" in batch.inputs) != pack
        said = splits.train.tokenizer.decode(batch.targets[batch.mask].tolist())
        assert said.count(" not to be ") == 32
        units.append(batch.count)
    assert units[0] == units[1] == splits.origin["predicted_tokens"]["train"]


def test_conversations_that_begin_alike_stay_in_one_split(tmp_path):
    said = [{"prompt": f"question {i % 10}", "answer": f"answer {i}"} for i in range(60)]
    splits = chat(json_lines(tmp_path / "a.jsonl", said), "bytes", length=80)
    found = []
    for examples in (splits.train, splits.validation, splits.test.open("looking")):
        texts = [
            examples.tokenizer.decode(row.tolist())
            for row in examples.fetch(torch.arange(len(examples)))
        ]
        found.append({text.split("\n")[0] for text in texts})
    assert [len(each) for each in found] == [8, 1, 1]
    assert splits.origin["shared_openings"] == {"validation": 0, "test": 0}
    assert not found[0] & found[1] | found[0] & found[2] | found[1] & found[2]


def test_what_follows_the_last_answer_is_left_out(tmp_path):
    said = [
        {
            "messages": [
                {"role": "user", "content": f"{i}"},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": "thanks"},
            ]
        }
        for i in range(12)
    ]
    splits = chat(json_lines(tmp_path / "a.jsonl", said), "bytes", length=60)
    assert "thanks" not in splits.train.tokenizer.decode(
        splits.train.fetch(torch.tensor([0]))[0].tolist()
    )


def test_a_message_that_spells_a_special_token_is_refused_where_it_would_be_one(tmp_path, folder):
    path = json_lines(tmp_path / "a.jsonl", [*rows(), {"prompt": "q<|im_end|>", "answer": "a"}])
    with pytest.raises(
        DataError,
        match=r"message of the user in line 21 of .* spells the special token '<\|im_end\|>'",
    ):
        chat(path, f"hf:{folder}")
    spelt = json_lines(tmp_path / "b.jsonl", [*rows(), {"prompt": "q<|end|>", "answer": "a"}])
    assert chat(spelt, {"bpe": {"size": 300}}, length=80).origin["template"] == "plain"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
            "ends an answer by no special token",
        ),
        (
            "{{ raise_exception('roles must alternate') }}",
            r"refuses a conversation of user.* \(roles must alternate\)",
        ),
        (
            "{{ messages | length }}{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}",
            "writes answer 2 of line 1 of .* otherwise once more is said",
        ),
        ("{{ ''.__class__.__mro__ }}", "refuses a conversation"),  # transformers' sandbox
    ],
)
def test_a_template_that_cannot_be_used_is_refused_in_one_line(tmp_path, template, message):
    said = [{"messages": [{"role": role, "content": text} for role, text in TALK[1:]]}] * 12
    named = chat_folder(tmp_path / "model", template)
    path = json_lines(tmp_path / "a.jsonl", said)
    with pytest.raises(DataError, match=message) as caught:
        chat(path, f"hf:{named}", validation_path=path, test_path=path)
    assert "\n" not in str(caught.value)
