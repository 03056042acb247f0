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
from tutelage.deployment.formats import openvino_int8 as int8
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


@pytest.fixture(scope="module")
def program(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "a.pt2"
    parity = export_program(model, Batch(IMAGES), path, names=list("abcde"))
    assert parity.examples == 20
    return path


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The model's own OpenVINO file, in float32."""
    pytest.importorskip("openvino")
    path = tmp_path_factory.mktemp("ir") / "a.xml"
    ir.export_openvino(model, Batch(IMAGES), path, names=list("abcde"))
    return path


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
    def test_raw_images_in_logits_out_for_any_number(self, model, program):
        file = open_file(program)
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

    def test_examples_are_not_in_the_file(self, program):
        assert IMAGES[0].numpy().tobytes() not in program.read_bytes()

    def test_pickles_are_refused_before_torch_reads_them(self, program, tmp_path):
        with zipfile.ZipFile(program) as good:
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

    def test_raw_images_in_logits_out_for_any_number(self, model, whole):
        assert sorted(each.name for each in whole.parent.iterdir()) == ["a.bin", "a.xml"]
        file = open_file(whole)
        assert (file.names, file.backend) == (tuple("abcde"), "openvino")
        same(file, model, Batch(IMAGES.repeat(4, 1, 1, 1)))
        run = file.ready(Batch(IMAGES).inputs, 2)
        assert np.allclose(run()[0], file(Batch(IMAGES)).logits.numpy(), atol=1e-5)

    @pytest.mark.slow
    def test_a_wrong_file_is_refused_and_nothing_is_left(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(ir, "fix_sizes", lambda shipped, inputs: shipped.model[-1].bias.add_(1))
        with pytest.raises(ExportError, match="the OpenVINO file differs from the model"):
            ir.export_openvino(model, Batch(IMAGES), tmp_path / "a.xml")
        assert list(tmp_path.iterdir()) == []

    def test_weights_that_are_gone_are_told(self, tmp_path):
        (tmp_path / "a.xml").write_text("<net/>")
        with pytest.raises(ModelError, match=r"no a\.bin beside it"):
            open_file(tmp_path / "a.xml")


class TestInt8:
    def planted(self, monkeypatch, found):
        monkeypatch.setattr(int8, "_nncf", lambda: None)
        monkeypatch.setattr(int8, "converted", lambda *words: None)
        monkeypatch.setattr(int8, "_quantised", lambda nncf, whole, calibration: found)

    def test_as_many_other_answers_as_are_allowed_and_no_more(
        self, model, whole, tmp_path, monkeypatch
    ):
        openvino = ir.installed()
        kept = openvino.Core().read_model(whole)
        assert len(int8.resizes(kept)) == 2
        path = tmp_path / "a.xml"
        self.planted(monkeypatch, kept)
        agreed = int8.export_openvino_int8(model, Batch(IMAGES), Batch(IMAGES), path)
        assert (agreed.equal_top1, agreed.examples) == (1, 20)
        before = path.read_bytes(), path.with_suffix(".bin").read_bytes()

        logits = open_file(path)(Batch(IMAGES)).logits
        largest, others = logits.argmax(1).mode().values, torch.zeros(1, 5)
        others[0, largest] = -100  # who has the most usual answer gets another
        share = (logits.argmax(1) == largest).double().mean().item()
        self.planted(monkeypatch, shifted(openvino, kept, others.numpy()))
        with pytest.raises(ExportError, match=rf"gives another class for {share:.1%} of 20 real"):
            int8.export_openvino_int8(
                model, Batch(IMAGES), Batch(IMAGES), path, least_equal=1.001 - share
            )
        assert sorted(each.name for each in tmp_path.iterdir()) == ["a.bin", "a.xml"]
        assert before == (path.read_bytes(), path.with_suffix(".bin").read_bytes())
        agreed = int8.export_openvino_int8(
            model, Batch(IMAGES), Batch(IMAGES), path, least_equal=0.999 - share
        )
        assert agreed.equal_top1 == pytest.approx(1 - share)

    @pytest.mark.slow
    def test_a_quantised_file_answers_nearly_as_the_model(self, model, tmp_path):
        pytest.importorskip("nncf")
        path = tmp_path / "a.xml"
        agreed = int8.export_openvino_int8(
            model, Batch(IMAGES), Batch(IMAGES), path, least_equal=0.5
        )
        assert 0 < agreed.max_difference < 0.2  # 0 would be the model itself
        assert len(open_file(path)(Batch(IMAGES)).logits) == 20


def shifted(openvino, model, numbers):
    """The model with numbers added to its logits."""
    copied = model.clone()
    (end,) = copied.get_results()
    logits = end.input_value(0)
    end.input(0).replace_source_output(openvino.opset13.add(logits, numbers).output(0))
    return copied


def test_a_package_that_is_not_there_is_told_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    (tmp_path / "a.xml").write_text("<net/>")
    with pytest.raises(NotInstalled, match=r'pip install "tutelage\[openvino\]"'):
        open_file(tmp_path / "a.xml")


def test_a_wrong_format_names_the_nearest():
    with pytest.raises(ExportError, match=r"'openvno'.*Did you mean 'openvino"):
        format_named("openvno")
