"""Runs on text: one teacher, its student, kept answers, and a student that begins as its teacher."""

import json

import pytest
import torch
from recipe_samples import quiet_run

from tutelage.core.batch import Batch
from tutelage.core.errors import TutelageError
from tutelage.evaluation.costs.limits import Conditions
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.recipe.auditing import look
from tutelage.recipe.benching import bench_words
from tutelage.recipe.named import Named
from tutelage.recipe.packaging import package_run

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "7", "dogs", "run", ".")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Sentences of a little grammar: each word is followed by one of three."""
    dice, place, said = torch.Generator().manual_seed(0), 0, []
    for _ in range(6000):
        step = int(torch.randint(3, (1,), generator=dice))
        place = (2 * place + step) % len(WORDS)
        said.append(WORDS[place])
    path = tmp_path_factory.mktemp("text") / "said.txt"
    path.write_text(" ".join(said))
    return path


def recipe(text, **changes):
    train = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "optimizer": {"adamw": {}}}
    made = {
        "recipe": 1,
        "name": "little",
        "data": {
            "source": {
                "text": {"path": str(text), "tokenizer": {"bpe": {"size": 300}}, "length": 32}
            }
        },
        "teacher": {"model": {"gpt": {"width": 32, "layers": 2, "heads": 2}}, "train": {}},
        "student": {"model": {"gpt": {"width": 16, "layers": 1, "heads": 2}}},
        "train": train,
        "objective": [{"kd": {"temperature": 1}}],
        "export": False,
    }
    return {**made, **changes}


@pytest.fixture(scope="module")
def done(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "out"
    gates = {"perplexity_ratio": 5.0, "accuracy": {"at_least": 0.01, "by": "estimate"}}
    result = quiet_run(recipe(text, gates=gates, seeds=[0, 1], export=True), folder)
    return result, folder


def test_a_run_on_text_is_reported_by_tokens(done):
    result, folder = done
    report = json.loads((folder / "report.json").read_text())
    models = report["models"]
    alike = 300  # tokens
    assert models["teacher"]["perplexity"] < models["student"]["perplexity"] < alike / 5
    assert report["kind"] == "language"
    assert report["comparison"]["gain"]["seeds"] == 2
    assert [gate["name"] for gate in report["gates"]] == ["perplexity_ratio", "accuracy"]
    assert result.passed
    assert 0 < models["student"]["bits_per_byte"] < 8
    slices = {row["slice"] for row in report["parts"]["Where it was lost"]["slices"]}
    assert {"early in a row", "late in a row"} < slices
    names = {path.name for path in folder.iterdir()}
    assert {"student.safetensors", "report.html", "MODEL_CARD.md", "resolved.yaml"} <= names
    card = (folder / "MODEL_CARD.md").read_text()
    assert "pipeline_tag: text-generation" in card


def test_what_is_shipped_answers_as_the_student(done, text):
    transformers = pytest.importorskip("transformers")
    result, folder = done
    rows = torch.randint(280, (2, 11), generator=torch.Generator().manual_seed(1))
    batch = Batch({"input_ids": rows, "attention_mask": torch.ones_like(rows)})
    with torch.no_grad():
        said = result.student.cpu().eval()(batch).logits
        other = transformers.AutoModelForCausalLM.from_pretrained(folder / "student")
        theirs = other(input_ids=rows).logits
    assert torch.allclose(OnnxModel(folder / "student.onnx")(batch).logits, said, atol=1e-4)
    assert torch.allclose(theirs, said, atol=1e-4)
    cut = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "student" / "tokenizer.json")
    )
    whole = text.read_text()[:50]
    assert cut.decode(cut.encode(whole)) == whole


def test_what_is_for_classes_says_so_in_one_line(done, text, tmp_path):
    folder = done[1]
    with pytest.raises(TutelageError, match="is a run on text, and a package holds") as error:
        package_run(folder, tmp_path / "a.zip")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.zip").exists()
    source = Named(name="text", options={"path": str(text), "tokenizer": "bytes", "length": 32})
    with pytest.raises(TutelageError, match="an audit looks at examples with classes"):
        look(source)


def test_models_of_a_run_are_measured_on_its_text(done):
    found = bench_words([str(done[1])], None, Conditions((1,), (1,)), seconds=0.1, starts=1)
    assert len(found["models"]) == 2  # its ONNX file too
    assert found["data"] == "validation examples of text"


def test_kept_answers_teach_as_the_live_teacher_does(text, tmp_path, done):
    kept = recipe(text, baseline=False)
    kept["teacher"] = {**kept["teacher"], "cache": {"form": "dense", "precision": "fp32"}}
    found = quiet_run(kept, tmp_path / "dense").report["models"]["student"]["nll"]
    live = done[0].report["models"]["student"]["nll"]
    assert found == pytest.approx(live, abs=2e-3)
    kept["teacher"]["cache"] = {"form": "top", "k": 64, "precision": "int8"}
    sparse = quiet_run(kept, tmp_path / "top").report["models"]["student"]["nll"]
    assert sparse == pytest.approx(live, abs=0.1)


def test_a_recipe_lets_the_student_write(text, tmp_path):
    made = recipe(text, setting={"on_policy": {"share": 0.5, "most": 8}}, baseline=False)
    made["data"]["source"]["text"]["pack"] = False
    student = quiet_run(made, tmp_path / "out").report["models"]["student"]
    assert student["perplexity"] < 60


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A folder with a Llama of two layers that knows nothing."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return {f"hf:{folder}": {"task": "causal-lm"}}


def test_a_student_may_begin_as_its_teacher(text, tmp_path, llama):
    made = recipe(text, student={"model": {"shrunk": {"layers": 1}}})
    made["train"] = {**made["train"], "epochs": 1, "learning_rate": 1e-6}
    made["teacher"] = {"model": llama, "train": {"epochs": 3, "learning_rate": 0.01}}
    models = quiet_run(made, tmp_path / "out").report["models"]
    assert models["student"]["parameters"] < models["teacher"]["parameters"]
    assert models["student"]["perplexity"] < 100  # it learnt nothing here: it began so
    assert models["baseline"]["nll"] == pytest.approx(models["student"]["nll"], abs=1e-2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"calibrate": True}, "calibrate: it is not for text"),
        ({"control": True}, "control: it is not for text"),
        ({"train": {"augment": ["flip"]}}, "train.augment: got .'flip'., and text is not"),
        ({"student": {"model": {"shrunk": {"layer": 1}}}}, "Did you mean 'layers'"),
        ({"student": {"model": {"shrunk": {"layers": 3}}}}, "and 3 were to stay"),
        ({"setting": "cs_kd"}, "setting"),
    ],
)
def test_what_is_not_for_text_is_told_before_anything_runs(text, tmp_path, change, told):
    with pytest.raises(TutelageError, match=told) as error:
        quiet_run(recipe(text, **change), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
