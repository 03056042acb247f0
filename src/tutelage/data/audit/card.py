"""``DATA_CARD.md``: what a stranger must know of a data set, in Hugging Face's form."""

from collections.abc import Mapping, Sequence
from typing import Any

_UNKNOWN = "not stated"
_TOLD = {"source", "path", "test_path", "folder", "licence", "seed", "sha256"}
_IMAGE = {"name": "image", "dtype": "image"}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def data_card(found: Mapping[str, Any], licence: str = "") -> str:
    """The card of an audited data set; nothing is invented: what nobody stated is not stated.

    Args:
        found: `tutelage.data.audit.Audit.as_dict`.
        licence: Where the source does not state it.

    Returns:
        Markdown with a YAML head.
    """
    facts = found["facts"]
    licence = licence or str(facts["origin"].get("licence", ""))
    parts = [
        _head(found, licence),
        f"# {_plain(found['name'])}",
        _what(facts),
        "## Source and licence",
        _source(facts["origin"], licence),
        "## Splits",
        _splits(facts),
        "## Classes",
        _counts(found["checks"]["balance"]["figures"]["classes"], "class"),
        *_groups(found["checks"]["balance"]["figures"]["groups"]),
        "## What the audit found",
        _findings(found["checks"]),
        "## Collection, consent, known uses",
        f"How the data was collected, from whom, and whether they agreed: {_UNKNOWN}. An audit "
        "cannot see it: write it here.",
    ]
    return "\n\n".join(parts) + "\n"


def _head(found: Mapping[str, Any], licence: str) -> str:
    import yaml

    facts = found["facts"]
    total = sum(facts["splits"].values())
    image = len(facts["shape"]) == 3
    head: dict[str, Any] = {
        **({"license": licence.lower()} if licence else {}),
        "pretty_name": found["name"],
        "task_categories": ["image-classification" if image else "tabular-classification"],
        "size_categories": [next((word for most, word in _SIZES if total < most), "n>1M")],
        "dataset_info": {
            "features": [
                _IMAGE if image else {"name": "row", "sequence": "float32"},
                {"name": "label", "dtype": {"class_label": {"names": facts["classes"]}}},
            ],
            "splits": [{"name": k, "num_examples": n} for k, n in facts["splits"].items()],
        },
    }
    text = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _what(facts: Mapping[str, Any]) -> str:
    total, shape = sum(facts["splits"].values()), facts["shape"]
    kind = (
        f"images of {shape[0]} channel{'' if shape[0] == 1 else 's'}, {shape[1]}x{shape[2]} pixels"
        if len(shape) == 3
        else f"rows of {' x '.join(map(str, shape))} numbers"
    )
    names = facts["classes"]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (
        f"{total:,} {kind} (stored as {facts['stored']}), in {len(names)} classes: "
        f"{', '.join(map(_plain, names[:20]))}{more}."
    )


def _source(origin: Mapping[str, Any], licence: str) -> str:
    lines = [f"- Licence: {_plain(licence) or _UNKNOWN}"]
    lines += [
        f"- {key.replace('_', ' ').capitalize()}: {_value(origin[key])}"
        for key in sorted(_TOLD & origin.keys() - {"licence"})
        if origin[key] is not None
    ]
    if "source" not in origin:
        lines.append(f"- Source: {_UNKNOWN}")
    return "\n".join(lines)


def _splits(facts: Mapping[str, Any]) -> str:
    rows = [
        (split, f"{count:,}", f"`{facts['fingerprints'][split][:16]}`")
        for split, count in facts["splits"].items()
    ]
    return _table(("Split", "Examples", "Fingerprint (SHA-256, first 16)"), rows)


def _counts(each: Mapping[str, Any], what: str) -> str:
    splits = list(each["counts"])
    rows = [
        (_plain(name), *(f"{each['counts'][split][place]:,}" for split in splits))
        for place, name in enumerate(each["names"][:100])
    ]
    if len(each["names"]) > 100:
        rows.append((f"... {len(each['names']) - 100} more", *("" for _ in splits)))
    if any(each["unlabelled"].values()):
        rows.append(("(not known)", *(f"{each['unlabelled'][split]:,}" for split in splits)))
    return _table((what.capitalize(), *splits), rows)


def _groups(groups: Mapping[str, Any]) -> list[str]:
    if not groups:
        return ["## Groups", f"Whom the examples stand for (sex, age, place, device): {_UNKNOWN}."]
    return ["## Groups", *(_counts(each, name) for name, each in groups.items())]


def _findings(checks: Mapping[str, Any]) -> str:
    marks = {"warning": "**Look at this.**", "notice": "Know this:", "fine": "In order:"}
    return "\n".join(
        f"- {marks[one['status']]} {_plain(one['text'])}"
        for check in checks.values()
        for one in check["findings"]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_plain(key)} {_plain(each)[:16]}" for key, each in value.items())
    return _plain(value)


def _plain(text: object) -> str:
    """Text that cannot start a line, a table cell or a tag of its own in Markdown."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
