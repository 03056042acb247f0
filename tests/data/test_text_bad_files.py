import json

import pytest

from tutelage.core.errors import DataError
from tutelage.data import chat, corpus, sentences

GOOD = [{"prompt": f"question {i}", "answer": "yes"} for i in range(30)]


def lines(*rows):
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


def said(*messages):
    return {"messages": [{"role": role, "content": text} for role, text in messages]}


TEXT = [
    (
        "a.txt",
        "né\nna\xefve".encode("latin-1"),
        {},
        r"is not utf-8: byte 0xe9 in line 1, column 2 \(byte 1 of",
    ),
    ("a.txt", b"fine\nfi\xffne", {}, "byte 0xff in line 2, column 3"),
    ("a.txt", b" \n\n", {}, "holds no text"),
    ("a.txt", b"", {}, "holds no text"),
    ("a.txt", b"words", {"encoding": "utf-9"}, "encoding is 'utf-9', which is none"),
    ("a.txt", b"words", {"documents": "page"}, "text documents is 'page'"),
    ("a.txt", b"words", {"split": "block"}, "text split is 'block'. Did you mean 'blocks'"),
    ("a.txt", b"words " * 30, {"length": 0}, "length is 0, expected at least 1"),
    ("a.txt", b"words", {"test": 99}, r"asks for 99 examples, and there are 5"),
    ("a.txt", b"words", {"test": 0}, "expected a count of at least 1 or a fraction"),
    ("a.txt", b"w", {"tokenizer": "characters"}, "validation of text would have no text"),
    ("a.jsonl", lines({"text": "fine"}, "{'text': 1}"), {}, "line 2 of .* is no JSON"),
    (
        "a.jsonl",
        lines({"text": "fine"}, "", "[3]"),
        {},
        "line 3 of .* is of type list, expected an object",
    ),
    ("a.jsonl", lines({"txt": "fine"}), {}, "line 1 of .* has no 'text'. Did you mean 'txt'"),
    ("a.jsonl", lines({"text": 3}), {}, "'text' in line 1 of .* is of type int, expected a text"),
    ("a.jsonl", lines({"text": "a\ud800"}), {}, "half a character"),
    ("a.jsonl", lines({"text": " "}), {}, "holds no text"),
]
CHAT = [
    (
        "a.jsonl",
        lines(*GOOD, said(("user", "q"), ("bot", "a"))),
        {},
        "message 2 in line 31 of .* role 'bot'. Known: assistant, system, user",
    ),
    (
        "a.jsonl",
        lines(*GOOD, said(("user", "q"), ("asistant", "a"))),
        {},
        "Did you mean 'assistant'",
    ),
    ("a.jsonl", lines(*GOOD, said(("user", "q"))), {}, "line 31 of .* no message of the assistant"),
    ("a.jsonl", lines(*GOOD, said(("assistant", "a"))), {}, "begins with an answer"),
    ("a.jsonl", lines(*GOOD, {"messages": []}), {}, "is no list of messages"),
    (
        "a.jsonl",
        lines(*GOOD, {"messages": ["hello"]}),
        {},
        "message 1 in line 31 of .* is not of the form",
    ),
    (
        "a.jsonl",
        lines(*GOOD, said(("user", 3), ("assistant", "a"))),
        {},
        "content of message 1 in line 31 of .* is of type int",
    ),
    (
        "a.jsonl",
        lines(*GOOD, {"question": "q"}),
        {},
        "neither 'messages' nor 'prompt' and 'answer'",
    ),
    ("a.jsonl", lines(*GOOD, {"prompt": "q"}), {}, "line 31 of .* has no 'answer'"),
    (
        "a.jsonl",
        lines(*GOOD, {"prompt": "q", "answer": " "}),
        {},
        "line 31 of .* has an empty answer: mend it, or write empty: drop",
    ),
    (
        "a.jsonl",
        lines(*GOOD, {"prompt": "q" * 99, "answer": "a"}),
        {"length": 60},
        "line 31 of .* tokens, more than length 60 and one: mend it, or write long: drop or cut",
    ),
    (
        "a.jsonl",
        lines(*GOOD),
        {"length": 8, "long": "drop"},
        r"chat .* has no conversation left \(0 with empty answers and 30 too long",
    ),
    ("a.jsonl", lines(*GOOD), {"learn": "first"}, "chat learn is 'first'"),
    ("a.jsonl", lines(*GOOD), {"empty": "keep"}, "chat empty is 'keep'"),
    ("a.jsonl", lines(*GOOD), {"template": "chatml"}, "chat template is 'chatml'"),
    ("a.jsonl", lines(*GOOD), {"template": "tokenizer"}, "tokenizer bytes has no chat template"),
    ("a.jsonl", b"\n", {}, "holds no text"),
]
PAIRS = [f"{i % 2} sentence {i}" for i in range(40)]
SENTENCES = [
    ("a.txt", lines(*PAIRS, "1"), {}, "line 41 of .* has no text"),
    (
        "a.txt",
        lines(*[f"{i} same" for i in range(1001)]),
        {},
        "1001 different labels, expected 2 to 1000",
    ),
    ("a.txt", lines("1 a", "1 b"), {}, "have 1 different labels"),
    (
        "a.txt",
        lines(*PAIRS),
        {"length": 5},
        "line 1 of .* has 11 tokens, more than length 5: give a greater length, or write long: cut",
    ),
    ("a.txt", lines(*PAIRS), {"long": "drop"}, "sentences long is 'drop'"),
    (
        "a.csv",
        lines("txt,label", "a,1"),
        {},
        "no column 'text' in its first line. Did you mean 'txt'",
    ),
    ("a.csv", lines("text,label", "a,1", "b,2,3"), {}, "line 3 of .* another number of cells"),
    ("a.csv", lines("text,label", "a,1", '"b,2'), {}, "cannot be read"),
    ("a.tsv", lines("text\tlabel", "a\t1", "b"), {}, "line 3 of .* another number of cells"),
    (
        "a.jsonl",
        lines({"text": "a", "label": [1]}),
        {},
        r"'label' in line 1 of .* is \[1\], expected a label",
    ),
    (
        "a.txt",
        lines(*PAIRS),
        {"test_path": "same", "test": 3},
        "test is 3, and test_path is given too",
    ),
]


