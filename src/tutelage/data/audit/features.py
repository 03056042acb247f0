"""Features without a trained network, good enough to doubt a label by."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tutelage.core.seeds import generator
from tutelage.data.audit.pool import Pool
from tutelage.data.sets import as_float

FILTERS, SIDE, STRIDE, GRID = 160, 5, 2, 3
_WIDEST = 64  # larger images are scaled down first
_THRESHOLD = 0.25
_CHUNK = 256
_COSINES = 1000


def features(pool: Pool, rows: Tensor, places: Tensor, seed: int) -> Tensor:
    """Rows in which a linear classifier does well ``(len(places), D)``, scaled to length near 1.

    Args:
        pool: The examples.
        rows: Their short rows (see `descriptors`), used for tables.
        places: Positions of those asked for.
        seed: Of filters and frequencies.
    """
    if len(pool.sets[0].example_shape) == 3:
        found = patch_features(pool, places, seed)
        found = found - found.mean(0)
        return found / found.std(0).clamp_min(1e-4) / math.sqrt(found.shape[1])
    plain = rows[places] - rows[places].mean(0)
    plain = plain / plain.norm(dim=1).mean().clamp_min(1e-6)
    curved = cosines(plain, seed)
    return torch.cat([curved - curved.mean(0), plain], 1)


def patch_features(pool: Pool, places: Tensor, seed: int) -> Tensor:
    """How much each of `FILTERS` small patterns is there, in each ninth of an image.

    Patches of 5x5 pixels, each normalised, are whitened, compared with patches taken from the
    images themselves, cut at a threshold and averaged over a 3x3 grid; roots make the counts even.
    Coates, Lee, Ng: An analysis of single-layer networks in unsupervised feature learning,
    AISTATS 2011 (random patches instead of k-means, which they found to be near).
    """
    random = generator(seed, "audit", "patches")
    few = places[torch.randperm(len(places), generator=random)[:400]]
    patches = _patches(_images(pool, few)).flatten(0, 1)
    lively = patches[patches.std(1) > 0.3]
    patches = lively if len(lively) >= FILTERS else patches
    patches = patches[torch.randperm(len(patches), generator=random)[:10_000]]
    mean = patches.mean(0)
    centred = patches - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    whitening = (vectors * (values.clamp_min(0) + 0.1).rsqrt()) @ vectors.T
    chosen = torch.randperm(len(patches), generator=random)[:FILTERS]
    filters = whitening @ F.normalize(centred[chosen] @ whitening, dim=1).T
    offset = mean @ filters + _THRESHOLD
    found = []
    for part in torch.split(places, _CHUNK):
        images = _images(pool, part)
        answers = (_patches(images) @ filters - offset).relu_()
        found.append(_grid(answers, images.shape[-2:]))
    return torch.cat(found).sqrt_()


def cosines(rows: Tensor, seed: int) -> Tensor:
    """Random Fourier features of a Gaussian kernel twice the median distance wide.

    Rahimi, Recht: Random features for large-scale kernel machines, NIPS 2007.
    """
    random = generator(seed, "audit", "cosines")
    few = rows[torch.randperm(len(rows), generator=random)[:1000]]
    width = torch.pdist(few).median().clamp_min(1e-6) * 2
    frequencies = torch.randn(rows.shape[1], _COSINES, generator=random) / width
    phases = torch.rand(_COSINES, generator=random) * 2 * math.pi
    return torch.cos(rows @ frequencies + phases) * math.sqrt(2 / _COSINES)


def _images(pool: Pool, places: Tensor) -> Tensor:
    images = torch.nan_to_num(as_float(pool.read(places)))
    factor = -(-max(images.shape[-2:]) // _WIDEST)
    return F.avg_pool2d(images, factor, ceil_mode=True) if factor > 1 else images


def _patches(images: Tensor) -> Tensor:
    """All patches ``(N, L, C side²)``, each with mean 0 and deviation near 1."""
    side, stride = _reach(images.shape[-2:])
    patches = F.unfold(images, side, stride=stride).transpose(1, 2)
    patches = patches - patches.mean(2, keepdim=True)
    return patches / (patches.std(2, keepdim=True, correction=0) + 0.02)


def _grid(answers: Tensor, shape: torch.Size) -> Tensor:
    side, stride = _reach(shape)
    high, wide = ((length - side) // stride + 1 for length in shape)
    maps = answers.transpose(1, 2).reshape(len(answers), -1, high, wide)
    return F.adaptive_avg_pool2d(maps, GRID).flatten(1)


def _reach(shape: torch.Size) -> tuple[int, int]:
    """Side and stride of the patches: smaller ones for tiny images."""
    return (SIDE, STRIDE) if min(shape) >= 16 else (min(3, *shape), 1)
