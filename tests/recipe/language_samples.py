"""Little texts and recipes of language models."""

from functools import partial

import pytest
import torch

from tutelage.evaluation.costs import latency
from tutelage.recipe import text_reporting

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "7", "dogs", "run", ".")


def sentences(count, seed=0):
    """Words of a little grammar: each is followed by one of three."""
    dice, place, said = torch.Generator().manual_seed(seed), 0, []
    for _ in range(count):
        place = (2 * place + int(torch.randint(3, (1,), generator=dice))) % len(WORDS)
        said.append(WORDS[place])
    return " ".join(said)


@pytest.fixture(autouse=True)
def quick_latency(monkeypatch):
    """How long a row takes is no matter of these tests."""
    few = latency.Effort(warmup=1, calls=5)
    quick = partial(latency.torch_latency, effort=few)
    monkeypatch.setattr(text_reporting, "torch_latency", quick)


def recipe(path, tokenizer, length=24, **changes):
    """A run on a text whose documents have rows of their own."""
    source = {"path": str(path), "tokenizer": tokenizer, "length": length, "pack": False}
    made = {
        "recipe": 1,
        "name": "little",
        "data": {"source": {"text": source}},
        "teacher": {"model": {"gpt": {"width": 32, "layers": 2, "heads": 2}}, "train": {}},
        "student": {"model": {"gpt": {"width": 16, "layers": 1, "heads": 2}}},
        "train": {
            "epochs": 2,
            "batch_size": 16,
            "learning_rate": 0.01,
            "optimizer": {"adamw": {}},
        },
        "objective": [{"kd": {"temperature": 1}}],
        "baseline": False,
        "export": False,
    }
    return {**made, **changes}
