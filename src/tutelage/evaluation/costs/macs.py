"""Multiply-accumulate operations of one answer, counted as the model runs.

Counted, as in the field's published tables: convolutions, linear layers and matrix products,
attention, recurrent layers. Free: element-wise arithmetic, normalisation, activation, pooling,
resizing, look-ups, moving data. Anything in neither list is an error that names it, never 0.
"""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.core.outputs import Outputs
from tutelage.evaluation.predict import evaluating


def macs(answers: Callable[[Batch], Outputs], example: Batch) -> int:
    """Multiply-accumulate operations of one answer to one example.

    Args:
        answers: A model, such as `tutelage.models.Observed` with its intake.
        example: At least one example of the data; the first is used.

    Returns:
        Operations for one example; half of what is often called FLOPs.

    Raises:
        ModelError: The model cannot answer the example, runs an operation whose cost is not known
            here, or runs none at all of those that are counted.

    Example:
        >>> linear = torch.nn.Linear(4, 3)
        >>> macs(lambda batch: Outputs(linear(batch.inputs)), Batch(torch.zeros(1, 4)))
        12
    """
    counter = _Counter()
    with evaluating(answers), torch.no_grad(), _uncompiled(), counter:
        try:
            answers(example[:1])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            said = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the model cannot answer the example that its cost was to be counted on: {said}"
            ) from error
    if counter.total == 0:
        raise ModelError(
            "the model ran no matrix product, convolution, attention or recurrent layer: "
            "its cost cannot be counted in multiply-accumulates."
        )
    return counter.total


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation that reaches a kernel."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(  # torch's own protocol
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        known = func.namespace in ("aten", "prim", "prims")
        if known and name in _COUNTED:
            result = func(*args, **kwargs)
            self.total += _COUNTED[name](args, result)
            return result
        if known and (name.rstrip("_") in _FREE or func.is_view or _FREE_TAGS & set(func.tags)):
            return func(*args, **kwargs)
        with self:  # composed of simpler operations?
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            raise ModelError(
                f"the model runs {func.namespace}::{name}, whose multiply-accumulates are not "
                "known here: no figure is better than a wrong one. Leave macs out, or add the "
                "operation to tutelage/evaluation/macs.py."
            )
        return result


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Neither torch.compile nor torch's fused transformer layers, which hide what they compute."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # What torch.compile needs takes seconds to import: where it is not, nothing is compiled.
        compiling = "torch._dynamo" in sys.modules
        with torch.compiler.set_stance("force_eager") if compiling else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _product(first: int, second: int) -> Callable[[Any, Any], int]:
    """(..., n, k) times (..., k, m): every element of the result costs k."""

    def count(args: Any, result: Tensor) -> int:
        left, right = args[first], args[second]
        return int(left.numel() * (right.shape[-1] if right.ndim > 1 else 1))

    return count


def _convolution(args: Any, result: Tensor) -> int:
    inputs, weight, transposed = args[0], args[1], args[6]
    # (out, in / groups, *kernel) for each output position; transposed: for each input position.
    positions = math.prod((inputs if transposed else result).shape[2:])
    return int(len(inputs) * positions * weight.numel())


def _attention(args: Any, result: Any) -> int:
    query, key, value = args[:3]  # (N, heads, L, E), (N, heads, S, E), (N, heads, S, V)
    rows = query.shape[:-1].numel()
    return int(rows * key.shape[-2] * (key.shape[-1] + value.shape[-1]))


def _recurrent(args: Any, result: Any) -> int:
    # oneDNN's fused layer: inputs (T, N, in), weights (gates·H, in) and (gates·H, H), every step.
    inputs, to_gates, from_state = args[:3]
    steps = inputs.shape[:-1].numel()
    return int(steps * (to_gates.numel() + from_state.numel()))


def _trilinear(args: Any, result: Tensor) -> int:
    inputs, weight = args[0], args[1]  # (N, in1) and (out, in1, in2) broadcast with ones
    return int(inputs.shape[0] * weight.numel() + inputs.shape[0] * weight[..., 0].numel())


_COUNTED: dict[str, Callable[[Any, Any], int]] = {
    "mm": _product(0, 1),
    "mv": _product(0, 1),
    "dot": _product(0, 1),
    "bmm": _product(0, 1),
    "addmm": _product(1, 2),
    "addmv": _product(1, 2),
    "baddbmm": _product(1, 2),
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "mkldnn_rnn_layer": _recurrent,
    "_trilinear": _trilinear,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}

_FREE_TAGS = {torch.Tag.pointwise, getattr(torch.Tag, "reduction", torch.Tag.pointwise)}

# Operations that carry no tag to know them by; in-place forms (a trailing _) go with their names.
_FREE = {
    word
    for line in (
        # making and moving
        "empty empty_like empty_strided new_empty new_zeros new_ones new_full zeros zeros_like "
        "ones ones_like full full_like arange linspace eye scalar_tensor lift_fresh lift "
        "clone copy _to_copy _copy_from detach alias contiguous resize set_ "
        "cat stack repeat repeat_interleave roll flip rot90 tile "
        "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d "
        "replication_pad1d replication_pad2d replication_pad3d "
        "_unsafe_view _reshape_alias view_copy unsafe_split unsafe_chunk split_with_sizes "
        "transpose t squeeze unsqueeze im2col col2im "
        "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle tril triu "
        # looking up
        "index index_select gather scatter scatter_add index_put _index_put_impl index_add "
        "slice_scatter select_scatter diagonal_scatter masked_fill masked_select masked_scatter "
        "embedding _embedding_bag _embedding_bag_forward_only take nonzero "
        "one_hot topk sort argsort argmax argmin max min unique _unique2 unique_dim searchsorted "
        "bucketize bincount item _local_scalar_dense is_same_size equal isin isin_Tensor_Tensor "
        # normalising and activating
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_native_batch_norm_legit_functional batch_norm_with_update cudnn_batch_norm "
        "miopen_batch_norm native_layer_norm native_group_norm _fused_rms_norm rms_norm "
        "_softmax _log_softmax _safe_softmax linalg_vector_norm norm _weight_norm_interface "
        "gelu relu relu6 hardswish hardtanh silu mish softplus elu leaky_relu prelu _prelu_kernel "
        "rrelu_with_noise glu log_sigmoid_forward native_dropout bernoulli uniform normal rand "
        "randn rand_like randn_like randint "
        # pooling, summing, resizing
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
        "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices "
        "mkldnn_max_pool2d fractional_max_pool2d "
        "sum mean amax amin var std var_mean std_mean prod cumsum cumprod logsumexp _logcumsumexp "
        "logcumsumexp any all median nanmedian "
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d "
        "upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler_2d affine_grid_generator "
        # asking
        "size sym_size stride sym_stride numel sym_numel storage_offset sym_storage_offset dim "
        "is_contiguous device dtype layout _assert_async _assert_tensor_metadata",
    )
    for word in line.split()
}
