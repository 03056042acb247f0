"""A file in a runtime of its own that answers batches, as a torch model does."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs

Call = Callable[[], Any]
"""One answer to inputs that are prepared already."""


@dataclass(frozen=True)
class Opened:
    """What a runtime tells of a file that it opened.

    Attributes:
        prepared: Of arrays by name and a number of threads: one call.
        logits: Of what such a call returns: logits ``(N, C)``.
        names: Of the inputs, in the file's order; empty where the file does not tell.
        about: What `tutelage` wrote into the file: ``tutelage.classes`` and others, as JSON.
        parameters: Numbers in its weights; None where the runtime does not tell.
        bytes: Of its weights; None where the runtime does not tell.
        most: How many examples it takes at once; None for any number.
        by_name: Whether it takes a dictionary, though it has one input.
    """

    prepared: Callable[[dict[str, Any], int], Call]
    logits: Callable[[Any], Tensor]
    names: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    parameters: int | None = None
    bytes: int | None = None
    most: int | None = None
    by_name: bool = False


class FileModel:
    """A classifier in a file, run on the CPU by the file's own runtime.

    Args:
        path: The file.
        format: ``openvino``, ``torch_program`` or ``executorch``.
        opened: The file in its runtime.
    """

    def __init__(self, path: Path, format: str, opened: Opened):  # noqa: A002  # its name in JSON
        self.path, self.format, self.backend = path, format, format
        self.opened = opened
        self.parameters, self.bytes = opened.parameters, opened.bytes
        self.most = opened.most

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in the file's order, where it says them; else empty."""
        return tuple(str(name) for name in self.fact("classes") or ())

    def fact(self, key: str) -> Any:
        """What `tutelage` wrote into the file under that key; None where there is nothing."""
        try:
            return json.loads(self.opened.about.get(f"tutelage.{key}", "null"))
        except ValueError:
            return None

    def __call__(self, batch: Batch) -> Outputs:
        """The answer to ``batch``, with logits of float32 on the CPU.

        Raises:
            ShapeMismatch: The examples are not of the shape, or not so many, as the file takes.
        """
        run = self.ready(batch.inputs, 1)
        try:
            logits = self.opened.logits(run()).float()
        except Exception as error:  # every runtime has classes of its own
            raise ShapeMismatch(
                f"{self.path.name} cannot answer {len(batch)} examples: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        if logits.ndim != 2 or len(logits) != len(batch):
            raise ShapeMismatch(
                f"{self.path.name} answers {len(batch)} examples with {tuple(logits.shape)}: "
                "logits (N, C), one row an example, are needed of its first output."
            )
        return Outputs(logits)

    def ready(self, inputs: Inputs, threads: int) -> Call:
        """One call that answers these inputs with so many threads, told in the runtime's own way.

        Raises:
            ShapeMismatch: The file does not take them.
        """
        return self.opened.prepared(self.feed(inputs), threads)

    def feed(self, inputs: Inputs) -> dict[str, Any]:
        """The inputs as arrays by name, in the file's order.

        Raises:
            ShapeMismatch: The names, the shapes or the number of examples are not the file's.
        """
        given, names = self._named(inputs), self.opened.names
        shapes: Mapping[str, Any] = self.fact("input_shape") or {}
        for name, tensor in given.items():
            if name in shapes and list(tensor.shape[1:]) != list(shapes[name]):
                raise ShapeMismatch(
                    f"{self.path.name} takes {name} of shape {tuple(shapes[name])}, and the "
                    f"examples are {tuple(tensor.shape[1:])}: give data of that shape."
                )
            if self.most is not None and len(tensor) > self.most:
                raise ShapeMismatch(
                    f"{self.path.name} takes at most {self.most} examples at once, got "
                    f"{len(tensor)}: its memory is planned for no more."
                )
        order = names or tuple(given)
        return {name: given[name].detach().cpu().contiguous().numpy() for name in order}

    def _named(self, inputs: Inputs) -> dict[str, Tensor]:
        names = self.opened.names
        if isinstance(inputs, Tensor):
            given = {names[0] if names else "inputs": inputs}
        else:
            given = dict(inputs)
        if names and set(given) != set(names):
            raise ShapeMismatch(
                f"{self.path.name} takes {', '.join(names)}, and the data has "
                f"{'one input' if isinstance(inputs, Tensor) else ', '.join(given)}: export the "
                "model with the inputs that the data has."
            )
        return given
