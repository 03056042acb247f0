"""``DATA_CARD.md`` of a package, from what a run's report says of its data."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.deployment.licences import UNKNOWN, hub_licence, unknown

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def data_facts(
    report: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    *,
    licence: str = "",
    task: str = "",
    columns: Sequence[Mapping[str, Any]] = (),
) -> str:
    """A card in Hugging Face's form of the facts that a run notes; the data are not read again.

    The test examples stay sealed: what only they could tell (their classes' counts, copies between
    splits) is for ``tutelage audit``, and the card says so.

    Args:
        report: Figures, as in ``report.json``.
        fingerprints: SHA-256 of each split.
        licence: Of the data; what the source states by default.
        task: Of Hugging Face's tasks, such as ``image-classification``.
        columns: Of a table, as the data source states them.
    """
    import yaml

    data = report["data"]
    licence, labelled = _plain(licence or data.get("origin") or ""), data.get("labelled")
    splits = {split: data[split] for split in ("train", "validation", "test")}
    head = {
        **hub_licence(licence),
        "pretty_name": data["name"],
        **({"task_categories": [task]} if task else {}),
        "size_categories": [_size(sum(splits.values()))],
        "dataset_info": {
            "splits": [{"name": name, "num_examples": count} for name, count in splits.items()]
        },
    }
    few = "all" if labelled is None else f"{labelled:,}"
    chosen = ", ".join(map(_plain, data.get("chosen", ()))) or "nothing"
    rows = [
        f"| {split} | {count:,} | `{fingerprints.get(split, UNKNOWN)[:16]}` |"
        for split, count in splits.items()
    ]
    classes = ", ".join(map(_plain, data["classes"][:100]))
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---",
        f"# {_plain(data['name'])}",
        "The data that the student of this package learned from and was judged by, as its run "
        "noted them. No audit of them came with the run: copies between splits, doubtful labels "
        "and broken files were not looked for (`tutelage audit` does).",
        f"## Source and licence\n\n- Licence: {licence or unknown('data')}",
        "## Splits\n\n| Split | Examples | Fingerprint (SHA-256, first 16) |\n"
        f"| --- | ---: | ---: |\n{chr(10).join(rows)}",
        f"The student learned from the train split, with labels of {few} of its examples. Chosen "
        f"on validation: {chosen}. The test split was opened {data.get('test_opened', 1)} time(s), "
        "for the report.",
        f"## Classes\n\n{len(data['classes'])}: {classes}.",
        *([_columns(columns)] if columns else []),
        "## Collection, consent, known uses\n\nHow the data was collected, from whom, and whether "
        f"they agreed: {UNKNOWN}.",
    ]
    return "\n\n".join(parts) + "\n"


def _columns(columns: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in columns:
        number = each["kind"] == "number"
        what = (
            f"mean {each['mean']:.4g}, deviation {each['std']:.4g}"
            if number
            else f"{len(each['categories'])} categories"
        )
        rows.append(f"| {_plain(each['name'])} | {each['kind']} | {what} |")
    return (
        "## Columns\n\nOf the training rows; preprocessing.json has all of it.\n\n"
        f"| Column | Kind | |\n| --- | --- | --- |\n{chr(10).join(rows)}"
    )


def _size(total: int) -> str:
    return next((word for most, word in _SIZES if total < most), "n>1M")


def _plain(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
