"""What ``tutelage methods`` prints, read from the code's own signatures and docstrings."""

import re
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

# Importing a room puts its names on the shelves.
import tutelage.compression as _compression
import tutelage.data as _data
import tutelage.engine as _engine
import tutelage.evaluation.parts as _parts
import tutelage.models as _models
import tutelage.objectives as _objectives
import tutelage.settings as _settings
import tutelage.synthesis as _synthesis
from tutelage.cli.equations import readable
from tutelage.core.catalogue import Card, cards
from tutelage.core.errors import RecipeError, suggest

ROOMS = (_compression, _data, _engine, _models, _objectives, _parts, _settings, _synthesis)
"""Where names come from."""

_GIVEN = {"classes", "channels", "inputs", "row", "size", "learning_rate"}
_MATH = re.compile(r"^\.\. math::((?:.+\n?)+)", re.MULTILINE)
_WORDS = re.compile(r":math:`([^`]*)`|``([^`]*)``|`(?:tutelage\.)?([^`]*)`")


def plain(name: str | None = None) -> list[dict[str, Any]]:
    """All cards as plain data, or those of one kind, or the one called ``name``.

    >>> sorted(set(plain("kd")[0]) - {"suggested_for", "suggested_weight"})
    ['arxiv', 'brief', 'kind', 'knowledge', 'link', 'name', 'needs', 'options', 'paper', 'year']
    """
    return [card.row() for card in (cards() if name is None else chosen(name))]


def chosen(name: str) -> list[Card]:
    """The cards of a kind, or the one that ``name`` or ``kind/name`` says."""
    shelf = cards()
    return [card for card in shelf if card.kind == name] or [find(name, shelf)]


def find(name: str, shelf: list[Card] | None = None) -> Card:
    """The card called ``name`` (or ``kind/name``, where two kinds have one of that name).

    Raises:
        RecipeError: There is none, or there are several.

    Example:
        >>> find("objective/kd").arxiv
        '1503.02531'
    """
    shelf = cards() if shelf is None else shelf
    kind, slash, inner = name.partition("/")
    wanted = (kind, inner) if slash else (None, name)
    found = [card for card in shelf if card.name == wanted[1] and wanted[0] in (None, card.kind)]
    if not found:
        known = {card.name for card in shelf} | {card.kind for card in shelf}
        raise RecipeError(f"there is no method called {name!r}. {suggest(wanted[1], known)}")
    if len(found) > 1:
        several = " or ".join(f"{card.kind}/{card.name}" for card in found)
        raise RecipeError(f"{name!r} names {len(found)} things: write {several}.")
    return found[0]


def show_all(shelf: list[Card] | None = None) -> None:
    """One table for each kind, a line for each name."""
    console = Console()
    shelf = cards() if shelf is None else shelf
    for kind in dict.fromkeys(card.kind for card in shelf):
        members = [card for card in shelf if card.kind == kind]
        for knowledge in dict.fromkeys(card.knowledge for card in members):
            title = f"{kind} ({knowledge})" if knowledge else kind
            some = [card for card in members if card.knowledge == knowledge]
            console.print(_shelf(some, title, weights=knowledge is not None))
    console.print("tutelage methods NAME tells all of one; --json tells a program.")


def _shelf(members: list[Card], title: str, *, weights: bool) -> Table:
    table = Table("name", "what", "needs", "paper", title=title, title_justify="left")
    if weights:
        table.add_column("weight", no_wrap=True)
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for card in members:
        source = f"arXiv:{card.arxiv}" if card.arxiv else str(card.year or "")
        cells: list[Text | str] = [Text(card.name), Text(words(card.brief))]
        cells += [", ".join(card.needs), source]
        if weights:
            cells.append("" if card.suggested is None else f"{card.suggested:g}")
        table.add_row(*cells)
    return table


def show_one(card: Card) -> None:
    """The card in full: what it is for, its equation, its options, its paper."""
    console = Console(highlight=False)
    console.print(Text.assemble((card.name, "bold"), f"  ({card.kind})"))
    for paragraph in described(card.doc):
        console.print()
        console.print(Padding(Text(paragraph), (0, 0, 0, 2)))
    if card.options:
        console.print()
        table = Table("option", "type", "default", "what")
        for name, option in card.options.items():
            about = Text(words(option.get("about", "")))
            table.add_row(name, Text(option["type"]), Text(_default(card, name)), about)
        console.print(table)
    if card.needs:
        console.print(f"needs: {', '.join(card.needs)}")
    if card.paper:
        number = f"arXiv:{card.arxiv}" if card.arxiv else card.link
        console.print(Text(f"paper: {card.paper}, {card.year}, {number}"))
    if card.kind == "objective":
        needed = "".join(f", {key}: ..." for key, o in card.options.items() if "default" not in o)
        weight = 1 if card.suggested is None else f"{card.suggested:g}"
        written = f"{{{card.name}: {{weight: {weight}{needed}}}}}"
        console.print(Text(f"in a recipe: objective: [{written}]"))


def _default(card: Card, option: str) -> str:
    if option in _GIVEN and card.kind in ("model", "optimizer"):
        return "from data and recipe"
    found = card.options[option]
    return repr(found["default"]) if "default" in found else "must be given"


def described(doc: str) -> list[str]:
    """The paragraphs of a docstring before its sections, for reading in a terminal."""
    text = re.split(r"^(?:Args|Returns|Raises|Example|Attributes):$", doc, flags=re.MULTILINE)[0]
    text = _MATH.sub(lambda found: f"\x00{readable(found[1])}\n", text)
    paragraphs = [" ".join(part.split("\n")) for part in re.split(r"\n\s*\n", text.strip())]
    return [f"    {p[1:].strip()}" if p.startswith("\x00") else words(p) for p in paragraphs if p]


def words(text: str) -> str:
    r"""Plain words for the marks of a docstring.

    >>> words(r"as `Dist` for ``(N, C)`` times :math:`T^2`")
    'as Dist for (N, C) times T²'
    """
    return _WORDS.sub(
        lambda found: readable(found[1]) if found[1] else found[2] or found[3] or "", text
    )
