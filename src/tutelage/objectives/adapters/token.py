"""Adapters of tokens, and between tokens and maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.errors import ShapeMismatch
from tutelage.core.registry import register
from tutelage.objectives.adapters.convolution import Spatial
from tutelage.objectives.adapters.shapes import Size, grid_of, require, resize, to_map, to_tokens


@register("adapter", "token")
def token(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """One learned matrix a token, and the teacher's number of tokens where that is another.

    Where both have the same number, no token is moved, so batches may be of any length, as those
    of texts are. Else the teacher's number is kept, and where both are square grids of patches
    (with up to two leading class tokens) the student's is interpolated over the grid, and class
    tokens stay class tokens; else along the sequence.

    Args:
        student: ``(N, T, D)``.
        teacher: ``(N, T', D')``.
        bias: Whether to add a learned vector.

    Example:
        >>> adapter = token(torch.rand(2, 7, 6), torch.rand(2, 7, 8))
        >>> adapter(torch.rand(2, 5, 6)).shape
        torch.Size([2, 5, 8])
    """
    require(student, 3, "token", "student")
    require(teacher, 3, "token", "teacher")
    tokens = None if student.shape[1] == teacher.shape[1] else teacher.shape[1]
    return Token(student.shape[2], teacher.shape[2], tokens, bias=bias)


@register("adapter", "token_to_map")
def token_to_map(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """Tokens laid out as a map (class tokens left out), then as `spatial`.

    Args:
        student: ``(N, T, D)``, T a square, or the number of the teacher's positions; up to two
            leading tokens more.
        teacher: ``(N, C, H, W)``.
        bias: Whether to add a learned vector.

    Raises:
        ShapeMismatch: T is neither.
    """
    require(student, 3, "token_to_map", "student")
    require(teacher, 4, "token_to_map", "teacher")
    size = (teacher.shape[2], teacher.shape[3])
    grid = _grid(student.shape[1], size, "student")
    return TokenToMap(grid, Spatial(student.shape[2], teacher.shape[1], size, bias=bias))


@register("adapter", "map_to_token")
def map_to_token(student: Tensor, teacher: Tensor, *, bias: bool = True) -> nn.Module:
    """As `spatial` to the grid of the teacher's tokens; class tokens get the map's mean.

    Args:
        student: ``(N, C, H, W)``.
        teacher: ``(N, T, D)``, T a square, or the number of the student's positions; up to two
            leading tokens more.
        bias: Whether to add a learned vector.

    Raises:
        ShapeMismatch: T is neither.
    """
    require(student, 4, "map_to_token", "student")
    require(teacher, 3, "map_to_token", "teacher")
    size = (student.shape[2], student.shape[3])
    grid, leading = _grid(teacher.shape[1], size, "teacher")
    return MapToToken(Spatial(student.shape[1], teacher.shape[2], grid, bias=bias), leading)


def _grid(tokens: int, like: Size, whose: str) -> tuple[Size, int]:
    grid = grid_of(tokens, like)
    if grid is None:
        raise ShapeMismatch(
            f"the {whose}'s {tokens} tokens are no square grid (with up to two class tokens), and "
            f"not {like[0]}x{like[1]} positions either: choose tokens of image patches."
        )
    return grid


class Token(nn.Module):
    """A linear map a token, resampled to another number of tokens unless that is None."""

    def __init__(self, width: int, wanted: int, tokens: int | None, *, bias: bool = True):
        super().__init__()
        self.tokens = tokens
        self.linear = nn.Linear(width, wanted, bias=bias)

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, T, D)`` -> ``(N, T', D')``."""
        adapted: Tensor = self.linear(feature)
        count = feature.shape[1]
        if self.tokens is None or count == self.tokens:
            return adapted
        ours, theirs = grid_of(count), grid_of(self.tokens)
        if ours is None or theirs is None:
            moved = F.interpolate(adapted.transpose(1, 2), self.tokens, mode="linear")
            return moved.transpose(1, 2)
        patches = to_tokens(resize(to_map(adapted, *ours), theirs[0]), theirs[1])
        same = min(ours[1], theirs[1])
        return torch.cat([adapted[:, :same], patches[:, same:]], dim=1)


class TokenToMap(nn.Module):
    """Tokens as a map."""

    def __init__(self, grid: tuple[Size, int], spatial: Spatial):
        super().__init__()
        self.grid, self.leading = grid
        self.spatial = spatial

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, T, D)`` -> ``(N, C, H, W)``."""
        adapted: Tensor = self.spatial(to_map(feature, self.grid, self.leading))
        return adapted


class MapToToken(nn.Module):
    """A map as tokens."""

    def __init__(self, spatial: Spatial, leading: int):
        super().__init__()
        self.spatial, self.leading = spatial, leading

    def forward(self, feature: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, T, D)``."""
        return to_tokens(self.spatial(feature), self.leading)
