"""From a trained student to files that others can use and trust.

Names are loaded when they are asked for: what serves a package does without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.deployment.card import model_card as model_card
    from tutelage.deployment.exit_policy import export_exits as export_exits
    from tutelage.deployment.exit_policy import read_policy as read_policy
    from tutelage.deployment.export import OPSET as OPSET
    from tutelage.deployment.export import export_onnx as export_onnx
    from tutelage.deployment.parity import Parity as Parity

_PLACES = {
    "OPSET": "export",
    "Parity": "parity",
    "export_exits": "exit_policy",
    "export_onnx": "export",
    "model_card": "card",
    "read_policy": "exit_policy",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
