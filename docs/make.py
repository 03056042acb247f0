"""Writes docs/methods.md from the code: every registered name, its paper, needs and options.

python docs/make.py            # write it
python docs/make.py --check    # exit 1 where it is not what the code says
"""

import sys
from pathlib import Path

import tutelage.data
import tutelage.engine
import tutelage.models
import tutelage.objectives  # noqa: F401  # these four register their names
from tutelage.core.catalogue import Card, cards
from tutelage.core.registry import kinds

PAGE = Path(__file__).with_name("methods.md")
_HIDDEN = {"classes", "channels"}  # a recipe takes these from the data


def page() -> str:
    """The whole page."""
    parts = [
        "# What there is to choose from\n",
        "Written by `scripts/docs` from signatures and docstrings; `tutelage methods NAME` prints "
        "one of them in full, `tutelage methods --json` all of them as data.\n",
    ]
    for kind in kinds():
        parts.append(f"## {kind.capitalize()}\n")
        parts += [section(card) for card in cards(kind)]
    return "\n".join(parts)


def section(card: Card) -> str:
    """One name."""
    lines = [f"### `{card.name}`\n", f"{card.brief}\n"]
    if card.paper:
        link = f"[arXiv:{card.arxiv}](https://arxiv.org/abs/{card.arxiv})" if card.arxiv else ""
        lines.append(f"{card.paper}, {card.year}. {link}".rstrip() + "\n")
    if card.needs:
        lines.append(f"Needs: {', '.join(card.needs)}.\n")
    options = {k: v for k, v in card.options.items() if k not in _HIDDEN}
    if options:
        rows = [f"| `{k}` | `{_cell(v['type'])}` | {_default(v)} |" for k, v in options.items()]
        lines.append("\n".join(["| option | type | default |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(lines)


def _default(option: dict[str, object]) -> str:
    return f"`{_cell(option['default'])}`" if "default" in option else "must be given"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def main() -> None:
    """Write or compare."""
    made = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != made:
        sys.exit("docs/methods.md is not what the code says: run scripts/docs and commit it.")


if __name__ == "__main__":
    main()