@pytest.mark.parametrize(
    ("source", "name", "content", "options", "message"),
    [(corpus, *each) for each in TEXT]
    + [(chat, *each) for each in CHAT]
    + [(sentences, *each) for each in SENTENCES],
)
def test_bad_input_is_one_line_that_says_where(source, name, content, options, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    given = {"tokenizer": "bytes", **options}
    if given.get("test_path") == "same":
        given["test_path"] = str(path)
    with pytest.raises(DataError, match=message) as caught:
        source(str(path), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [corpus, chat, sentences])
def test_a_missing_file_suggests_the_nearest(source, tmp_path):
    (tmp_path / "texts.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"Did you mean 'texts\.jsonl'"):
        source(str(tmp_path / "text.jsonl"), tokenizer="bytes")


@pytest.mark.parametrize("source", [corpus, chat, sentences])
@pytest.mark.parametrize("path", [None, [], 7])
def test_a_path_of_another_kind_is_refused(source, path):
    with pytest.raises(DataError, match="path is"):
        source(path, tokenizer="bytes")


@pytest.mark.parametrize("source", [corpus, chat, sentences])
def test_a_folder_without_texts_is_refused(source, tmp_path):
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DataError, match="is a folder without"):
        source(str(tmp_path), tokenizer="bytes")


def test_a_label_that_only_test_has_suggests_the_nearest(tmp_path):
    path, test = tmp_path / "a.txt", tmp_path / "t.txt"
    path.write_bytes(
        lines(
            "good x", "bad y", *[f"good {i}" for i in range(20)], *[f"bad {i}" for i in range(20)]
        )
    )
    test.write_bytes(lines("god z"))
    with pytest.raises(
        DataError, match=r"line 1 of .*label 'god', which train lacks\. Did you mean 'good'"
    ):
        sentences(str(path), "bytes", test_path=str(test))
