import os
from pathlib import Path

import pytest
import torch
from text_samples import TEXT, json_lines

from tutelage.core.errors import DataError
from tutelage.data import corpus, load
from tutelage.data.text.dividing import Part, by_blocks, by_documents

LM = Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "lm"


def saved(root, text=TEXT * 8, name="text.txt", encoding="utf-8"):
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(text.encode(encoding))
    return str(root / name)


def words(examples):
    """The text of a set of unpacked rows, read back."""
    rows = examples.fetch(torch.arange(len(examples)))
    lengths = examples.widths + 1
    return [
        examples.tokenizer.decode(row[:n].tolist()) for row, n in zip(rows, lengths, strict=True)
    ]


def parts(splits):
    return {
        "train": splits.train,
        "validation": splits.validation,
        "test": splits.test.open("looking"),
    }


def test_one_text_is_parted_into_blocks_and_none_of_it_is_lost_or_twice(tmp_path):
    splits = corpus(saved(tmp_path), length=16, validation=0.2, test=0.1)
    told = {}
    for name, examples in parts(splits).items():
        rows = examples.batch(torch.arange(len(examples)))
        first = examples.tokens[0, 0].item()
        told[name] = splits.train.tokenizer.decode([first, *rows.targets[rows.mask].tolist()])
    assert told["train"] + told["validation"] + told["test"] == TEXT * 8
    assert 0.08 < len(told["test"]) / len(TEXT * 8) < 0.15
    assert told["test"].startswith(tuple(TEXT.splitlines()))  # blocks begin where lines do
    assert splits.origin["split"] == "blocks"


def test_ids_run_on_over_the_splits_and_shapes_agree(tmp_path):
    splits = corpus(saved(tmp_path), length=16)
    every = parts(splits).values()
    ids = torch.cat([examples.ids for examples in every])
    assert ids.tolist() == list(range(len(ids)))
    assert splits.example_shape == (16,)
    assert splits.classes == ()
    names = {tuple(examples.batch(torch.tensor([0])).inputs) for examples in every}
    assert names == {("input_ids", "attention_mask")}


def test_the_tokenizer_learns_from_the_train_split_alone(tmp_path):
    path, other = saved(tmp_path, "abc\n" * 40), saved(tmp_path, "xyz\n" * 9, "test.txt")
    splits = corpus(path, tokenizer="characters", length=8, test_path=other)
    assert splits.train.tokenizer.alphabet == "\nabc"
    assert splits.train.vocabulary == 6
    assert bool(
        (splits.test.open("looking").tokens[0, :3].int() == splits.train.tokenizer.unknown).all()
    )


def test_documents_are_lines_paragraphs_files_or_objects(tmp_path):
    text = "one\ntwo\n\nthree\n \nfour"
    (tmp_path / "folder").mkdir()
    for name in ("b.txt", "a.txt", "c.md"):
        saved(tmp_path, f"{name}: {text}", f"folder/{name}")
    rows = json_lines(tmp_path / "folder" / "d.jsonl", [{"body": "five"}, {"body": "six"}])
    test = {
        "validation_path": rows,
        "test_path": rows,
        "pack": False,
        "length": 40,
        "field": "body",
    }
    for kind, wanted in (
        ("line", ["a.txt: one", "two", "three", "four", "b.txt: one", "two", "three", "four"]),
        ("paragraph", ["a.txt: one\ntwo", "three", "four", "b.txt: one\ntwo", "three", "four"]),
        ("file", [f"a.txt: {text}", f"b.txt: {text}"]),
    ):
        splits = corpus(str(tmp_path / "folder"), documents=kind, **test)
        assert words(splits.train) == [*wanted, "five", "six"]
    both = corpus([str(tmp_path / "folder" / "c.md"), rows], **test)
    assert words(both.train) == [f"c.md: {text}", "five", "six"]


