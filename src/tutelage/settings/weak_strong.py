"""The two views of each example in one batch, taken apart and put together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.settings.versions import check_pairs


def both_views(item: Batch, asker: str) -> Batch:
    """One row an example, of two named inputs: ``weak``, as it was, and ``strong``.

    Args:
        item: N examples of two versions each, in 2 N rows, those of one example together, as
            `tutelage.data.StrongViews` gives them.
        asker: Who wants them, for errors.

    Returns:
        N rows; targets, mask and ids are those of the weak rows.

    Raises:
        DataError: The batch holds other than two versions of each example.

    Example:
        >>> ids, variant = torch.tensor([7, 7, 8, 8]), torch.tensor([0, 1, 0, 1])
        >>> both_views(Batch(torch.arange(4.0), ids=ids, variant=variant), "doc").inputs["strong"]
        tensor([1., 3.])
    """
    variant, inputs = getattr(item, "variant", None), getattr(item, "inputs", None)
    if not isinstance(variant, Tensor) or not isinstance(inputs, Tensor):
        raise DataError(
            f"{asker} needs two views of each example, and this {type(item).__name__} has no "
            "variants: wrap the loader in tutelage.data.StrongViews."
        )
    check_pairs(item, asker)
    if item.ids is not None and not torch.equal(item.ids[::2], item.ids[1::2]):
        raise DataError(
            f"{asker} needs the two views of one example side by side, and the first rows have "
            f"ids {item.ids.tolist()[:4]}: wrap the loader in tutelage.data.StrongViews."
        )
    weak = item[::2]
    return Batch({"weak": inputs[::2], "strong": inputs[1::2]}, weak.targets, weak.mask, weak.ids)


def view_of(pairs: Batch, name: str) -> Batch:
    """One view of what `both_views` gave."""
    assert isinstance(pairs.inputs, Mapping)
    return Batch(pairs.inputs[name], pairs.targets, pairs.mask, pairs.ids)


def labelled_rows(batch: Batch) -> Tensor:
    """Who has a label, ``(N,)`` of bool.

    Example:
        >>> labelled_rows(Batch(torch.zeros(2, 3), torch.tensor([4, -1]))).tolist()
        [True, False]
    """
    if batch.targets is None:
        inputs = batch.inputs if isinstance(batch.inputs, Tensor) else batch.inputs["weak"]
        return torch.zeros(len(batch), dtype=torch.bool, device=inputs.device)
    if batch.targets.is_floating_point():
        return batch.targets.sum(-1) > 0
    return batch.targets >= 0
