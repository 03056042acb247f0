"""Writes the pages of methods from the code: cards of everything registered, and scales.

python docs/make.py            # write them
python docs/make.py --check    # exit 1 where one is not what the code says
"""

import re
import sys
from pathlib import Path

from tutelage.cli.methods import ROOMS
from tutelage.core.catalogue import Card, cards
from tutelage.core.registry import kinds
from tutelage.objectives.conventions import CONVENTIONS

HERE = Path(__file__).parent
_HIDDEN = {"classes", "channels"}  # a recipe takes these from the data
_SECTIONS = re.compile(r"^(?:Args|Returns|Raises|Example|Attributes):$", re.MULTILINE)
_MATH = re.compile(r"^\.\. math::((?:.+\n?(?:[ ].*\n?)*))", re.MULTILINE)
_WRITTEN = "Written by `scripts/docs` from signatures and docstrings."


def pages() -> dict[str, str]:
    """All pages by file name."""
    assert ROOMS, "importing the rooms puts their names on the shelves"
    objectives = cards("objective")
    families = sorted({str(card.knowledge) for card in objectives})
    made = {
        f"objectives/{family}.md": family_page(
            family, [card for card in objectives if card.knowledge == family]
        )
        for family in families
    }
    return made | {"methods.md": overview(objectives), "scales.md": scales()}


def overview(objectives: list[Card]) -> str:
    """Everything there is to choose from: objectives in a table, the rest in full."""
    parts = [
        "# What there is to choose from\n",
        f"{_WRITTEN} `tutelage methods NAME` prints one of them in full, `tutelage methods --json` "
        "all of them as data.\n",
        f"## Objective ({len(objectives)})\n",
        "| name | what | knowledge | needs | suggested weight | paper |\n|---|---|---|---|---|---|",
        *(_row(card) for card in objectives),
        "",
    ]
    for kind in kinds():
        if kind != "objective":
            parts.append(f"## {kind.capitalize()}\n")
            parts += [section(card) for card in cards(kind)]
    return "\n".join(parts)


def _row(card: Card) -> str:
    cells = [
        f"[`{card.name}`](objectives/{card.knowledge}.md#{card.name})",
        _cell(_plain(card.brief)),
        str(card.knowledge),
        ", ".join(card.needs),
        "" if card.suggested is None else f"{card.suggested:g}",
        f"{_source(card)} {card.year or ''}".strip(),
    ]
    return f"| {' | '.join(cells)} |"


def family_page(family: str, members: list[Card]) -> str:
    """One kind of knowledge: each objective in full."""
    told = sys.modules[f"tutelage.objectives.{family}"].__doc__ or ""
    head = [f"# {family.capitalize()}\n", f"{told.strip()}\n", f"{_WRITTEN}\n"]
    return "\n".join([*head, *(section(card, whole=True) for card in members)])


def section(card: Card, *, whole: bool = False) -> str:
    """One name: its brief, or its whole docstring, with paper, needs and options."""
    heading = f'<a id="{card.name}"></a>\n\n## `{card.name}`' if whole else f"### `{card.name}`"
    lines = [f"{heading}\n", f"{_described(card.doc) if whole else _plain(card.brief)}\n"]
    if card.paper:
        lines.append(f"{card.paper}, {card.year}. {_source(card)}".rstrip() + "\n")
    if card.needs:
        lines.append(f"Needs: {', '.join(card.needs)}.\n")
    options = {k: v for k, v in card.options.items() if k not in _HIDDEN}
    if options:
        head = ["| option | type | default | what |", "|---|---|---|---|"]
        lines.append("\n".join([*head, *(_option(k, v) for k, v in options.items())]) + "\n")
    return "\n".join(lines)


def scales() -> str:
    """What a weight published elsewhere means here."""
    rows = [
        f"| `{each.method}` | {each.where} | {each.reduction} | {each.formula} |"
        for each in CONVENTIONS
    ]
    return "\n".join(
        [
            "# The same words, another scale\n",
            "A weight that was published in another code base, times the factor, gives the same "
            "gradient here (`tutelage.objectives.convert` does it). Where another loss goes by the "
            "same name no factor exists. Each objective's own page says under Scale what its paper "
            "and its authors' code compute.\n",
            f"{_WRITTEN} `tests/objectives/test_conventions.py` compares the factors of `kd` with "
            "gradients.\n",
            "| objective | code base | computes | factor |\n|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _described(doc: str) -> str:
    """A docstring before its sections, equations as Markdown shows them."""
    text = _SECTIONS.split(doc)[0].strip()
    text = _MATH.sub(lambda found: f"```math\n{' '.join(found[1].split())}\n```\n", text)
    return _plain(text)


def _plain(text: str) -> str:
    """Markdown for the marks of a docstring."""
    text = re.sub(r":math:`([^`]*)`", r"$\1$", text)
    return re.sub(r"(?<!`)``([^`]+)``(?!`)", r"`\1`", text)


def _source(card: Card) -> str:
    text = f"arXiv:{card.arxiv}" if card.arxiv else card.link
    return f"[{text}]({card.link})" if card.link else ""


def _option(name: str, option: dict[str, object]) -> str:
    cells = [f"`{name}`", f"`{_cell(option['type'])}`", _default(option)]
    return f"| {' | '.join([*cells, _cell(_plain(str(option.get('about', ''))))])} |"


def _default(option: dict[str, object]) -> str:
    return f"`{_cell(option['default'])}`" if "default" in option else "must be given"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def main() -> None:
    """Write or compare."""
    made = pages()
    kept = {HERE / name for name in made}
    stale = [page for page in (HERE / "objectives").glob("*.md") if page not in kept]
    if "--check" not in sys.argv[1:]:
        (HERE / "objectives").mkdir(exist_ok=True)
        for page in stale:
            page.unlink()
        for name, text in made.items():
            (HERE / name).write_text(text, encoding="utf-8")
        return
    for name, text in made.items():
        page = HERE / name
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            sys.exit(f"docs/{name} is not what the code says: run scripts/docs and commit it.")
    if stale:
        sys.exit(f"docs/objectives/{stale[0].name} is of nothing: run scripts/docs and commit it.")


if __name__ == "__main__":
    main()
