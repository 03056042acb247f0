"""Families of models: what their parts are called, and what is cut where."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Axes = tuple[str | None, ...]
"""For each dimension of a weight: ``hidden``, ``heads``, ``queries`` (heads times their size),
``groups`` (heads of keys and values times their size), ``neurons``, ``vocabulary``, or None for
what stays. A bias has the first of them."""


class Reads(NamedTuple):
    """A part of a block and, inside it, the linear layer that reads what is to be cut.

    Attributes:
        owner: The end of the part's path; empty for the block itself.
        layer: From there to the linear layer.
    """

    owner: str
    layer: str

    def part(self, path: str) -> str | None:
        """The path of the part whose layer this is; None where it is none.

        >>> Reads("mlp", "down_proj").part("layers.0.mlp.down_proj")
        'layers.0.mlp'
        """
        part, end = path.removesuffix(f".{self.layer}"), self.owner
        fits = not end or part == end or part.endswith(f".{end}")
        return part if part != path and fits else None


@dataclass(frozen=True)
class Family:
    """Models whose parts have the same names.

    Attributes:
        kinds: What their configurations call themselves (``model_type``); ``gpt`` is the zoo's.
        axes: By the end of a module's path, the first that fits.
        attention: Kinds of attention in a block, each with the layer that reads all its heads.
        neurons: The layer that reads the inner units.
        norms: Ends of paths of the normalisations whose outputs the hidden channels are judged by.
        scaled: Whether these divide by the root of the mean square.
        names: What the description of a model calls its sizes: ``hidden``, ``heads``, ``neurons``,
            ``vocabulary``, and where it says them ``groups`` (heads of keys and values), ``size``
            (of a head) and ``eps``.
        alike: Names of attentions that keep the same heads in all blocks of a stack, as they share
            what is learnt for each head.
        divided: The normalisation whose output a head that is the embedding gets divided by the
            root of the hidden size, where the configuration says so; empty where there is none.
    """

    kinds: tuple[str, ...]
    axes: tuple[tuple[str, Axes], ...]
    attention: tuple[Reads, ...]
    neurons: Reads
    norms: tuple[str, ...]
    scaled: bool
    names: Mapping[str, str] = field(hash=False)
    alike: tuple[str, ...] = ()
    divided: str = ""

    @property
    def grouped(self) -> bool:
        """Whether keys and values may have fewer heads than queries."""
        return "groups" in self.names

    def size(self, description: Any, what: str) -> int:
        """A size that a description says."""
        return int(getattr(description, self.names[what]))
