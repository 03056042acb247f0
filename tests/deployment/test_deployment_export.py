"""Export: what is kept was seen to compute the same; what does not is refused and leaves no file.

Each real export takes seconds, so one file serves several tests.
"""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError
from tutelage.deployment import OPSET, export_onnx
from tutelage.deployment.parity import parity_of
from tutelage.models import Frozen, Intake, Observed, build_model

CLASSES = ("shirt", "coat", "bag")


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 3),
    )
    model(3 * torch.randn(64, 1, 9, 9) + 1)  # BatchNorm's statistics are those of real use
    return model


def observed():
    return Observed(network(), intake=Intake([0.3], [0.4]), classes=[2, 0, 1])


def images(total=23):
    return Batch(torch.rand(total, 1, 9, 9, generator=torch.Generator().manual_seed(1)))


def session(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model that was tapped and half in training when it was exported, its file, the parity."""
    folder = tmp_path_factory.mktemp("exported")
    model = observed().tap(["0", "2"])
    model.train()
    model.model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path = folder / "new" / "student.onnx"
    parity = export_onnx(model, images(), path, names=CLASSES, source="student of run 7")
    return model, before, path, parity


class TestExport:
    def test_the_file_computes_what_the_model_computes(self, exported):
        model, _, path, parity = exported
        assert parity.equal_top1 == 1
        assert parity.max_difference < 1e-5
        assert parity.examples == 23
        fresh = Batch(torch.rand(40, 1, 9, 9))
        with torch.no_grad():
            expected = copy.deepcopy(model).eval()(fresh).logits.numpy()
        found = session(path).run(None, {"inputs": fresh.inputs.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_it_takes_raw_images_in_batches_of_any_size(self, exported):
        _, _, path, _ = exported
        ready = session(path)
        inputs = images().inputs.numpy()
        whole = ready.run(None, {"inputs": inputs})[0]
        for size in (1, 2, 7, 23):
            part = ready.run(None, {"inputs": inputs[:size]})[0]
            np.testing.assert_allclose(part, whole[:size], atol=1e-6)

    def test_it_is_one_file_that_says_what_it_is(self, exported):
        import onnx

        _, _, path, _ = exported
        assert [file.name for file in path.parent.iterdir()] == ["student.onnx"]
        about = session(path).get_modelmeta().custom_metadata_map
        assert tuple(json.loads(about["tutelage.classes"])) == CLASSES
        assert json.loads(about["tutelage.input_range"]) == [0, 1]
        assert json.loads(about["tutelage.input_shape"]) == {"inputs": [1, 9, 9]}
        assert about["tutelage.source"] == "student of run 7"
        written = onnx.load(path)
        assert [(one.domain, one.version) for one in written.opset_import] == [("", OPSET)]
        assert [output.name for output in written.graph.output] == ["logits"]

    def test_the_model_keeps_its_taps_its_modes_and_its_weights(self, exported):
        model, before, _, _ = exported
        assert model.taps == ["0", "2"]
        assert set(copy.deepcopy(model)(images()).features) == {"0", "2"}
        assert (model.model[0].training, model.model[1].training) == (True, False)
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(parameter.requires_grad for parameter in model.parameters())


class TestInputsByName:
    def test_named_inputs_and_a_frozen_model_are_exported_too(self, tmp_path):
        class Both(nn.Module):
            def __init__(self):
                super().__init__()
                self.one, self.two = nn.Linear(4, 3), nn.Embedding(5, 3)

            def forward(self, numbers, kind):
                return self.one(numbers) + self.two(kind)

        torch.manual_seed(0)
        model = Frozen(
            Observed(Both(), read=lambda net, given: net(given["numbers"], given["kind"]))
        )
        given = {"numbers": torch.randn(9, 4), "kind": torch.arange(9) % 5}
        parity = export_onnx(model, Batch(given), tmp_path / "both.onnx")
        assert parity.equal_top1 == 1
        names = [given.name for given in session(tmp_path / "both.onnx").get_inputs()]
        assert names == ["numbers", "kind"]


def test_a_recurrent_network_of_the_zoo_is_exported(tmp_path):
    torch.manual_seed(0)
    model = build_model({"gru": {"hidden": 4}}, classes=3, shape=(1, 9, 9))
    parity = export_onnx(Observed(model), images(), tmp_path / "gru.onnx")
    assert parity.equal_top1 == 1


class Written:
    """What `torch.onnx.export` would return, made by hand: a layer that gives ``scale · x``."""

    def __init__(self, scale, batch="batch"):
        from onnx import TensorProto, helper, numpy_helper

        def value(name):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3])

        factor = numpy_helper.from_array(np.array(scale, dtype=np.float32), "factor")
        node = helper.make_node("Mul", ["inputs", "factor"], ["logits"])
        graph = helper.make_graph([node], "g", [value("inputs")], [value("logits")], [factor])
        opset = helper.make_opsetid("", OPSET)
        self.model = helper.make_model(graph, opset_imports=[opset], ir_version=10)

    def save(self, path, external_data):
        import onnx

        onnx.save(self.model, path)


class Nothing(nn.Module):
    def forward(self, x):
        return x + 0


class TestRefusal:
    """The exporter is replaced: a wrong file must never get its name, nor replace a good one."""

    rows = torch.tensor([[1.0, 2.0, 9.0], [5.0, 4.0, 3.0], [0.0, 7.0, 1.0]])

    def attempt(self, monkeypatch, path, written):
        monkeypatch.setattr(torch.onnx, "export", lambda *args, **options: written)
        return export_onnx(Observed(Nothing()), Batch(self.rows), path)

    def test_a_faithful_file_is_kept(self, monkeypatch, tmp_path):
        parity = self.attempt(monkeypatch, tmp_path / "s.onnx", Written(1.0))
        assert parity.max_difference == 0
        assert (tmp_path / "s.onnx").exists()

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            (lambda: Written(1.001), "differs from the model by 0.001 of the largest logit"),
            (lambda: Written(-1.0), "differs from the model by 2 of the largest"),
            (lambda: Written(np.nan), "differs from the model by nan"),
            (lambda: Written(1.0, batch=3), "ONNX Runtime cannot run the exported file"),
            (lambda: None, "cannot be written as ONNX"),
        ],
    )
    def test_a_wrong_file_is_refused_in_one_line_and_an_older_one_stays(
        self, monkeypatch, tmp_path, written, message
    ):
        path = tmp_path / "student.onnx"
        path.write_bytes(b"the good one")
        with pytest.raises(ExportError, match=message) as caught:
            self.attempt(monkeypatch, path, written())
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == b"the good one"
        assert list(tmp_path.iterdir()) == [path]

    def test_an_exporter_that_fails_talks_in_one_line(self, monkeypatch, tmp_path):
        def fail(*args, **options):
            print("noise")
            raise RuntimeError("Failed to convert\n" + "a long story\n" * 50)

        monkeypatch.setattr(torch.onnx, "export", fail)
        with pytest.raises(ExportError, match="RuntimeError: Failed to convert") as caught:
            export_onnx(Observed(Nothing()), Batch(self.rows), tmp_path / "s.onnx")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("model", "inputs", "options", "message"),
        [
            (Nothing(), torch.zeros(0, 3), {}, "no examples were given"),
            (Nothing(), torch.zeros(2, 3), {"names": ["a"]}, "1 class names were given"),
            (Nothing(), torch.full((2, 3), torch.nan), {}, "NaN or infinite"),
            (Nothing(), torch.zeros(2, 3, 4, 5), {}, r"logits of shape \(2, 3, 4, 5\)"),
        ],
    )
    def test_what_cannot_be_checked_is_not_exported(
        self, tmp_path, model, inputs, options, message
    ):
        with pytest.raises(ExportError, match=message):
            export_onnx(Observed(model), Batch(inputs), tmp_path / "s.onnx", **options)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("model", "inputs", "message"),
        [
            (nn.Linear(4, 2), rows, "cannot answer these examples: .* RuntimeError: mat1 and mat2"),
            (nn.Linear(3, 2).half(), rows, r"a model in float32 \(model.float\(\)\): RuntimeError"),
        ],
    )
    def test_a_model_that_cannot_answer_talks_in_one_line(self, tmp_path, model, inputs, message):
        with pytest.raises(ExportError, match=message) as caught:
            export_onnx(Observed(model), Batch(inputs), tmp_path / "s.onnx")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_a_bare_module_is_to_be_wrapped(self, tmp_path):
        with pytest.raises(ExportError, match=r"got a Linear: wrap it: Observed\(model\)"):
            export_onnx(nn.Linear(3, 2), Batch(self.rows), tmp_path / "s.onnx")

    @pytest.mark.parametrize(
        ("path", "words", "cause"),
        [
            ("folder.onnx", "Is a directory", IsADirectoryError),
            ("file/s.onnx", "File exists", FileExistsError),
            ("file/new/s.onnx", "Not a directory", NotADirectoryError),
        ],
    )
    def test_a_path_that_cannot_be_written_is_one_line(
        self, monkeypatch, tmp_path, path, words, cause
    ):
        (tmp_path / "folder.onnx").mkdir()
        (tmp_path / "file").touch()
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ExportError, match=f"{path} cannot be written: {words}") as caught:
            self.attempt(monkeypatch, tmp_path / path, Written(1.0))
        assert isinstance(caught.value.__cause__, cause)
        assert sorted(tmp_path.rglob("*")) == before

    def test_weights_too_large_for_one_file_are_refused(self, monkeypatch, tmp_path):
        monkeypatch.setattr("tutelage.deployment.export._LARGEST", 8)
        with pytest.raises(ExportError, match="one ONNX file holds less than 2 GB"):
            export_onnx(Observed(nn.Linear(3, 2)), Batch(self.rows), tmp_path / "s.onnx")


class TestParity:
    def test_near_ties_may_change_places_and_nothing_else(self):
        expected = torch.tensor([[1.0, 1.0 + 1e-6], [3.0, 0.0]], dtype=torch.float64)
        found = torch.tensor([[1.0 + 1e-6, 1.0], [3.0, 0.0]], dtype=torch.float64)
        assert parity_of(found, expected, 1e-4).equal_top1 == 1
        turned = torch.tensor([[1.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
        assert parity_of(turned, expected, 1e-4).equal_top1 == 0.5

    def test_the_difference_is_relative_to_the_largest_logit(self):
        expected = torch.tensor([[100.0, -200.0]], dtype=torch.float64)
        assert parity_of(expected + 1, expected, 1e-4).max_difference == pytest.approx(1 / 200)
