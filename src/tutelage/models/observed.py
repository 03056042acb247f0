"""A model that answers in outputs, and a teacher that cannot change."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.core.outputs import Outputs
from tutelage.models.checksum import checksum
from tutelage.models.intake import NamedIntake
from tutelage.models.packing import are_packed, check_packing
from tutelage.models.points import path_at
from tutelage.models.readers import Read as Read
from tutelage.models.readers import plain as plain
from tutelage.models.readers import reader_of
from tutelage.models.taps import Taps


class Observed(nn.Module):
    """Any torch model, unedited, made to answer a batch with outputs.

    Args:
        model: Left as it is; hooks sit on tapped modules only during a forward pass.
        intake: Turns the data's own inputs into what this model expects (normalisation,
            resolution, channels): see `tutelage.models.intake`. It is exported with the model.
            Of inputs by name it changes none; for those, give one intake for each name it is for.
        read: How this model takes its inputs and where its logits are; None finds the reader
            that its class needs (`tutelage.models.readers`).
        classes: For each class of the data, the number this model gives it; None where they
            agree. Logits are put in the data's order.

    Raises:
        ModelError: The model is no torch module, or classes are no class numbers.

    Example:
        >>> seen = Observed(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
        >>> answer = seen.tap(["1"])(Batch(torch.zeros(5, 4)))
        >>> answer.logits.shape, answer["1"].shape
        (torch.Size([5, 3]), torch.Size([5, 8]))
    """

    classes: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        *,
        intake: nn.Module | Mapping[str, nn.Module] | None = None,
        read: Read | None = None,
        classes: Iterable[int] | None = None,
    ):
        super().__init__()
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"Observed takes a torch module, got a {type(model).__name__}: make one, for "
                "example by tutelage.models.build_model."
            )
        self.model = model
        self.read = reader_of(model) if read is None else read
        if intake is None:
            intake = nn.Identity()
        self.intake = intake if isinstance(intake, nn.Module) else NamedIntake(intake)
        order = None if classes is None else torch.tensor(_class_numbers(classes))
        self._highest = -1 if order is None else int(order.max())
        self.register_buffer("classes", order, persistent=False)
        self.channels_last = False
        self._keeps_apart = False
        self._taps = Taps(model)
        self._compiled: tuple[Any, ...] = ()  # in a tuple it is no part of the state

    @property
    def taps(self) -> list[str]:
        """The paths shown in all outputs."""
        return self._taps.paths

    def tap(self, paths: Iterable[str]) -> Self:
        """Show these features in all outputs from now on (grammar: `tutelage.models.taps`)."""
        paths = list(paths)
        if paths and self._compiled:
            raise ModelError(
                f"this model is compiled, and features ({', '.join(map(str, paths))}) cannot be "
                "tapped inside compiled code: leave compile out, or use objectives that read "
                "logits only."
            )
        self._taps.add(paths)
        return self

    def lend(self, paths: Iterable[str]) -> dict[str, nn.Module]:
        """The model's own modules at ``paths``, for objectives that run them.

        Raises:
            MissingFeature: There is no such module.
        """
        where = {path: path_at(self.model, path, " to lend") for path in paths}
        return {path: self.model.get_submodule(found) for path, found in where.items()}

    def release(self) -> None:
        """Show no features from now on, and run uncompiled."""
        self._taps.clear()
        self._compiled = ()

    def compile_model(self, backend: str = "inductor") -> None:
        """Run the model through ``torch.compile`` from now on; refused where features are tapped.

        A copy of this object is not compiled.
        """
        if self._taps.paths:
            raise ModelError(
                f"torch.compile and tapped features ({', '.join(self._taps.paths)}) do not go "
                "together: set compile: false, or use an objective that reads logits only."
            )
        # Not `Module.compile`, which leaves containers of torch's own modules uncompiled.
        self._compiled = (torch.compile(self.model, backend=backend),)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return state | {"_compiled": ()}

    def use_channels_last(self) -> None:
        """Keep weights and images channel-last in memory: better for convolutions on CPUs."""
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.channels_last = True

    def forward(self, batch: Batch) -> Outputs:
        """The model's answer, with the tapped features."""
        inputs: Any = self.intake(batch.inputs)
        if self.channels_last:
            inputs = _channels_last(inputs)
        if not (self._keeps_apart or torch.compiler.is_compiling()) and are_packed(inputs):
            check_packing(self.model, self.read)
            self._keeps_apart = True
        with self._taps.catching() as features:
            try:
                logits = self.read(self._compiled[0] if self._compiled else self.model, inputs)
            except RuntimeError as error:
                _refuse_bytes(inputs, error)
                raise
        if self.classes is not None:
            if self._highest >= logits.shape[-1]:
                raise ModelError(
                    f"a class of the data is said to be number {self._highest} of the model's, "
                    f"which has {logits.shape[-1]}: see tutelage.models.class_order."
                )
            logits = logits.index_select(-1, self.classes)
        return Outputs(logits, features)


def _class_numbers(classes: Iterable[int]) -> list[int]:
    try:
        numbers = [operator.index(one) for one in classes]
    except TypeError as error:
        raise ModelError(f"classes must be class numbers from 0, got {classes!r}.") from error
    if not numbers or min(numbers) < 0:
        raise ModelError(f"classes must be class numbers from 0, got {numbers}.")
    return numbers


def _refuse_bytes(inputs: Any, error: RuntimeError) -> None:
    """Say it where a model that failed was given images as they lie in a file."""
    if isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.dtype == torch.uint8:
        raise ModelError(
            f"the model was given images of uint8, {tuple(inputs.shape)}, and reads floats: give "
            "Batch(images.float() / 255), as the loaders of tutelage.data do."
        ) from error


def _channels_last(inputs: Any) -> Any:
    if isinstance(inputs, Tensor):
        last = torch.channels_last
        return inputs.contiguous(memory_format=last) if inputs.ndim == 4 else inputs
    return {name: _channels_last(one) for name, one in inputs.items()}


class Frozen(nn.Module):
    """A teacher: answers without learning, always in eval mode, and can prove it did not change.

    The model inside is the caller's own, no copy: its parameters keep ``requires_grad=False`` and
    its modules eval mode after the teacher has gone. To train it again, freeze a
    ``copy.deepcopy`` of it, or switch it back (``model.requires_grad_(True).train()``).

    Args:
        observed: What answers; it is changed as said.

    Raises:
        ModelError: It is no `Observed`.
    """

    def __init__(self, observed: Observed):
        super().__init__()
        if not isinstance(observed, Observed):
            raise ModelError(
                f"Frozen takes an Observed, got a {type(observed).__name__}: wrap the model "
                "first, Frozen(Observed(model))."
            )
        self.observed = observed.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def tap(self, paths: Iterable[str]) -> Self:
        """Show these features in all outputs from now on."""
        self.observed.tap(paths)
        return self

    def lend(self, paths: Iterable[str]) -> dict[str, nn.Module]:
        """The teacher's own modules at ``paths``: frozen, in eval mode."""
        return self.observed.lend(paths)

    def release(self) -> None:
        """Show no features from now on."""
        self.observed.release()

    def fingerprint(self) -> int:
        """A checksum of every bit of parameters and buffers: equal before and after teaching."""
        return checksum(self.observed)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Outputs:
        """The teacher's answer, without a graph."""
        if any(module.training for module in self.observed.modules()):
            self.train(False)  # someone reached inside and switched a part to training
        outputs: Outputs = self.observed(batch)
        return outputs
