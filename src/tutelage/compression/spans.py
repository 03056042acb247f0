"""Layers that compute as their int8 kernels will, and learn through the rounding.

Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, 2017, arXiv:1712.05877. The gradient is the straight-through estimator of Bengio,
Léonard, Courville, 2013, arXiv:1308.3432: one inside the range, zero outside.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "relu6"]

LAST = 255
"""Activations are 0 to 255. ONNX Runtime turns signed ones into these on x86, and then leaves a
tensor that two layers read unfused."""
LARGEST = 127
"""Weights are -127 to 127."""
_LEAST_STEP = 1e-8  # also for a tensor that is always zero
_LARGEST_BIAS = 2**30  # steps: biases are integers of 32 bits in the file


class Span(nn.Module):
    """The range of one tensor, and the tensor rounded to 256 steps of it.

    In training the range follows the smallest and largest value of each batch; in eval mode it
    stays. It always holds zero, and is kept in float32 under autocast too.

    Args:
        momentum: Share of a batch in the range that follows it.

    Example:
        >>> span = Span()
        >>> span.watch(torch.tensor([0.0, 2.55]))
        >>> span.eval()(torch.tensor([0.014, 9.0]))
        tensor([0.0100, 2.5500])
    """

    low: Tensor
    high: Tensor

    def __init__(self, momentum: float = 0.01):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def watch(self, values: Tensor) -> None:
        """Widen the range to hold all these values."""
        low, high = values.detach().float().aminmax()
        self.low.copy_(torch.minimum(self.low, low))
        self.high.copy_(torch.maximum(self.high, high))

    def steps(self) -> tuple[Tensor, Tensor]:
        """Width of a step, and the integer that stands for zero: two tensors ``()``."""
        low, high = self.low.float().clamp(max=0), self.high.float().clamp(min=0)
        step = ((high - low) / LAST).clamp(min=_LEAST_STEP)
        return step, (-low / step).round().clamp(0, LAST).int()

    def forward(self, values: Tensor) -> Tensor:
        """The values rounded, in the type that they have."""
        if self.training:
            self._follow(values)
        step, zero = self.steps()
        rounded = torch.fake_quantize_per_tensor_affine(values.float(), step, zero, 0, LAST)
        return rounded.to(values.dtype)

    @torch.no_grad()
    def _follow(self, values: Tensor) -> None:
        low, high = values.float().aminmax()
        fine = low.isfinite() & high.isfinite()  # a broken batch has no range
        self.low.lerp_(torch.where(fine, low.clamp(max=0), self.low), self.momentum)
        self.high.lerp_(torch.where(fine, high.clamp(min=0), self.high), self.momentum)


class Rounding(nn.Module):
    """What rounds around one layer: its input, its weight for each output, its output.

    Args:
        activation: What follows the layer and is computed before its output is rounded, as the
            kernel does; applied a second time it changes nothing.
        given: The span of the layer whose rounded output this one reads; None gives it a span
            of its own.
        answers: Whether the output is rounded too.
        momentum: As in `Span`.
    """

    def __init__(
        self, activation: Activation, given: Span | None, *, answers: bool, momentum: float
    ):
        super().__init__()
        self.activation = activation
        self.intake = Span(momentum) if given is None else None
        self.outgo = Span(momentum) if answers else None
        self.mode: Literal["off", "watch", "on"] = "on"
        # In a tuple it is no part of the state.
        self._given: tuple[Span, ...] = () if given is None else (given,)

    @property
    def incoming(self) -> Span:
        """The span of the input, be it this layer's or that of another."""
        return self._given[0] if self.intake is None else self.intake

    def weight_steps(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Width of a step for each output ``(C,)``: its largest weight is 127 of them.

        An output with hardly any weight has steps wide enough for its bias in 32 bits.
        """
        steps = weight.detach().float().flatten(1).abs().amax(1) / LARGEST
        if bias is not None:
            least = bias.detach().float().abs() / (self.incoming.steps()[0] * _LARGEST_BIAS)
            steps = torch.maximum(steps, least)
        return steps.clamp(min=_LEAST_STEP)

    def rounded(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The weight as the file will have it."""
        if self.mode != "on":
            return weight
        steps = self.weight_steps(weight, bias)
        zeros = torch.zeros_like(steps, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(
            weight.float(), steps, zeros, 0, -LARGEST, LARGEST
        )

    def taken(self, values: Tensor) -> Tensor:
        """The layer's input as the file will have it."""
        return self._through(self.intake, values)

    def given(self, values: Tensor) -> Tensor:
        """The layer's output as the file will have it."""
        if self.outgo is None:
            return values
        if self.mode != "off" and self.activation != "none":
            values = values.relu() if self.activation == "relu" else F.relu6(values)
        return self._through(self.outgo, values)

    def _through(self, span: Span | None, values: Tensor) -> Tensor:
        if span is None or self.mode == "off":
            return values
        if self.mode == "watch":
            span.watch(values)
            return values
        rounded: Tensor = span(values)
        return rounded


class RoundedConv2d(nn.Conv2d):
    """A convolution between roundings; its parameters have the names they had."""

    rounding: Rounding

    def forward(self, values: Tensor) -> Tensor:
        """Convolve rounded values with rounded weights, and round what comes of it."""
        weight = self.rounding.rounded(self.weight, self.bias)
        out = self._conv_forward(self.rounding.taken(values), weight, self.bias)
        return self.rounding.given(out)


class RoundedLinear(nn.Linear):
    """A linear layer between roundings; its parameters have the names they had."""

    rounding: Rounding

    def forward(self, values: Tensor) -> Tensor:
        """Map rounded values by rounded weights, and round what comes of it."""
        weight = self.rounding.rounded(self.weight, self.bias)
        out = F.linear(self.rounding.taken(values), weight, self.bias)
        return self.rounding.given(out)


Rounded = RoundedConv2d | RoundedLinear


def rounded_layer(layer: nn.Conv2d | nn.Linear, rounding: Rounding) -> Rounded:
    """``layer`` between roundings, with its own parameters."""
    made = _like(layer, RoundedConv2d if isinstance(layer, nn.Conv2d) else RoundedLinear)
    assert isinstance(made, RoundedConv2d | RoundedLinear)
    made.rounding = rounding
    return made.train(layer.training)


def plain_layer(layer: Rounded) -> nn.Conv2d | nn.Linear:
    """The layer without its roundings, with its own parameters."""
    made = _like(layer, nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear)
    assert isinstance(made, nn.Conv2d | nn.Linear)
    return made.train(layer.training)


def _like(layer: nn.Conv2d | nn.Linear, kind: type[nn.Module]) -> nn.Module:
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        made = kind(layer.in_features, layer.out_features, bias=bias, device="meta")
    else:
        made = kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups,
            bias=bias,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    for name in ("weight", "bias"):
        setattr(made, name, getattr(layer, name))
    return made
