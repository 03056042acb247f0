"""Import torchvision beside a torch that it was not built for.

torchvision's wheel for torch 2.13 is built for CUDA. Beside a CPU build of torch its compiled
part does not load, and instead of going without it, ``import torchvision`` ends in "RuntimeError:
operator torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085), as does every
library that imports it (timm, transformers). Two operators that exist are enough for all of its
models and transforms to work.

`install` adds a finder to ``sys.meta_path``. It imports no torch, and on a healthy machine does
nothing at all: the operators are made only when the import has failed for the want of them.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_libraries: list[Any] = []  # operators live as long as their library


class _Finder(MetaPathFinder):
    """Finds torchvision where it lies, and watches its import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "torchvision":
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Retry(spec.loader)
        return spec


class _Retry(Loader):
    """Runs the module; where it misses its operators, makes them and runs it again."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # get_resource_reader, get_data, is_package, ...
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        before = set(sys.modules)
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error) or "does not exist" not in str(error):
                raise
            define_operators()
            for name in set(sys.modules) - before:
                if name.startswith("torchvision."):
                    del sys.modules[name]
            self._loader.exec_module(module)


def install() -> None:
    """Watch the import of torchvision from now on; once is enough, and again does no harm."""
    if "torchvision" not in sys.modules and not any(
        isinstance(finder, _Finder) for finder in sys.meta_path
    ):
        sys.meta_path.insert(0, _Finder())


def define_operators() -> None:
    """Make ``torchvision::nms`` and ``torchvision::qnms``, of which only the first computes."""
    import torch

    library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    library.impl("nms", _nms, "CPU")
    _libraries.append(library)


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Greedy non-maximum suppression: numbers of the boxes kept, by falling score.

    A box ``(x1, y1, x2, y2)`` goes where its intersection over union with one already kept is
    above the threshold.
    """
    import torch

    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True, stable=True)
    kept: list[int] = []
    while len(order) > 0:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        both = (high - low).clamp(min=0).prod(dim=1)
        order = order[both <= iou_threshold * (area[best] + area[order] - both)]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)
