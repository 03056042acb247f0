"""``DATA_CARD.md`` of a package, from what a run's report says of its data."""

from collections.abc import Mapping
from typing import Any

_UNKNOWN = "not stated"


def data_facts(report: Mapping[str, Any], fingerprints: Mapping[str, str]) -> str:
    """A card in Hugging Face's form of the facts that a run notes; the data are not read again.

    The test examples stay sealed: what only they could tell (their classes' counts, copies between
    splits) is for ``tutelage audit``, and the card says so.

    Args:
        report: Figures, as in ``report.json``.
        fingerprints: SHA-256 of each split.
    """
    import yaml

    data = report["data"]
    licence, labelled = _plain(data.get("origin") or ""), data.get("labelled")
    splits = {split: data[split] for split in ("train", "validation", "test")}
    head = {
        **({"license": str(data["origin"]).lower()} if licence else {}),
        "pretty_name": data["name"],
        "dataset_info": {
            "splits": [{"name": name, "num_examples": count} for name, count in splits.items()]
        },
    }
    few = "all" if labelled is None else f"{labelled:,}"
    chosen = ", ".join(map(_plain, data.get("chosen", ()))) or "nothing"
    rows = [
        f"| {split} | {count:,} | `{fingerprints.get(split, _UNKNOWN)[:16]}` |"
        for split, count in splits.items()
    ]
    classes = ", ".join(map(_plain, data["classes"][:100]))
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(data['name'])}",
        "The data that the student of this package learned from and was judged by, as its run "
        "noted them. No audit of them came with the run: copies between splits, doubtful labels "
        "and broken files were not looked for (`tutelage audit` does).",
        f"## Source and licence\n\n- Licence: {licence or _UNKNOWN}",
        "## Splits\n\n| Split | Examples | Fingerprint (SHA-256, first 16) |\n"
        f"| --- | ---: | ---: |\n{chr(10).join(rows)}",
        f"The student learned from the train split, with labels of {few} of its examples. Chosen "
        f"on validation: {chosen}. The test split was opened {data.get('test_opened', 1)} time(s), "
        "for the report.",
        f"## Classes\n\n{len(data['classes'])}: {classes}.",
        "## Collection, consent, known uses\n\nHow the data was collected, from whom, and whether "
        f"they agreed: {_UNKNOWN}.",
    ]
    return "\n\n".join(parts) + "\n"


def _plain(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
