"""Ranges that were learned, written into an ONNX file: QuantizeLinear and DequantizeLinear pairs.

ONNX Runtime fuses each layer between two pairs into one integer kernel.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.core.errors import ExportError

_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True)
class Steps:
    """How a tensor is rounded: the width of a step, and the integer that stands for zero."""

    width: float
    zero: int


@dataclass(frozen=True)
class Int8Layer:
    """A layer in integers.

    Attributes:
        weight: Integers, outputs first, ``(C, ...)``.
        widths: Width of a step of each output ``(C,)``.
        bias: In float32 ``(C,)``; None where there is none.
        incoming: How the input is rounded.
        outgoing: How the output is; None leaves it in float.
        activated: Whether an activation follows that the rounding makes superfluous, as it
            leaves no number outside the activation's range.
    """

    weight: np.ndarray
    widths: np.ndarray
    bias: np.ndarray | None
    incoming: Steps
    outgoing: Steps | None
    activated: bool


def write_qdq(source: Path, target: Path, layers: Mapping[str, Int8Layer]) -> None:
    """Write the file ``source`` with these layers in integers.

    Args:
        source: A float file.
        target: Where the int8 file goes.
        layers: The layers by the names of their weights in the file.

    Raises:
        ExportError: A layer is not in the file as it was said to be.
    """
    import onnx

    model = onnx.load(str(source))
    graph = _Graph(model.graph)
    for name, layer in layers.items():
        graph.turn(name, layer)
    graph.finish()
    onnx.checker.check_model(model)
    onnx.save(model, str(target))


class _Graph:
    def __init__(self, graph: Any):
        self.graph = graph
        self.nodes = list(graph.node)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.before: dict[int, list[Any]] = {}  # new nodes, by the node that they go before
        self.after: dict[int, list[Any]] = {}
        self.gone: set[int] = set()
        self.rounded: dict[tuple[str, Steps], str] = {}

    def turn(self, name: str, layer: Int8Layer) -> None:
        """Put the layer of this weight between pairs."""
        node, flipped = self._node(name, layer)
        integers = layer.weight.T if flipped else layer.weight
        weight = self._constant(f"{name}.int8", integers, layer.widths, int(flipped), node)
        incoming = self._pair(node.input[0], layer.incoming, node)
        if layer.bias is not None and len(node.input) > 2:
            self._bias(name, layer, node)
        node.input[0], node.input[1] = incoming, weight
        del self.weights[name]
        if layer.outgoing is not None:
            self._answer(name, layer, layer.outgoing, node)

    def finish(self) -> None:
        """Write what was gathered into the graph, without what nothing reads any more."""
        nodes = []
        for node in self.nodes:
            nodes += self.before.get(id(node), [])
            nodes += [] if id(node) in self.gone else [node]
            nodes += self.after.get(id(node), [])
        del self.graph.node[:], self.graph.value_info[:]
        self.graph.node.extend(nodes)
        read = {name for node in nodes for name in node.input}
        kept = [tensor for name, tensor in self.weights.items() if name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _node(self, name: str, layer: Int8Layer) -> tuple[Any, bool]:
        """The node that reads a weight, and whether that has inputs first."""
        nodes = [node for node in self.nodes if name in node.input]
        kinds = [node.op_type for node in nodes]
        if kinds not in (["Conv"], ["Gemm"], ["MatMul"]) or list(nodes[0].input)[1] != name:
            raise ExportError(f"{name} is in the file as that of {kinds or 'nothing'}: not int8.")
        flags = {each.name: each.i for each in nodes[0].attribute}
        flipped = kinds == ["MatMul"] or (kinds == ["Gemm"] and not flags.get("transB"))
        shape = layer.weight.T.shape if flipped else layer.weight.shape
        if tuple(self.weights[name].dims) != shape:
            raise ExportError(f"{name} has the shape {tuple(self.weights[name].dims)} in the file.")
        return nodes[0], flipped

    def _bias(self, name: str, layer: Int8Layer, node: Any) -> None:
        assert layer.bias is not None
        widths = (layer.widths.astype(np.float64) * layer.incoming.width).astype(np.float32)
        integers = np.rint(layer.bias.astype(np.float64) / widths.astype(np.float64))
        whole = np.clip(integers, -(2**31), 2**31 - 1).astype(np.int32)
        node.input[2] = self._constant(f"{name}.bias.int32", whole, widths, 0, node)

    def _answer(self, weight: str, layer: Int8Layer, steps: Steps, node: Any) -> None:
        last = node
        if layer.activated:
            last = self._only_reader(weight, node)
            self.gone.add(id(last))
        name = last.output[0]  # stays the name of what others read
        node.output[0] = f"{name}.float"
        self.after[id(node)] = self._round(f"{name}.float", name, steps)
        self.rounded[name, steps] = name

    def _only_reader(self, weight: str, node: Any) -> Any:
        readers = [each for each in self.nodes if node.output[0] in each.input]
        if len(readers) != 1 or readers[0].op_type not in _ACTIVATIONS:
            raise ExportError(
                f"the layer of {weight} is not followed by its activation in the file."
            )
        return readers[0]

    def _pair(self, name: str, steps: Steps, node: Any) -> str:
        """The name of a tensor when it was rounded so; it is rounded once for all readers."""
        if (name, steps) not in self.rounded:
            made = f"{name}.rounded{len(self.rounded)}"
            self.before.setdefault(id(node), []).extend(self._round(name, made, steps))
            self.rounded[name, steps] = made
        return self.rounded[name, steps]

    def _round(self, name: str, to: str, steps: Steps) -> list[Any]:
        from onnx.helper import make_node

        step, zero, whole = f"{to}.step", f"{to}.zero", f"{to}.whole"
        self._add(step, np.array(steps.width, dtype=np.float32))
        self._add(zero, np.array(steps.zero, dtype=np.uint8))
        return [
            make_node("QuantizeLinear", [name, step, zero], [whole]),
            make_node("DequantizeLinear", [whole, step, zero], [to]),
        ]

    def _constant(
        self, name: str, integers: np.ndarray, widths: np.ndarray, axis: int, node: Any
    ) -> str:
        from onnx.helper import make_node

        self._add(name, integers)
        self._add(f"{name}.step", widths)
        self._add(f"{name}.zero", np.zeros(widths.shape, dtype=integers.dtype))
        given = [name, f"{name}.step", f"{name}.zero"]
        made = make_node("DequantizeLinear", given, [f"{name}.back"], axis=axis)
        self.before.setdefault(id(node), []).append(made)
        return f"{name}.back"

    def _add(self, name: str, values: np.ndarray) -> None:
        from onnx import numpy_helper

        self.weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)


def weights_in(source: Path, weights: Mapping[str, np.ndarray]) -> dict[str, str]:
    """What the weights of layers are called in a file: ``PATH.weight``, or found by their values.

    The exporter renames the weight of a linear layer that reads more than vectors, and turns it.

    Raises:
        ExportError: One is missing or another.
    """
    import onnx
    from onnx import numpy_helper

    tensors = {each.name: each for each in onnx.load(str(source)).graph.initializer}
    names = {}
    for path, weight in weights.items():
        name = f"{path}.weight"
        if name not in tensors:
            turned = [each for each, tensor in tensors.items() if _is(tensor, weight.T)]
            if len(turned) != 1:
                raise ExportError(f"the exported file has no weight {name!r}: no int8 is made.")
            name = turned[0]
        there = numpy_helper.to_array(tensors[name])
        if not any(np.array_equal(there, each) for each in (weight, weight.T)):
            raise ExportError(f"the exported file changed {name!r}: it cannot be made int8.")
        names[path] = name
    return names


def _is(tensor: Any, values: np.ndarray) -> bool:
    from onnx import numpy_helper

    return tuple(tensor.dims) == values.shape and np.array_equal(
        numpy_helper.to_array(tensor), values
    )
