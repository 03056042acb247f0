"""Real language models, where they lie beside the project: SmolLM2-135M-Instruct and MiniLM-L6."""

import os
from pathlib import Path

import pytest
import torch
from language_models import QUIET

from tutelage.core.batch import Batch
from tutelage.models import Draw, Observed, build_model, generate

FOLDER = Path(os.environ.get("TUTELAGE_MODELS", Path(__file__).parents[3] / "lm"))
pytestmark = [pytest.mark.data, *QUIET]


def needs(name):
    return pytest.mark.skipif(not (FOLDER / name).is_dir(), reason=f"{name} is not at {FOLDER}")


@needs("smollm2")
def test_a_real_model_knows_a_capital_alone_and_in_company():
    transformers = pytest.importorskip("transformers")
    folder = FOLDER / "smollm2"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    observed = Observed(build_model(f"hf:{folder}", classes=len(tokenizer), shape=(8,)))
    chats = [
        [{"role": "user", "content": f"What is the capital of {country}?"}]
        for country in ("France", "Italy, where people speak Italian")
    ]
    given = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
    )
    draw = Draw(12, temperature=0, end=tokenizer.eos_token_id)
    found = generate(observed, given.input_ids, given.attention_mask, draw, seed=0)
    said = [tokenizer.decode(row[is_new]) for row, is_new in zip(*_rows(found), strict=True)]
    assert "Paris" in said[0]
    assert "Rome" in said[1]


def _rows(found):
    return found.tokens, found.written


@needs("minilm")
def test_a_real_encoder_puts_like_sentences_near_each_other():
    transformers = pytest.importorskip("transformers")
    folder = FOLDER / "minilm"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    spec = {f"hf:{folder}": {"task": "embedding"}}
    observed = Observed(build_model(spec, classes=2, shape=(8,)).eval())
    texts = ["A man is eating food.", "A man eats a piece of bread.", "Shares fell on Wall Street."]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = observed.tap(["layers.5:attention"])(Batch(dict(given)))
    likeness = found.logits @ found.logits.T
    torch.testing.assert_close(likeness.diagonal(), torch.ones(3))
    assert likeness[0, 1] > 0.6
    assert likeness[:2, 2].max() < 0.2
    assert found["layers.5:attention"].shape[:2] == (3, 12)
