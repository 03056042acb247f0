"""Crashes of other people's code are one line, and nothing stays of them."""

import os
import subprocess
import sys
from types import SimpleNamespace
from weakref import ref

import pytest
import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ExportError, NotInstalled, ShapeMismatch
from tutelage.deployment.formats import executorch, executorch_file
from tutelage.deployment.formats.alone import alone
from tutelage.deployment.formats.executorch import export_executorch
from tutelage.deployment.formats.formats import open_file
from tutelage.deployment.formats.kept import keep_checked
from tutelage.models import Observed
from tutelage.models.intake import Intake

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    return Observed(net, intake=Intake(0.3, 0.4, size=6, channels=3), classes=[4, 3, 2, 1, 0])


class TestAlone:
    @posix
    def test_a_signal_is_a_line(self):
        with pytest.raises(ExportError, match=r"with signal 11 \(SIGSEGV\) while it adds"):
            alone(("-c", CRASH), "", "adds")

    def test_an_error_is_its_last_line(self):
        with pytest.raises(ExportError, match=r"while it adds: ValueError: no$"):
            alone(("-c", "raise ValueError('no')"), "", "adds")

    def test_one_that_does_not_end_is_ended(self):
        with pytest.raises(ExportError, match="adds for more than 0 s"):
            alone(("-c", "import time; time.sleep(60)"), "", "adds", most=0.3)


class TestLeftovers:
    def test_those_of_dead_processes_go_and_those_of_others_stay(self, tmp_path):
        done = subprocess.Popen([sys.executable, "-c", ""])
        done.wait()
        mine, dead, alive, other = (
            tmp_path / f".{name}.{number}.tmp"
            for name, number in (
                ("a.pte", os.getpid()),  # of a killed process that had our number
                ("a.pte", done.pid),
                ("a.pte", os.getppid()),
                ("b.pte", done.pid),
            )
        )
        for each in (mine, dead, alive, other):
            each.mkdir()
            (each / "half").write_text("half")
        keep_checked(
            tmp_path / "a.pte", lambda path: path.write_text("x") and None, lambda path: 1, "it"
        )
        assert sorted(tmp_path.iterdir()) == sorted([alive, other, tmp_path / "a.pte"])


class Method:
    def execute(self, inputs):
        return inputs


class Program:
    """Keeps its methods, as ExecuTorch's does."""

    def __init__(self):
        self.kept = {}

    def load_method(self, name):
        self.kept[name] = method = Method()
        MADE.append(ref(method))
        return method


MADE: list = []


def test_no_method_outlives_the_threads_it_was_loaded_with():
    at_reset, threads = [], [4]

    def reset(number):
        at_reset.append([each() for each in MADE])
        threads[0] = number

    library = SimpleNamespace(
        _threadpool_get_thread_count=lambda: threads[0], _unsafe_reset_threadpool=reset
    )
    files = [executorch_file._File(Program) for _ in range(2)]
    for file in files:
        assert file.method() is file.method()
    executorch_file._set_threads(library, 1)
    executorch_file._set_threads(library, 1)
    assert at_reset == [[None, None]]
    assert files[0].method().execute([1]) == [1]


class TestExecuTorch:
    @posix
    def test_a_crash_of_its_runtime_is_a_line_and_nothing_is_left(
        self, model, tmp_path, monkeypatch
    ):
        child = tmp_path / "child.py"
        child.write_text(
            "import sys\nfrom pathlib import Path\n"
            "if sys.argv[1] == 'lower':\n    Path(sys.argv[3]).write_text('lowered')\n"
            f"else:\n    assert Path(sys.argv[2]).read_text() == 'lowered'\n    {CRASH}\n"
        )
        monkeypatch.setattr(executorch, "_CHILD", child)
        monkeypatch.setattr(executorch, "find_spec", lambda name: name)
        (tmp_path / "made").mkdir()
        told = r"ended its process with signal 11 \(SIGSEGV\) while it answers real examples"
        with pytest.raises(ExportError, match=told):
            export_executorch(model, Batch(IMAGES), tmp_path / "made" / "a.pte")
        assert list((tmp_path / "made").iterdir()) == []

    def test_where_it_is_not_installed_the_extra_is_told(self, model, tmp_path, monkeypatch):
        monkeypatch.setattr(executorch, "find_spec", lambda name: None)
        with pytest.raises(NotInstalled, match=r'pip install "tutelage\[edge\]"'):
            export_executorch(model, Batch(IMAGES), tmp_path / "a.pte")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_it_answers_as_the_model_with_any_threads(self, model, tmp_path):
        pytest.importorskip("executorch")
        path = tmp_path / "a.pte"
        export_executorch(model, Batch(IMAGES), path, names=list("abcde"))
        assert list(tmp_path.iterdir()) == [path]
        file = open_file(path)
        assert (file.names, file.most) == (tuple("abcde"), 32)
        with torch.no_grad():
            wanted = model.eval()(Batch(IMAGES)).logits
        for threads in (2, 1, 2):
            run = file.ready(IMAGES, threads)
            for _ in range(20):
                assert torch.allclose(run()[0], wanted, atol=1e-5)
            assert torch.allclose(file(Batch(IMAGES[:1])).logits, wanted[:1], atol=1e-5)
        with pytest.raises(ShapeMismatch, match="at most 32 examples at once"):
            file(Batch(IMAGES.repeat(4, 1, 1, 1)))
        with pytest.raises(ExportError, match="differs from the model by"):
            executorch._checked(path, IMAGES, wanted.double() + 1, 1e-4)
