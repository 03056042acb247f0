"""From the data's own inputs to what one model expects.

Data gives images in [0, 1]; every model has its own resolution, channels and normalisation. They
are a part of the model, so that teacher and student each get their own, and an exported file
takes the same images as the data gives.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError, ShapeMismatch, suggest

NORMALISATIONS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
}
"""Mean and deviation of well-known data, and ``half``, which maps [0, 1] to [-1, 1]."""

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's mode "L"


class Intake(nn.Module):
    """Resize, adapt channels, normalise: ``(x - mean) / std``, in this order.

    Inputs by name (a mapping) pass unchanged: see `NamedIntake`.

    Args:
        mean: One number, or one for each channel the model takes (each column of a table).
        std: The same, all above 0.
        size: Height and width the model takes, or one number for both; None leaves images as
            they are. Bilinear, with the antialiasing of ``torch.nn.functional.interpolate``.
        channels: Channels the model takes; None leaves them as they are. Grey images are
            repeated to 3 channels, and of 3 the luma (BT.601) is taken as 1.

    Raises:
        ModelError: An option is out of its range.

    Example:
        >>> intake = Intake(0.5, 0.25, size=8, channels=3)
        >>> intake(torch.ones(2, 1, 4, 4)).shape, intake(torch.ones(1, 1, 4, 4)).mean().item()
        (torch.Size([2, 3, 8, 8]), 2.0)
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
    ):
        super().__init__()
        self.register_buffer("mean", _numbers("mean", mean), persistent=False)
        self.register_buffer("std", _numbers("std", std), persistent=False)
        self.size = None if size is None else _size(size)
        self.channels = channels
        if not bool((self.std > 0).all()):
            raise ModelError(f"intake: std must be above 0 everywhere, got {std!r}.")
        if channels is not None and channels < 1:
            raise ModelError(f"intake: channels must be at least 1, got {channels!r}.")
        lengths = {len(self.mean), len(self.std), channels or 1} - {1}
        if len(lengths) > 1:
            raise ModelError(
                f"intake: mean has {len(self.mean)} numbers, std {len(self.std)}, and the model "
                f"takes {channels or 'any number of'} channels: give one number, or one for each."
            )

    @classmethod
    def named(
        cls, name: str, size: int | tuple[int, int] | None = None, channels: int | None = None
    ) -> "Intake":
        """With the normalisation that is known as ``name`` (see `NORMALISATIONS`)."""
        if name not in NORMALISATIONS:
            raise ModelError(
                f"no normalisation is called {name!r}. {suggest(name, NORMALISATIONS)}"
            )
        mean, std = NORMALISATIONS[name]
        return cls(mean, std, size, channels)

    def forward(self, inputs: Inputs) -> Inputs:
        """What the model takes, ``(N, channels, *size)`` of images, ``(N, D)`` of tables."""
        if not isinstance(inputs, Tensor):
            return inputs
        if not inputs.is_floating_point():
            raise ShapeMismatch(
                f"intake takes numbers in [0, 1], got {inputs.dtype}: divide bytes by 255 first."
            )
        return (self._channels(self._resize(inputs)) - self._row(self.mean, inputs)) / self._row(
            self.std, inputs
        )

    def extra_repr(self) -> str:
        """The options, for ``print(model)``."""
        mean, std = (_short(numbers) for numbers in (self.mean, self.std))
        return f"mean={mean}, std={std}, size={self.size}, channels={self.channels}"

    def _row(self, numbers: Tensor, inputs: Tensor) -> Tensor:
        return numbers.to(inputs.dtype).view(1, -1, *(1,) * (inputs.ndim - 2))

    def _resize(self, inputs: Tensor) -> Tensor:
        if self.size is None or tuple(inputs.shape[2:]) == self.size:
            return inputs
        if inputs.ndim != 4:
            raise ShapeMismatch(
                f"intake resizes images (N, C, H, W), got shape {tuple(inputs.shape)}: leave "
                "size out."
            )
        return F.interpolate(
            inputs, self.size, mode="bilinear", antialias=True, align_corners=False
        )

    def _channels(self, inputs: Tensor) -> Tensor:
        wanted = self.channels if self.channels is not None else max(len(self.mean), len(self.std))
        has = inputs.shape[1]
        if has == wanted or (self.channels is None and wanted == 1):
            return inputs
        if has == 1 and inputs.ndim == 4:
            return inputs.expand(-1, wanted, -1, -1)
        if has == 3 and wanted == 1:
            luma = torch.tensor(_LUMA, dtype=inputs.dtype, device=inputs.device)
            return (inputs * luma.view(1, 3, 1, 1)).sum(1, keepdim=True)
        raise ShapeMismatch(
            f"the model takes {wanted} channels and the data has {has} (shape "
            f"{tuple(inputs.shape)}): images go from 1 channel to any number and from 3 to 1."
        )


class NamedIntake(nn.Module):
    """For inputs by name: an intake for some of them; the others pass unchanged.

    Args:
        intakes: By the name of the input.
    """

    def __init__(self, intakes: Mapping[str, nn.Module]):
        super().__init__()
        self.names = tuple(intakes)
        self.intakes = nn.ModuleList(intakes.values())  # names may hold dots: no ModuleDict

    def forward(self, inputs: Inputs) -> Inputs:
        """The same names, changed where there is an intake."""
        if isinstance(inputs, Tensor):
            raise ShapeMismatch(
                f"this intake is for inputs by name ({', '.join(self.names)}), and the data "
                "gives one tensor: give one intake without a name."
            )
        changed = dict(inputs)
        for name, intake in zip(self.names, self.intakes, strict=True):
            if name not in changed:
                raise ShapeMismatch(
                    f"an intake is given for the input {name!r}. {suggest(name, changed)}"
                )
            changed[name] = intake(changed[name])
        return changed


def _numbers(option: str, value: float | Sequence[float]) -> Tensor:
    try:
        numbers = torch.tensor([value] if isinstance(value, (int, float)) else list(value))
        numbers = numbers.to(torch.float32)
    except (TypeError, ValueError):
        numbers = torch.empty(0)
    if numbers.ndim != 1 or numbers.numel() == 0 or not bool(numbers.isfinite().all()):
        raise ModelError(f"intake: {option} must be a number or a list of them, got {value!r}.")
    return numbers


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(side, int) and side > 0 for side in both):
        raise ModelError(f"intake: size must be one number or (height, width), got {size!r}.")
    return both[0], both[1]


def _short(numbers: Tensor) -> list[float]:
    return [round(number, 4) for number in numbers.tolist()]
