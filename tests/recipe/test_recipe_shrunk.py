"""Runs whose student begins as its teacher: of the zoo, and of a folder that a run left."""

import pytest
import torch
from recipe_samples import quiet_run

from tutelage.core.errors import TutelageError
from tutelage.models import save_hf

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "7", "dogs", "run", ".")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences of a little grammar: each word is followed by one of three."""
    dice, place, said = torch.Generator().manual_seed(0), 0, []
    for _ in range(700):
        place = (2 * place + int(torch.randint(3, (1,), generator=dice))) % len(WORDS)
        said.append(WORDS[place])
    path = tmp_path_factory.mktemp("text") / "said.txt"
    path.write_text(" ".join(said))
    return path


def recipe(text, student, **changes):
    made = {
        "recipe": 1,
        "name": "little",
        "data": {"source": {"text": {"path": str(text), "tokenizer": "characters", "length": 32}}},
        "teacher": {
            "model": {"gpt": {"width": 16, "layers": 3, "heads": 4}},
            "train": {"epochs": 2, "learning_rate": 0.01},
        },
        "student": {"model": {"shrunk": student}},
        "train": {
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 1e-6,  # it learns nothing here: what it can it has of its teacher
            "optimizer": {"adamw": {}},
        },
        "objective": [{"kd": {"temperature": 1}}],
        "baseline": False,
        "export": False,
    }
    return {**made, **changes}


ALL = {"layers": 2, "choose": "importance", "heads": 2, "mlp": 24, "width": 14}


@pytest.fixture(scope="module")
def done(text, tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("run") / "out"
    result = quiet_run(recipe(text, ALL), folder)
    return result, save_hf(result.student.cpu(), folder / "student")  # as export does


def test_a_gpt_of_the_zoo_can_be_shrunk(text, done):
    transformers = pytest.importorskip("transformers")
    result, folder = done
    models = result.report["models"]
    assert models["student"]["parameters"] < models["teacher"]["parameters"] / 2
    characters = len(set(text.read_text()))
    assert models["student"]["perplexity"] < characters
    rows = torch.randint(characters, (2, 11), generator=torch.Generator().manual_seed(1))
    other = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        ours = result.student.cpu().eval().model(rows)
        assert torch.allclose(other(input_ids=rows).logits, ours, atol=1e-4)


def test_what_a_run_left_is_the_teacher_of_another(text, done, tmp_path):
    pytest.importorskip("transformers")
    first, folder = done
    teacher = {"model": {f"hf:{folder}": {}}}
    made = quiet_run(recipe(text, {"heads": 1, "layers": 1}, teacher=teacher), tmp_path / "out")
    found = made.report["models"]
    wanted = first.report["models"]["student"]
    assert found["teacher"]["nll"] == pytest.approx(wanted["nll"], abs=1e-3)
    assert found["student"]["parameters"] < wanted["parameters"]


def test_too_many_layers_are_told_before_anything_runs(text, tmp_path):
    with pytest.raises(TutelageError, match="'layers' has 3 blocks, and 4 were to stay"):
        quiet_run(recipe(text, {"layers": 4}), tmp_path / "out")
    assert not (tmp_path / "out").exists()
