"""Runs on text whose teacher has a tokenizer of its own."""

import json

import pytest
import torch
from language_samples import quick_latency as quick_latency
from language_samples import recipe, sentences
from recipe_samples import quiet_run

from tutelage.core.errors import TutelageError
from tutelage.data.text import TokenLoader, corpus, tokenizer_of
from tutelage.recipe.check import check
from tutelage.recipe.crossed import AlignedRows

GPT = {"gpt": {"width": 32, "layers": 2, "heads": 2}}
OWN = {"model": GPT, "train": {"epochs": 8, "batch_size": 4}}
BYTES = {**OWN, "tokenizer": "bytes"}
CROSSED = {"setting": "cross_tokenizer", "teacher": BYTES, "objective": ["alm"]}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "said.txt"
    path.write_text(sentences(2500))
    return path


def crossed(text, **changes):
    return recipe(text, {"bpe": {"size": 290}}, **{**CROSSED, **changes})


def test_a_teacher_of_another_tokenizer_is_compared_by_bytes_alone(text, tmp_path):
    teacher = {**OWN, "tokenizer": {"bpe": {"size": 270}}}
    made = crossed(text, teacher=teacher)
    made["train"] = {**made["train"], "epochs": 4, "batch_size": 8}
    result = quiet_run(made, tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["models"]["teacher"] is None
    none = ("agreement", "predictive_kl", "negative_flip_rate", "positive_flip_rate")
    assert all(report["comparison"][key] is None for key in none)
    part = report["parts"]["Against the teacher"]
    found = {row[0]: float(row[1]) for row in part["rows"]}
    student = report["models"]["student"]
    assert found["student"] == pytest.approx(student["bits_per_byte"], abs=1e-4)
    assert found["teacher"] < found["student"] < 1.5
    assert student["perplexity"] < 20  # of 290, and of the text's own tokens it learnt none
    assert "Bits a byte" in report["verdict"]["lost"][0]
    assert "Bits a byte" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert result.teacher.model.sizes.width == 32


@pytest.mark.parametrize(
    "objective",
    [
        [{"uld": {"weight": 1.0}}, "ce"],
        [{"overlap": {"tokens": "same"}}, {"alm": {"groups": "many", "weight": 0.1}}, "ce"],
        [{"overlap": {"tokens": "first"}}, "ce"],
    ],
    ids=["uld", "overlap-same", "overlap-first"],
)
def test_all_objectives_for_two_tokenizers_run(text, tmp_path, objective):
    made = crossed(text, objective=objective)
    made["train"] = {**made["train"], "batch_size": 8}
    made["teacher"] = {**BYTES, "train": {"epochs": 1}}
    student = quiet_run(made, tmp_path / "out").report["models"]["student"]
    assert student["bits_per_byte"] < 4


def test_check_looks_at_two_tokenizers(text):
    found = check(crossed(text))
    assert found.plan.teacher.own.train.vocabulary == 257
    assert {"teacher", "student"} <= set(found.seconds)


def test_rows_are_the_same_text_for_both(tmp_path):
    """A torn character, a cut document and its end: what one side predicts the other does."""
    path = tmp_path / "one.jsonl"
    lines = [f"{i} the café sat {i % 5 * 'añb'}" for i in range(27)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    splits = corpus(str(path), "bytes", length=8, pack=False, validation=2, test=2)
    ours, theirs = splits.train.tokenizer, tokenizer_of({"bpe": {"size": 262}}, lines)
    rows = AlignedRows(TokenLoader(splits.train, 4, shuffle=False), theirs)
    learnt = 0
    stored_rows = TokenLoader(splits.train, 4, shuffle=False).epoch(0)
    for batch, plain in zip(rows.epoch(0), stored_rows, strict=True):
        for row in range(len(batch)):
            stored = plain.targets[row][plain.mask[row]].tolist()
            read = batch.targets[row][batch.mask[row]].tolist()
            assert stored.count(ours.end) == read.count(ours.end)
            assert ours.decode(read) in ours.decode(stored)
            assert ours.decode(stored).strip("�").endswith(ours.decode(read)[1:])
            learnt += len(read)
        teachers = batch.inputs["teacher.targets"][batch.inputs["teacher.mask"]]
        assert int((teachers == theirs.end).sum()) == int((batch.targets == ours.end).sum())
    assert learnt > 0.9 * splits.train.units
    assert torch.equal(batch.ids, plain.ids)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"setting": "classic"}, "teacher.tokenizer: got 'bytes', and the setting classic"),
        ({"teacher": OWN}, "teacher.tokenizer: the setting cross_tokenizer is for"),
        ({"teacher": {**OWN, "tokenizer": "byte"}}, "teacher.tokenizer: .*Did you mean 'bytes'"),
        ({"teacher": {**BYTES, "cache": {}}}, "teacher.cache: .* asked live"),
        ({"objective": ["kd"]}, "objective.0.kd: "),
        ({"objective": [{"overlap": {"tokens": "some"}}]}, r"overlap.tokens: .*got 'some'"),
        ({"gates": {"agreement": 0.5}}, "gates.agreement: .*token by token"),
    ],
    ids=["setting", "tokenizer", "name", "cache", "kd", "map", "gate"],
)
def test_two_tokenizers_are_refused_in_one_line(text, tmp_path, changes, told):
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(crossed(text, **changes), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_packed_rows_are_refused(text, tmp_path):
    made = crossed(text)
    del made["data"]["source"]["text"]["pack"]
    with pytest.raises(TutelageError, match=r"source.text.pack: got true, .* write pack: false"):
        quiet_run(made, tmp_path / "out")
