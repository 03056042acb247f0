"""A run on pairs of texts: an encoder-decoder teaches a smaller one."""

import json

import pytest
import torch
from recipe_samples import quiet_run

from tutelage.core.batch import Batch
from tutelage.evaluation.onnx_model import OnnxModel

WORDS = ("red", "blue", "green", "one", "two", "three", "cat", "dog")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Each answer is the text's words in the opposite order."""
    dice, lines = torch.Generator().manual_seed(0), []
    for _ in range(300):
        count = int(torch.randint(2, 5, (1,), generator=dice))
        said = [WORDS[int(torch.randint(len(WORDS), (1,), generator=dice))] for _ in range(count)]
        lines.append(json.dumps({"input": " ".join(said), "output": " ".join(said[::-1])}))
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A T5 of two layers on each side that knows nothing."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=300,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        decoder_start_token_id=0,
    )
    path = tmp_path_factory.mktemp("t5")
    transformers.T5ForConditionalGeneration(config).save_pretrained(path)
    return path


def recipe(pairs, folder, **changes):
    source = {"path": str(pairs), "tokenizer": {"bpe": {"size": 300}}, "answer_length": 24}
    train = {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "optimizer": {"adamw": {}}}
    made = {
        "recipe": 1,
        "name": "turned",
        "data": {"source": {"seq2seq": source}},
        "teacher": {"model": {f"hf:{folder}": {"task": "seq2seq-lm"}}, "train": {"epochs": 4}},
        "student": {"model": {"shrunk": {"layers": 1}}},
        "train": train,
        "objective": [{"kd": {"temperature": 1}}],
        "export": False,
    }
    return {**made, **changes}


@pytest.fixture(scope="module")
def done(pairs, folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("run") / "out"
    return quiet_run(recipe(pairs, folder, export=True), place), place


def test_a_run_on_pairs_is_reported_by_the_tokens_of_answers(done):
    result, place = done
    report = json.loads((place / "report.json").read_text())
    models = report["models"]
    assert models["teacher"]["perplexity"] < 30  # of 300, an eighth of them ever written
    assert models["student"]["perplexity"] < 30
    assert result.student.model.config.num_layers == 1


def test_what_is_shipped_answers_as_the_student(done):
    result, place = done
    dice = torch.Generator().manual_seed(1)
    texts, answers = (torch.randint(200, shape, generator=dice) for shape in ((3, 11), (3, 5)))
    named = {
        "input_ids": texts,
        "attention_mask": torch.ones_like(texts),
        "decoder_input_ids": answers,
        "decoder_attention_mask": torch.ones_like(answers),
    }
    named["attention_mask"][1, 7:] = 0
    with torch.no_grad():
        said = result.student.cpu().eval()(Batch(named)).logits
    assert torch.allclose(OnnxModel(place / "student.onnx")(Batch(named)).logits, said, atol=1e-4)
    transformers = pytest.importorskip("transformers")
    other = transformers.AutoModelForSeq2SeqLM.from_pretrained(place / "student")
    assert torch.allclose(other(**named).logits, said, atol=1e-4)


def test_kept_answers_teach_as_the_live_teacher_does(pairs, folder, tmp_path, done):
    kept = recipe(pairs, folder, baseline=False)
    kept["teacher"] = {**kept["teacher"], "cache": {"form": "dense", "precision": "fp32"}}
    found = quiet_run(kept, tmp_path / "dense").report["models"]["student"]["nll"]
    assert found == pytest.approx(done[0].report["models"]["student"]["nll"], abs=2e-3)
