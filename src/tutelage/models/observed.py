"""A model that answers in outputs, and a teacher that cannot change."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import ModelError
from tutelage.core.outputs import Outputs
from tutelage.models.taps import Taps

Read = Callable[[nn.Module, Inputs], Tensor]
"""How a model takes inputs and where its logits ``(N, ..., C)`` are."""


def plain(model: nn.Module, inputs: Inputs) -> Tensor:
    """Read a model that takes one tensor and returns logits."""
    logits: Tensor = model(inputs)
    return logits


class Observed(nn.Module):
    """Any torch model, unedited, made to answer a batch with outputs.

    Args:
        model: Left as it is; hooks sit on tapped modules until `release`.
        intake: Turns the data's own inputs into what this model expects (normalisation,
            resolution, channels): see `tutelage.models.intake`. It is exported with the model.
        read: How this model takes its inputs and where its logits are.
        classes: For each class of the data, the number this model gives it; None where they
            agree. Logits are put in the data's order.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        intake: nn.Module | None = None,
        read: Read = plain,
        classes: Iterable[int] | None = None,
    ):
        super().__init__()
        self.model, self.read = model, read
        self.intake = intake if intake is not None else nn.Identity()
        order = None if classes is None else torch.tensor(list(classes))
        self.register_buffer("classes", order, persistent=False)
        self.channels_last = False
        self._taps = Taps(model)
        self._run: Read = read

    def tap(self, paths: Iterable[str]) -> Self:
        """Show these features in all outputs from now on (grammar: `tutelage.models.taps`)."""
        paths = list(paths)
        if paths and self._run is not self.read:
            raise ModelError(
                f"this model is compiled, and features ({', '.join(paths)}) are tapped before "
                "compiling: call tap first, or leave compile out."
            )
        self._taps.add(paths)
        return self

    def release(self) -> None:
        """Take all hooks off the model."""
        self._taps.clear()

    def compile_model(self, backend: str = "inductor") -> None:
        """Run the model through ``torch.compile`` from now on; refused where features are tapped."""
        if self._taps.paths:
            raise ModelError(
                f"torch.compile and tapped features ({', '.join(self._taps.paths)}) do not go "
                "together: set compile: false, or use an objective that reads logits only."
            )
        compiled = torch.compile(self.model, backend=backend)
        self._run = lambda _, inputs: self.read(compiled, inputs)

    def use_channels_last(self) -> None:
        """Keep weights and images channel-last in memory: 1.1 to 1.5 times faster on CPUs."""
        self.model.to(memory_format=torch.channels_last)
        self.channels_last = True

    def forward(self, batch: Batch) -> Outputs:
        """The model's answer, with the tapped features."""
        inputs: Any = self.intake(batch.inputs)
        if self.channels_last and isinstance(inputs, Tensor) and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        with self._taps.catching() as features:
            logits = self._run(self.model, inputs)
        if self.classes is not None:
            logits = logits.index_select(-1, self.classes)
        return Outputs(logits, features)


class Frozen(nn.Module):
    """A teacher: answers without learning, always in eval mode, and can prove it did not change."""

    def __init__(self, observed: Observed):
        super().__init__()
        self.observed = observed.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    def tap(self, paths: Iterable[str]) -> Self:
        """Show these features in all outputs from now on."""
        self.observed.tap(paths)
        return self

    def release(self) -> None:
        """Take all hooks off the model."""
        self.observed.release()

    @torch.no_grad()
    def fingerprint(self) -> int:
        """A checksum of every bit of parameters and buffers, made where they are."""
        total = 0
        for index, (_, value) in enumerate(sorted(self.observed.state_dict().items())):
            bits = value.detach().contiguous().view(torch.uint8).long()
            place = torch.arange(1, bits.numel() + 1, device=bits.device) % 65521
            total = (total * 31 + index + int((bits.flatten() * place).sum())) % 2**63
        return total

    @torch.no_grad()
    def forward(self, batch: Batch) -> Outputs:
        """The teacher's answer, without a graph."""
        if any(module.training for module in self.observed.modules()):
            self.train(False)  # someone reached inside and switched a part to training
        outputs: Outputs = self.observed(batch)
        return outputs
