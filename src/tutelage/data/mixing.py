"""Mixtures of two examples: mixup, cutmix, and what becomes of their targets."""

from functools import lru_cache

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.data.augment import AbstractMixing, need_images
from tutelage.data.transforms import inside


def mixup(inputs: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """``share * inputs + (1 - share) * partners``.

    Args:
        inputs: ``(N, ...)``.
        partners: ``(N, ...)``.
        share: Each example's own share ``(N,)``, in [0, 1].

    Returns:
        ``(N, ...)``.

    Example:
        >>> mixup(torch.tensor([[1.0]]), torch.tensor([[5.0]]), torch.tensor([0.75])).item()
        2.0
    """
    return torch.lerp(partners, inputs, share.view(-1, *[1] * (inputs.ndim - 1)))


def cutmix(
    images: Tensor, partners: Tensor, share: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor]:
    """Paste a box of the partner, ``1 - share`` of the image in area, over each image.

    The box has the image's proportions and sides rounded down to pixels, and is cut off at the
    border.

    Args:
        images: ``(N, C, H, W)``.
        partners: ``(N, C, H, W)``.
        share: The share wanted ``(N,)``, in [0, 1].
        centres: Centres of the boxes as parts of height and width ``(N, 2)``, in [0, 1).

    Returns:
        Mixed images ``(N, C, H, W)``, and the share of the pixels each image really keeps ``(N,)``.

    Example:
        >>> images, partners = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
        >>> middle = torch.tensor([[0.5, 0.5]])
        >>> mixed, share = cutmix(images, partners, torch.tensor([0.75]), middle)
        >>> mixed.mean().item(), share.item()
        (0.25, 0.75)
    """
    height, width = images.shape[-2:]
    side = (1 - share).sqrt()
    ends = []
    for size, centre in ((height, centres[:, 0]), (width, centres[:, 1])):
        length = (side * size).long()
        begin = (centre * size).long() - length // 2
        ends += [begin.clamp(min=0), (begin + length).clamp(max=size)]
    box = inside(images, *ends)
    kept = 1 - box.flatten(1).float().mean(1)
    return torch.where(box, partners, images), kept


def mix_targets(targets: Tensor, partners: Tensor, share: Tensor, classes: int) -> Tensor:
    """Targets of mixtures, as class probabilities.

    Args:
        targets: Class numbers ``(N,)``, negative where unlabelled.
        partners: The partners' class numbers ``(N,)``.
        share: Each example's own share ``(N,)``, in [0, 1].
        classes: How many classes there are.

    Returns:
        ``(N, classes)`` of float32; rows sum to 1, and a row of zeros is an unlabelled mixture:
        one of which a part (of a share above 0) is unlabelled.

    Example:
        >>> mix_targets(torch.tensor([0, 1]), torch.tensor([1, -1]), torch.tensor([0.75, 0.5]), 2)
        tensor([[0.7500, 0.2500],
                [0.0000, 0.0000]])
    """
    share = share.float()
    known = ((targets >= 0) | (share == 0)) & ((partners >= 0) | (share == 1))
    mixed = torch.zeros(len(targets), classes, device=targets.device)
    mixed.scatter_add_(1, targets.clamp(min=0)[:, None], share[:, None])
    mixed.scatter_add_(1, partners.clamp(min=0)[:, None], 1 - share[:, None])
    return mixed * known[:, None]


def beta(numbers: Tensor, alpha: float) -> Tensor:
    """Numbers of the distribution Beta(alpha, alpha), from uniform ones by its inverse CDF.

    Args:
        numbers: Uniform in [0, 1), any shape.
        alpha: Above 0; 1 is uniform, smaller prefers the ends, larger the middle.

    Returns:
        The quantiles, of the same shape, float32.

    Example:
        >>> beta(torch.tensor([0.1, 0.5, 0.9]), 1.0)
        tensor([0.1000, 0.5000, 0.9000])
    """
    cdf, place = _quantiles(alpha)
    u = numbers.double()
    half = u.minimum(1 - u)  # the density is symmetric: half of it is tabulated
    right = torch.searchsorted(cdf, half.contiguous()).clamp(1, len(cdf) - 1)
    inner = (half - cdf[right - 1]) / (cdf[right] - cdf[right - 1])
    s = torch.lerp(place[right - 1], place[right], inner.clamp(0, 1))
    x = 0.5 * s ** (1 / min(alpha, 1.0))
    return torch.where(u < 0.5, x, 1 - x).float()


@lru_cache(maxsize=32)
def _quantiles(alpha: float, points: int = 8193) -> tuple[Tensor, Tensor]:
    # With x = s^(1/a) / 2 the density's pole at 0 (a < 1) disappears: x^(a - 1) dx ~ ds.
    s = torch.linspace(0, 1, points, dtype=torch.float64)
    if alpha < 1:
        density = (1 - 0.5 * s ** (1 / alpha)) ** (alpha - 1)
    else:
        density = (s * (2 - s)) ** (alpha - 1)  # times 4 ** (alpha - 1): 1 at the middle
    cdf = torch.cat([s.new_zeros(1), torch.cumulative_trapezoid(density, s)])
    return 0.5 * cdf / cdf[-1], s


class _Mixing(AbstractMixing):
    """What mixup and cutmix share: a share from Beta(alpha, alpha), for some of the examples."""

    def __init__(self, alpha: float, probability: float):
        if not alpha > 0 or not 0 < probability <= 1:
            raise RecipeError(
                f"alpha, probability are {alpha}, {probability}, expected alpha above 0 and "
                "probability above 0 and up to 1."
            )
        self.alpha, self.probability = alpha, probability

    def shares(self, numbers: Tensor) -> Tensor:
        """From two numbers an example ``(N, 2)`` its own share ``(N,)``; 1 where it stays whole."""
        drawn = beta(numbers[:, 0], self.alpha)
        return torch.where(numbers[:, 1] < self.probability, drawn, torch.ones_like(drawn))


@register("augment", "mixup")
class Mixup(_Mixing):
    """Blend with a partner: see `mixup`.

    Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond Empirical Risk Minimization, arXiv 1710.09412.
    There one share is drawn for a batch and partners come from the same batch; here each example
    has its own, from the whole set, so that the mixture does not depend on the batch.

    Args:
        alpha: Of the Beta distribution of the shares.
        probability: Share of the examples that is mixed.
    """

    draws = 2

    def __init__(self, alpha: float = 0.2, probability: float = 1.0):
        super().__init__(alpha, probability)

    def check(self, shape: tuple[int, ...]) -> None:
        """Anything can be blended."""

    def __call__(self, inputs: Tensor, partners: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The blends, and each example's own share."""
        share = self.shares(numbers)
        return mixup(inputs, partners, share), share


@register("augment", "cutmix")
class Cutmix(_Mixing):
    """Paste a box of a partner: see `cutmix`.

    Yun, Han, Oh, Chun, Choe, Yoo: CutMix: Regularization Strategy to Train Strong Classifiers
    with Localizable Features, arXiv 1905.04899. Share and partner are each example's own, as in
    `Mixup`; targets follow the pixels really pasted, as in the authors' code.

    Args:
        alpha: Of the Beta distribution of the shares.
        probability: Share of the examples that is mixed.
    """

    draws = 4

    def __init__(self, alpha: float = 1.0, probability: float = 1.0):
        super().__init__(alpha, probability)

    def check(self, shape: tuple[int, ...]) -> None:
        """Images."""
        need_images("cutmix", shape)

    def __call__(self, inputs: Tensor, partners: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The mixed images, and the share of its pixels each one keeps."""
        return cutmix(inputs, partners, self.shares(numbers[:, :2]), numbers[:, 2:])
