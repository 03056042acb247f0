"""``audit.html``: an audit for people, one file that needs nothing else."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

from tutelage.evaluation.faces.blocks import Block, Table, Words, as_html
from tutelage.evaluation.faces.proof import found as findings_card

_VERDICTS = {
    "warning": ("no", "Look at the data first"),
    "notice": ("open", "Know what is noted"),
    "fine": ("yes", "Nothing was found"),
}
_MOST = 100


def page(found: Mapping[str, Any]) -> str:
    """The whole page of an audit: styles inside, no scripts, nothing loaded.

    Args:
        found: `tutelage.data.audit.Audit.as_dict`.
    """
    style = files("tutelage.evaluation.faces").joinpath("page.css").read_text(encoding="utf-8")
    checks = found["checks"]
    sections = "".join(
        f"<section><h2>{escape(check['title'])}</h2>{as_html(_blocks(name, check['figures']))}"
        "</section>"
        for name, check in checks.items()
        if _blocks(name, check["figures"])
    )
    card = findings_card(checks).replace("What else was found", "What was found")
    badge, verdict = _VERDICTS[found["worst"]]
    sizes = found["facts"].get("splits", {})
    told = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    title = f"Audit of {found['name']}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><p class="over">Data before the run{" · " if told else ""}{escape(told)}</p>'
        f'<h1>{escape(title)}</h1><span class="badge {badge}">{verdict}</span></header>\n'
        f"<main>{card}{sections}</main>\n"
        '<footer class="faint">Made by tutelage from audit.json, which holds every figure of '
        "this page.</footer>\n</body>\n</html>\n"
    )


def _blocks(name: str, figures: Mapping[str, Any]) -> list[Block]:
    made = {"duplicates": _copies, "labels": _labels, "balance": _balance, "files": _files}
    return made[name](figures) if name in made else []


def _files(figures: Mapping[str, Any]) -> list[Block]:
    rows = [
        (name, why)
        for kind in ("broken", "disguised", "overlooked")
        for name, why in figures[kind].items()
    ]
    return [Table(("File", "What is wrong"), tuple(rows))] if rows else []


def _copies(figures: Mapping[str, Any]) -> list[Block]:
    between = tuple((way, f"{count:,}") for way, count in figures["between"].items())
    made: list[Block] = [Table(("From, to", "Examples copied"), between)]
    if figures["limit"] is not None:
        made.append(
            Words(
                f"A near-copy lies at most {100 * figures['limit']:.0f} % as far as the eleventh "
                "neighbour of either; in clean data of intrinsic dimension "
                f"{figures['dimension']:.1f}, as this is, one such pair is expected in a "
                "thousand audits."
            )
        )
    pairs = figures["exact_pairs"] + figures["near_pairs"]
    rows = tuple(
        (
            each["one"],
            each["other"],
            "exact" if each["ratio"] == 0 else f"{100 * each['ratio']:.0f} %",
            "same" if each["same_label"] else "differs",
        )
        for each in pairs[:_MOST]
    )
    if rows:
        made.append(
            Table(("One", "Other", "Distance", "Label"), rows, "All pairs, nearest first", True)
        )
    return made


def _labels(figures: Mapping[str, Any]) -> list[Block]:
    if figures.get("left_out") or not figures["suspects"]:
        return []
    agrees = {True: "yes", False: "no", None: "not asked"}
    rows = tuple(
        (
            each["example"],
            each["label"],
            each["instead"],
            f"{100 * each['belief']:.2g} %",
            agrees[each["cleanlab_agrees"]],
        )
        for each in figures["suspects"][:_MOST]
    )
    head = ("Example", "Label", "Rather", "Belief in the label", "cleanlab doubts it too")
    return [Table(head, rows, "The labels that are doubted most", folded=True)]


def _balance(figures: Mapping[str, Any]) -> list[Block]:
    made: list[Block] = []
    for what, each in {"Class": figures["classes"], **figures["groups"]}.items():
        splits = tuple(each["counts"])
        rows = tuple(
            (name, *(f"{each['counts'][split][place]:,}" for split in splits))
            for place, name in enumerate(each["names"])
        )
        made.append(Table((what, *splits), rows, folded=len(rows) > 12))
    return made
