"""What a part of the report shows, said once: every face (page, Markdown) writes it its own way."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tutelage.evaluation.faces.tables import prose


@dataclass(frozen=True)
class Words:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows below a head; the first column names the row.

    Attributes:
        head: Of each column.
        rows: Cells as text, as many in each row as there are heads.
        caption: What it shows; may be empty.
        folded: Whether a page shows it only when asked: for long tables.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawing as SVG text in the page's colours (see `plots`), or pixels inside of one.

    Attributes:
        svg: The drawing; it loads nothing.
        caption: What it shows, so that one who cannot see it misses nothing that matters.
    """

    svg: str
    caption: str


@dataclass(frozen=True)
class Exhibit:
    """A small image of a gallery.

    Attributes:
        png: The image in base64.
        text: Below it, in a few words; it says what the image is to one who cannot see it.
    """

    png: str
    text: str


@dataclass(frozen=True)
class Gallery:
    """Small images side by side, each with its words; their pixels are shown as pixels.

    Attributes:
        exhibits: In order.
        caption: What they are.
    """

    exhibits: tuple[Exhibit, ...]
    caption: str


Block = Words | Table | Picture | Gallery


def as_html(blocks: Sequence[Block]) -> str:
    """The blocks as parts of a page."""
    return "".join(map(_html, blocks))


def as_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown; of a picture its caption, of a gallery its words."""
    return "\n\n".join(filter(None, map(_markdown, blocks)))


def _html(block: Block) -> str:
    if isinstance(block, Words):
        return f"<p>{prose(block.text)}</p>"
    if isinstance(block, Picture):
        return f"<figure><figcaption>{prose(block.caption)}</figcaption>{block.svg}</figure>"
    if isinstance(block, Gallery):
        return _gallery(block)
    heads = "".join(f"<th>{prose(head)}</th>" for head in block.head)
    rows = "".join(
        f"<tr><th>{prose(first)}</th>{''.join(f'<td>{prose(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in block.rows
    )
    inner = f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>"
    table = f'<div class="scroll"><table>{inner}</table></div>'
    if block.folded:
        told = escape(block.caption or "As a table")
        return f"<details><summary>{told}</summary>{table}</details>"
    return (f"<h3>{prose(block.caption)}</h3>" if block.caption else "") + table


def _gallery(block: Gallery) -> str:
    shown = "".join(
        f'<li><img alt="{escape(one.text)}" src="data:image/png;base64,{escape(one.png)}">'
        f"<span>{prose(one.text)}</span></li>"
        for one in block.exhibits
    )
    return f'<h3>{prose(block.caption)}</h3><ul class="gallery">{shown}</ul>'


def _markdown(block: Block) -> str:
    if isinstance(block, Words):
        return block.text
    if isinstance(block, Picture):
        return f"*{block.caption}*" if block.caption else ""
    if isinstance(block, Gallery):
        told = "\n".join(f"- {one.text}" for one in block.exhibits)
        return f"**{block.caption}**\n\n{told}"
    lines = [_line(block.head), _line(("---",) * len(block.head)), *map(_line, block.rows)]
    return (f"**{block.caption}**\n\n" if block.caption else "") + "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
