import os
from pathlib import Path

import pytest
import torch
from text_samples import hf_folder, json_lines, word_pieces

from tutelage.data import TokenLoader, sentences

SST2 = (
    Path(os.environ.get("TUTELAGE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "text"
    / "sst2"
)
WORDS = ["the good film", "the bad film", "playing plays", "bad", "good good"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoder")
    return hf_folder(place, word_pieces(), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]")


def saved(root, lines, name="a.txt", encoding="utf-8"):
    (root / name).write_bytes("\n".join(lines).encode(encoding))
    return str(root / name)


def pairs(count=50):
    return [f"{i % 2} {WORDS[i % 5]} {'abcdefghij'[i // 5]}" for i in range(count)]


def read(examples):
    rows = examples.fetch(torch.arange(len(examples)))
    return [
        (
            examples.classes[target] if target >= 0 else None,
            examples.tokenizer.decode(row[:n].tolist()),
        )
        for row, n, target in zip(rows, examples.lengths, examples.targets, strict=True)
    ]


def test_lines_become_tokens_between_the_models_own_two_ends(tmp_path, folder):
    splits = sentences(saved(tmp_path, pairs()), f"hf:{folder}")
    assert splits.classes == ("0", "1")
    batch = splits.train.batch(torch.arange(len(splits.train)))
    ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"]
    lengths = mask.sum(1)
    assert bool((ids[:, 0] == 2).all())
    assert bool((ids[torch.arange(len(ids)), lengths - 1] == 3).all())
    assert bool((ids[mask == 0] == 0).all())
    assert splits.example_shape == (7,)  # of the longest sentence, not of length
    for label, text in read(splits.train):
        assert f"{label} {text}" in {p.replace("playing", "playing") for p in pairs()}


def test_labels_and_texts_stay_together_in_every_form(tmp_path, folder):
    rows = [p.split(" ", 1) for p in pairs()]
    paths = [
        saved(tmp_path, pairs()),
        saved(tmp_path, [p.replace(" ", "\t", 1) for p in pairs()], "tabs.txt"),
        saved(tmp_path, ["label,text", *(f'{k},"{t}"' for k, t in rows)], "a.csv"),
        saved(tmp_path, ["text\tlabel", *(f"{t}\t{k}" for k, t in rows)], "a.tsv"),
        json_lines(tmp_path / "a.jsonl", [{"label": int(k), "text": t} for k, t in rows]),
    ]
    first, *others = (sentences(path, f"hf:{folder}").fingerprints() for path in paths)
    assert all(other == first for other in others)


def test_quotes_line_ends_and_commas_in_cells_are_kept(tmp_path):
    lines = ["words,kind", *(f'"a, ""b""\nc{i}",{i % 2}' for i in range(30))]
    splits = sentences(saved(tmp_path, lines, "a.csv"), "bytes", text="words", label="kind")
    assert read(splits.train)[0][1].startswith('a, "b"\nc')
    tabs = ["text\tlabel", *(f'"oh {i}\t{i % 2}' for i in range(30))]
    assert read(sentences(saved(tmp_path, tabs, "a.tsv"), "bytes").train)[0][1].startswith('"oh ')


def test_splits_are_stratified_and_no_sentence_is_in_two(tmp_path):
    lines = [*pairs(), *pairs()[:25], "1 the bad film a"]  # copies, one with another label
    splits = sentences(saved(tmp_path, lines), "bytes", validation=0.2, test=0.2, seed=3)
    test = splits.test.open("looking")
    found = [{text for _, text in read(e)} for e in (splits.train, splits.validation, test)]
    assert not found[0] & found[1] | found[0] & found[2] | found[1] & found[2]
    assert torch.bincount(test.targets).tolist() == [5, 5]
    left = splits.origin["left_out_copies"]
    assert left > 0
    assert len(splits.train) + len(splits.validation) + len(test) + left == len(lines)


def test_sentences_without_a_label_are_for_training_alone(tmp_path):
    rows = [{"label": None if i % 3 else "ab"[i % 2], "text": f"text {i}"} for i in range(60)]
    splits = sentences(json_lines(tmp_path / "a.jsonl", rows), "bytes", validation=4, test=4)
    assert bool((splits.validation.targets >= 0).all())
    assert int((splits.train.targets < 0).sum()) == 40
    few = splits.unlabelled(labels=2)
    assert int((few.train.targets >= 0).sum()) == 2
    batch = next(TokenLoader(few.train, 60).epoch(0))
    assert int((batch.targets >= 0).sum()) == 2


def test_long_sentences_are_cut_before_their_end_token(tmp_path, folder):
    splits = sentences(saved(tmp_path, pairs()), f"hf:{folder}", length=4, long="cut")
    batch = splits.train.batch(torch.arange(len(splits.train)))
    assert splits.example_shape == (4,)
    last = batch.inputs["attention_mask"].sum(1) - 1
    assert bool((batch.inputs["input_ids"][torch.arange(len(last)), last] == 3).all())


def test_files_of_their_own_are_taken_as_they_are(tmp_path):
    path, test = saved(tmp_path, pairs()), saved(tmp_path, ["1 the good film a", "0 new"], "t.txt")
    splits = sentences(path, "bytes", validation_path=test, test_path=test)
    assert len(splits.train) == 50
    assert read(splits.validation) == [("1", "the good film a"), ("0", "new")]
    assert splits.origin["shared_sentences"] == {"validation": 1, "test": 1}


def test_classes_are_sorted_by_size_or_renamed(tmp_path):
    lines = [f"{i % 11} text {i}" for i in range(220)]
    assert sentences(saved(tmp_path, lines), "bytes").classes == tuple(map(str, range(11)))
    named = sentences(saved(tmp_path, pairs()), "bytes", rename={"0": "worse", "1": "better"})
    assert named.classes == ("better", "worse")


@pytest.mark.data
@pytest.mark.skipif(not SST2.is_dir(), reason=f"no SST-2 at {SST2}")
def test_the_movie_reviews_are_read_whole():
    splits = sentences(
        str(SST2 / "stsa.binary.train"),
        "bytes",
        length=300,
        validation_path=str(SST2 / "stsa.binary.dev"),
        test_path=str(SST2 / "stsa.binary.test"),
        encoding="latin-1",
    )
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6_920, 872, 1_821]
    assert torch.bincount(splits.train.targets).tolist() == [3_310, 3_610]
