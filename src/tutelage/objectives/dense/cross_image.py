"""Cross-image relations: which pixels of all images are alike.

Yang, Zhou, An, Jiang, Xu, Zhang: Cross-Image Relational Knowledge Distillation for Semantic
Segmentation, 2022, arXiv:2204.06986.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.core.reduce import full_precision
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.dense.maps import counted_maps, require_map
from tutelage.objectives.pairs import Pairs, pairs_of, paths_of
from tutelage.objectives.units import number, raised, whole


def pixel_relations(feature: Tensor, temperature: float = 0.1) -> Tensor:
    r"""For each pixel, log-probabilities of the pixels of each image, by likeness.

    .. math:: \log \sigma_b\big(\langle f_{ia}, f_{jb} \rangle / \tau\big), \quad
        \|f\|_2 = 1 \text{ at every pixel}

    Args:
        feature: ``(M, C, H, W)``.
        temperature: tau > 0.

    Returns:
        ``(M, A, M, A)``, A = H W: image i, its pixel a, image j, its pixel b; sums to 1 over b.

    Example:
        >>> pixel_relations(torch.rand(2, 3, 4, 4)).exp().sum(-1).allclose(torch.tensor(1.0))
        True
    """
    flat = F.normalize(raised(feature), dim=1).flatten(2).transpose(1, 2)  # (M, A, C)
    images, pixels, channels = flat.shape
    flat = flat.reshape(images * pixels, channels)
    with full_precision(flat):
        likeness = flat @ flat.T / temperature
    return F.log_softmax(likeness.view(images, pixels, images, pixels), dim=-1)


def cross_image(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    r"""KL divergence of pixel relations, mean over pixels and over all pairs of images.

    .. math:: \frac{1}{M^2} \sum_{ij} \frac{1}{A} \sum_a KL\big(P^t_{ija} \,\|\, P^s_{ija}\big)

    Args:
        student: ``(M, C, H, W)``.
        teacher: ``(M, C', H, W)``.
        temperature: tau > 0.

    Returns:
        ``(M,)`` in nats: the mean over images j and pixels, for each image i.

    Raises:
        ShapeMismatch: The features are no maps of one size.

    Example:
        >>> f = torch.rand(2, 3, 4, 4)
        >>> bool((cross_image(5 * f, f).abs() < 1e-5).all())
        True
    """
    for feature in (student, teacher):
        require_map(feature, "cirkd")
    if student.shape[2:] != teacher.shape[2:]:
        raise ShapeMismatch(
            f"cirkd relates pixels, and got maps of {tuple(student.shape)} and "
            f"{tuple(teacher.shape)}: choose features of one height and width."
        )
    log_q, log_p = pixel_relations(student, temperature), pixel_relations(teacher, temperature)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean((1, 2))


@register("objective", "cirkd")
class CrossImage(AbstractLoss):
    r"""CIRKD: pixels of all images in the batch are as alike as the teacher finds them.

    .. math:: \sum_{pairs} \frac{1}{M^2 A} \sum_{ija} KL\big(P^t_{ija} \,\|\, P^s_{ija}\big), \quad
        P_{ija} = \sigma_b\big(\langle f_{ia}, f_{jb} \rangle / \tau\big)

    Neighbours: `CrossImageMemory` relates pixels to a memory of the teacher's, over many batches;
    `Pairwise` relates patches of one image, by squared cosines; `ClassVariation` relates pixels to
    the centre of their class.

    Suggested weight: 1 at tau = 0.1 beside cross entropy and 1 of pixel-wise KD (the authors' code,
    Cityscapes).

    Scale: the paper's: a sum over pixels b, a mean over pixels a and over all pairs of images
    (i, j), i = j among them; no tau².

    Traps: (M A)² numbers are kept for each network: 4 images of 64 x 128 pixels would be 4 GB in
    fp32; ``pool`` 2 makes it a sixteenth. Lengths are divided out inside the graph, so the
    gradient is at right angles to each pixel's feature.

    Args:
        pairs: Student map to teacher map, or to several; numbers of channels may differ.
        temperature: tau > 0.
        pool: Side of the squares of pixels that are averaged first; 1 for none.
    """

    name = "cirkd"
    batchwise = True
    needs_features = True
    divergence = True
    example: ClassVar[Mapping[str, Any]] = {"pairs": {"feature": "feature"}}

    def __init__(self, pairs: Pairs, temperature: float = 0.1, pool: int = 1):
        super().__init__()
        self.pairs = pairs_of(pairs, self.name)
        self.taps = paths_of(self.pairs)
        self.temperature = number(temperature, "temperature", self.name, above=0)
        self.pool = whole(pool, "pool", self.name, least=1)

    def bind(self, student: Outputs, teacher: Outputs) -> None:
        """Refuse features that cannot be compared before learning begins."""
        for ours, theirs in self.pairs:
            self._compare(student[ours][:1], teacher[theirs][:1])

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """One value of the whole batch: the sum over pairs."""
        found = []
        for ours, theirs in self.pairs:
            maps = [counted_maps(f, batch, self.name) for f in (student[ours], teacher[theirs])]
            values = self._compare(*maps)
            found.append(values.sum() / max(len(values), 1))
        return torch.stack(found).sum()

    def _compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.pool > 1:
            student, teacher = (
                F.avg_pool2d(f, self.pool, ceil_mode=True) if f.ndim == 4 else f
                for f in (student, teacher)
            )
        return cross_image(student, teacher, self.temperature)