def test_copies_of_a_document_stay_in_one_split(tmp_path):
    lines = [f"line {i % 30}" for i in range(120)]
    splits = corpus(
        saved(tmp_path, "\n".join(lines)), documents="line", pack=False, length=12, test=0.2
    )
    found = {name: words(examples) for name, examples in parts(splits).items()}
    assert sum(map(len, found.values())) == 120
    assert len(set(found["test"])) == 6
    assert not set(found["test"]) & set(found["train"])
    assert not set(found["validation"]) & set(found["train"])
    assert splits.origin["shared_documents"] == {"validation": 0, "test": 0}


def test_documents_that_test_shares_with_train_are_counted(tmp_path):
    path = saved(tmp_path, "one\ntwo\nthree\nfour")
    splits = corpus(
        path,
        documents="line",
        test_path=saved(tmp_path, "two\nsix", "t.txt"),
        split="documents",
        validation=1,
        length=8,
    )
    known = any("two" in text for text in words(splits.train))
    assert splits.origin["shared_documents"]["test"] == int(known)


def test_documents_that_share_rows_bring_positions_in_every_split(tmp_path):
    path = saved(tmp_path, "\n".join(f"document {i}" for i in range(60)))
    splits = corpus(path, documents="line", length=40)
    for examples in parts(splits).values():
        batch = examples.batch(torch.tensor([0]))
        assert set(batch.inputs) == {"input_ids", "position_ids"}
    end = splits.train.tokenizer.end
    batch = splits.train.batch(torch.arange(len(splits.train)))
    ends = (batch.targets == end).sum()
    assert ends == splits.origin["documents"]["train"]  # each is learnt to end
    assert not bool(batch.mask[batch.inputs["input_ids"] == end].any())  # and nothing follows


def test_a_part_that_is_no_end_of_its_document_gets_no_end_token(tmp_path):
    splits = corpus(saved(tmp_path), length=16)
    end = splits.train.tokenizer.end
    for name, examples in parts(splits).items():
        batch = examples.batch(torch.arange(len(examples)))
        assert int((batch.targets == end).sum()) == (name == "test")


def test_the_source_is_reached_by_name_and_says_what_it_made(tmp_path):
    splits = load(
        {"text": {"path": saved(tmp_path), "tokenizer": {"bpe": {"size": 300}}, "length": 8}}
    )
    assert splits.origin["tokenizer"]["name"] == "bpe"
    assert splits.origin["predicted_tokens"]["train"] == splits.train.units
    assert set(splits.stored) == {"treatment", "length", "tokenizer"}
    assert (
        splits.fingerprints()
        == load(
            {"text": {"path": saved(tmp_path), "tokenizer": {"bpe": {"size": 300}}, "length": 8}}
        ).fingerprints()
    )


def test_labels_cannot_be_taken_from_text(tmp_path):
    with pytest.raises(DataError, match="has no classes: its targets are the tokens that follow"):
        corpus(saved(tmp_path)).unlabelled(10)


@pytest.mark.parametrize("at", range(3, 60, 7))
def test_blocks_never_cut_a_word_where_there_are_spaces(at):
    text = "some words of a text " * 3
    found = by_blocks([text], {"test": at}, "text")
    assert found["train"][0].text + found["test"][0].text == text
    assert found["train"][0].text.endswith(" ")


def test_blocks_go_over_several_documents():
    found = by_blocks(["aaaa", "bbbb", "cccc"], {"test": 5, "validation": 3}, "text")
    whole = "".join(p.text for name in ("train", "validation", "test") for p in found[name])
    assert whole == "aaaabbbbcccc"
    assert found["test"][-1] == Part("cccc", True, True)
    assert all(found.values())


def test_choices_depend_on_the_seed_alone():
    keys = [str(i) for i in range(40)]
    one, other, third = (by_documents(keys, {"test": 0.25}, s, "text") for s in (0, 0, 1))
    assert one == other != third
    assert len(one["test"]) == 10


@pytest.mark.data
@pytest.mark.skipif(not LM.is_dir(), reason=f"no texts at {LM}")
def test_shakespeare_is_read_whole():
    splits = corpus(str(LM / "tinyshakespeare.txt"), tokenizer="characters", length=128)
    assert splits.train.vocabulary == 65 + 2
    assert sum(splits.origin["predicted_tokens"].values()) == 1_115_394 + 1 - 3
