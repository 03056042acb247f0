"""Which blocks stay: evenly spaced, at one end, or those that matter most."""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, suggest
from tutelage.models.shrunk.influence import block_influence
from tutelage.models.shrunk.leaving_out import loss_left_out
from tutelage.models.shrunk.pretrained import described_in
from tutelage.models.shrunk.stacks import Keep, by_stack, stacks_of

CHOICES = ("even", "first", "last", "importance", "left_out")
"""Ways to choose blocks; the last two need calibration batches."""


def chosen_layers(
    model: nn.Module,
    keep: Keep,
    *,
    choose: str = "even",
    batches: Iterable[Batch] | None = None,
) -> dict[str, list[int]]:
    """The blocks that stay, by stack.

    ``even`` spreads them from the first to the last block, as DistilBERT does (Sanh, Debut,
    Chaumond, Wolf: DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter,
    2019, arXiv:1910.01108; of 12 layers 6: 0, 2, 4, 7, 9, 11); ``importance`` keeps those of the
    largest `block_influence`, ``left_out`` those without which the answer changes most
    (`loss_left_out`).

    Args:
        model: Any model with equal blocks: see `stacks_of`.
        keep: How many, or which, or either by stack: see `by_stack`.
        choose: ``even``, ``first``, ``last``, ``importance`` or ``left_out``; of no effect where
            numbers of blocks are given.
        batches: What the model is looked at on, for the last two.

    Returns:
        Numbers of blocks, rising, for each stack that changes; paths are those of the transformers
        model or gpt, where there is one inside.

    Raises:
        ModelError: There is no such way, stack or block.
        DataError: Batches are needed and not there.

    Example:
        >>> chosen_layers(nn.ModuleDict({"body": nn.ModuleList([nn.ReLU()] * 12)}), 6)
        {'body': [0, 2, 4, 7, 9, 11]}
    """
    if choose not in CHOICES:
        raise ModelError(f"there is no choice of layers {choose!r}. {suggest(choose, CHOICES)}")
    inner = described_in(model)
    stacks = stacks_of(model if inner is None else inner)
    wanted = by_stack(stacks, keep)
    scores: dict[str, Tensor] = {}
    if choose in CHOICES[3:] and any(isinstance(each, int) for each in wanted.values()):
        measure = block_influence if choose == "importance" else loss_left_out
        scores = measure(model, batches)
    return {
        path: each
        if isinstance(each, list)
        else best(scores[path].tolist(), each)
        if path in scores
        else spaced(len(stacks[path]), each, choose)
        for path, each in wanted.items()
    }


def spaced(total: int, keep: int, choose: str = "even") -> list[int]:
    r"""Numbers of ``keep`` blocks of ``total``.

    .. math:: i_k = \left\lfloor \frac{k (L - 1)}{n - 1} + \frac{1}{2} \right\rfloor,
        \quad k = 0 \dots n - 1

    evenly; the first n or the last n. A single evenly chosen block is the first.

    >>> spaced(30, 10), spaced(6, 3), spaced(6, 2, "last")
    ([0, 3, 6, 10, 13, 16, 19, 23, 26, 29], [0, 3, 5], [4, 5])
    """
    if choose == "first" or (keep == 1 and choose == "even"):
        return list(range(keep))
    if choose == "last":
        return list(range(total - keep, total))
    steps = keep - 1
    return [(2 * k * (total - 1) + steps) // (2 * steps) for k in range(keep)]


def best(scores: Sequence[float], keep: int) -> list[int]:
    """Numbers of the ``keep`` largest scores, rising; of equal ones the earlier.

    >>> best([0.1, 0.5, 0.2, 0.5], 2)
    [1, 3]
    """
    order = sorted(range(len(scores)), key=lambda number: (-scores[number], number))
    return sorted(order[:keep])
