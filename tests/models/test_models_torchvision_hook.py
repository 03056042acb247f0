import subprocess
import sys
import textwrap

import torch

from tutelage.models.torchvision_hook import _nms

# A package that fails as torchvision 0.28 does beside a torch without its compiled part: one
# operator is described at import, and is not there.
BROKEN = """
import torch
from . import extension
@torch.library.register_fake("torchvision::nms")
def meta(boxes, scores, threshold):
    return boxes.new_empty(0)
"""


def run(folder, files, script):
    for name, text in files.items():
        path = folder / "torchvision" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={"PYTHONPATH": str(folder), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_torchvision_without_its_operators_imports(tmp_path):
    out = run(
        tmp_path,
        {"__init__.py": BROKEN, "extension.py": "loaded = True"},
        """
        import sys
        import importlib.util
        spec = importlib.util.find_spec("tutelage.models")
        hook = importlib.util.spec_from_file_location(
            "hook", spec.submodule_search_locations[0] + "/torchvision_hook.py")
        module = importlib.util.module_from_spec(hook)
        before = len(sys.meta_path)
        hook.loader.exec_module(module)
        module.install(); module.install()
        assert len(sys.meta_path) == before + 1
        assert "torch" not in sys.modules, "the hook imported torch early"
        import torchvision
        import torch
        assert torchvision.extension.loaded and torchvision.meta
        boxes = torch.tensor([[0, 0, 2, 2.], [0, 0, 2, 2.1], [5, 5, 6, 6]])
        print(torch.ops.torchvision.nms(boxes, torch.tensor([.5, .9, .1]), .5).tolist())
        """,
    )
    assert out.strip() == "[1, 2]"


def test_a_healthy_or_otherwise_broken_torchvision_is_left_alone(tmp_path):
    files = {
        "__init__.py": "import os\nif os.path.exists(__file__ + '.bad'): raise RuntimeError('no')",
    }
    out = run(
        tmp_path,
        files,
        """
        import sys, pathlib
        from tutelage.models.torchvision_hook import install
        import torch
        install()
        import torchvision
        assert not hasattr(torch.ops.torchvision, "nms")
        del sys.modules["torchvision"]
        pathlib.Path(torchvision.__file__ + ".bad").touch()
        try:
            import torchvision
        except RuntimeError as error:
            print("as it was:", error)
        assert not hasattr(torch.ops.torchvision, "nms")
        """,
    )
    assert out.strip() == "as it was: no"


def test_suppression_keeps_the_best_of_overlapping_boxes():
    torch.manual_seed(0)
    corner = torch.rand(40, 2) * 4
    boxes = torch.cat([corner, corner + torch.rand(40, 2) * 3 + 0.1], dim=1)
    scores = torch.rand(40)
    kept = _nms(boxes, scores, 0.4).tolist()

    def overlap(a, b):
        low, high = torch.maximum(a[:2], b[:2]), torch.minimum(a[2:], b[2:])
        both = (high - low).clamp(min=0).prod()
        return both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)

    expected = []
    for index in sorted(range(40), key=lambda i: -scores[i].item()):
        if all(overlap(boxes[index], boxes[other]) <= 0.4 for other in expected):
            expected.append(index)
    assert kept == expected
    assert 1 < len(kept) < 40
