"""Files of other runtimes answer as the model does, or are not there."""

import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, ModelError, NotInstalled, ShapeMismatch
from tutelage.deployment.formats import openvino as ir
from tutelage.deployment.formats import torch_program
from tutelage.deployment.formats.formats import format_named, open_file
from tutelage.deployment.formats.torch_program import export_program
from tutelage.models import Observed
from tutelage.models.intake import Intake

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    """Normalises, resizes, and has its classes in another order."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return Observed(net, intake=Intake(0.3, 0.4, size=6, channels=3), classes=[4, 3, 2, 1, 0])


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, inputs):
        return self.one(inputs["left"]) + self.two(inputs["right"])


def same(file, model, batch):
    with torch.no_grad():
        wanted = model.eval()(batch).logits
    assert torch.allclose(file(batch).logits, wanted, atol=1e-5)


class TestProgram:
    def test_raw_images_in_logits_out_for_any_number(self, model, tmp_path):
        path = tmp_path / "a.pt2"
        parity = export_program(model, Batch(IMAGES), path, names=list("abcde"))
        assert parity.examples == 20
        file = open_file(path)
        assert (file.names, file.backend) == (tuple("abcde"), "torch_program")
        same(file, model, Batch(IMAGES.repeat(4, 1, 1, 1)))
        with pytest.raises(ShapeMismatch, match=r"takes inputs of shape \(1, 8, 8\)"):
            file(Batch(torch.zeros(1, 1, 9, 9)))

    def test_several_inputs_keep_their_names(self, tmp_path):
        pair = Observed(Pair(), read=lambda model, inputs: model(inputs))
        examples = Batch({"left": torch.rand(6, 3), "right": torch.rand(6, 2)})
        export_program(pair, examples, tmp_path / "a.pt2")
        file = open_file(tmp_path / "a.pt2")
        same(file, pair, examples)
        with pytest.raises(ShapeMismatch, match="takes left, right, and the data has one input"):
            file(Batch(torch.zeros(1, 3)))

    def test_a_wrong_file_is_refused_and_an_older_one_stays(self, model, tmp_path, monkeypatch):
        path, traced = tmp_path / "a.pt2", torch_program.traced
        path.write_text("older")

        def wrong(shipped, inputs, **options):
            shipped.model[-1].bias.add_(0.01)
            return traced(shipped, inputs, **options)

        monkeypatch.setattr(torch_program, "traced", wrong)
        with pytest.raises(ExportError, match="differs from the model by"):
            export_program(model, Batch(IMAGES), path)
        assert [each.name for each in tmp_path.iterdir()] == ["a.pt2"]
        assert path.read_text() == "older"

    def test_examples_are_not_in_the_file(self, model, tmp_path):
        export_program(model, Batch(IMAGES), tmp_path / "a.pt2")
        content = (tmp_path / "a.pt2").read_bytes()
        assert IMAGES[0].numpy().tobytes() not in content

    def test_pickles_are_refused_before_torch_reads_them(self, model, tmp_path):
        export_program(model, Batch(IMAGES), tmp_path / "a.pt2")
        with zipfile.ZipFile(tmp_path / "a.pt2") as good:
            content = {name: good.read(name) for name in good.namelist()}
        for changed, told in (
            ({"a/data/weights/model.pt": b"x"}, "no program that tutelage writes"),
            ({"a/data/sample_inputs/model.pt": b"x"}, "pickled objects"),
            ({"a/data/aotinductor/model/a.so": b"x"}, "no program that tutelage writes"),
        ):
            made = {f"a/{name.partition('/')[2]}": value for name, value in content.items()}
            with zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
                for name, value in (made | changed).items():
                    bad.writestr(name, value)
            with pytest.raises(ModelError, match=told):
                open_file(tmp_path / "bad.pt2")


class TestOpenVino:
    @pytest.fixture(autouse=True)
    def _there(self):
        pytest.importorskip("openvino")

    def test_raw_images_in_logits_out_for_any_number(self, model, tmp_path):
        path = tmp_path / "a.xml"
        ir.export_openvino(model, Batch(IMAGES), path, names=list("abcde"))
        assert sorted(each.name for each in tmp_path.iterdir()) == ["a.bin", "a.xml"]
        file = open_file(path)
        assert (file.names, file.backend) == (tuple("abcde"), "openvino")
        same(file, model, Batch(IMAGES.repeat(4, 1, 1, 1)))
        run = file.ready(Batch(IMAGES).inputs, 2)
        assert np.allclose(run()[0], file(Batch(IMAGES)).logits.numpy(), atol=1e-5)

    def test_a_wrong_file_is_refused_and_nothing_is_left(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(ir, "fix_sizes", lambda shipped, inputs: shipped.model[-1].bias.add_(1))
        with pytest.raises(ExportError, match="the OpenVINO file differs from the model"):
            ir.export_openvino(model, Batch(IMAGES), tmp_path / "a.xml")
        assert list(tmp_path.iterdir()) == []

    def test_weights_that_are_gone_are_told(self, tmp_path):
        (tmp_path / "a.xml").write_text("<net/>")
        with pytest.raises(ModelError, match=r"no a\.bin beside it"):
            open_file(tmp_path / "a.xml")


@pytest.mark.slow
def test_executorch_answers_as_the_model(model, tmp_path):
    pytest.importorskip("executorch")
    from tutelage.deployment.formats.executorch import export_executorch

    export_executorch(model, Batch(IMAGES), tmp_path / "a.pte", names=list("abcde"))
    file = open_file(tmp_path / "a.pte")
    assert (file.names, file.most) == (tuple("abcde"), 32)
    same(file, model, Batch(IMAGES))
    with pytest.raises(ShapeMismatch, match="at most 32 examples at once"):
        file(Batch(IMAGES.repeat(4, 1, 1, 1)))


def test_a_package_that_is_not_there_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(NotInstalled, match=r'pip install "tutelage\[openvino\]"'):
        open_file(tmp_path / "a.xml")


def test_a_wrong_format_names_the_nearest():
    with pytest.raises(ExportError, match=r"'openvno'.*Did you mean 'openvino"):
        format_named("openvno")
