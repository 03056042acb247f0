"""tutelage export --to gguf: a run on text becomes a file that llama.cpp runs."""

import json
import sys

import pytest
import torch
from recipe_samples import quiet_run

from tutelage.core.errors import TutelageError
from tutelage.deployment.formats.gguf_back import GgufFile
from tutelage.recipe.exporting import export_words
from typed import typed

gguf = pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run on text."""
    place = tmp_path_factory.mktemp("gguf")
    (place / "said.txt").write_text("the cat sat on a mat, and 7 dogs saw it. " * 200)
    tokenizer = {"bpe": {"size": 280}}
    text = {"path": str(place / "said.txt"), "tokenizer": tokenizer, "length": 32}
    recipe = {
        "recipe": 1,
        "name": "little",
        "data": {"source": {"text": text}},
        "teacher": {
            "model": {"gpt": {"width": 16, "layers": 1, "heads": 2}},
            "train": {"epochs": 2},
        },
        "student": {"model": {"gpt": {"width": 32, "layers": 1, "heads": 4, "kv_heads": 2}}},
        "train": {"epochs": 4, "batch_size": 8, "learning_rate": 0.01, "optimizer": {"adamw": {}}},
        "objective": ["kd"],
        "baseline": None,
        "report": "none",
        "export": False,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTELAGE_CACHE", str(place / "cache"))
        result = quiet_run(recipe, place / "a")
    return place / "a", result


def test_a_run_on_text_becomes_gguf_files(finished, tmp_path, monkeypatch):
    folder, result = finished
    words = ("export", folder, "--format", "gguf", "--to", "gguf_q8_0", "--out", tmp_path)
    code, out, err = typed(monkeypatch, *words, "--json")
    assert (code, err) == (0, "")
    full, small = json.loads(out)
    assert (full["format"], full["equal_top1"]) == ("gguf", 1)
    assert full["max_difference"] < 1e-5 < small["max_difference"]
    names = {"student.gguf", "student-q8_0.gguf"}
    assert {each.name for each in tmp_path.iterdir()} == names
    assert full["bytes"] == (tmp_path / "student.gguf").stat().st_size
    file = GgufFile(tmp_path / "student.gguf")
    assert (file.shape.heads, file.shape.kv_heads, file.shape.context) == (4, 2, 1024)
    assert "little" in file.said("general.name") or "gpt" in file.said("general.name")
    ids = torch.randint(280, (1, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = result.student.cpu().eval().model(ids)
        assert torch.allclose(file.model()(input_ids=ids).logits, wanted, atol=1e-4)
    code, out, err = typed(monkeypatch, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is there already: choose another --out, or give --force." in err


def test_formats_for_classes_are_refused_for_text(finished, tmp_path):
    with pytest.raises(TutelageError, match="torch is for models that answer with classes, and"):
        export_words(str(finished[0]), ["torch"], tmp_path)


@pytest.mark.slow
def test_a_run_on_text_is_exported_to_onnx_too(finished, tmp_path):
    (made,) = export_words(str(finished[0]), ["onnx"], tmp_path)
    assert (made["equal_top1"], made["examples"]) == (1, 8)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "--to", "gguf"], "there is no model 'nowhere': check its path"),
        (["RUN", "--to", "guf"], "Did you mean 'gguf"),
        (["RUN", "--to", "gguf", "--from", "shipped"], "gguf is made from the torch model"),
        (["RUN", "--to", "gguf", "--data", "fashion_mnist_small"], "is no text whose next tokens"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(words, told, finished, tmp_path, monkeypatch):
    folder = finished[0]
    (folder / "student.onnx").touch()  # here nobody opens it
    given = [folder if word == "RUN" else word for word in words]
    code, out, err = typed(monkeypatch, "export", *given, "--out", tmp_path / "made")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "made").exists()


def test_without_its_package_the_line_says_what_to_install(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(TutelageError, match=r'pip install "tutelage\[hf\]"'):
        export_words(str(finished[0]), ["gguf"], tmp_path / "made")
    assert not (tmp_path / "made").exists()
