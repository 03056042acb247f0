"""What the figures of an audit mean, in words; warnings rest on counts that matter, or a test."""

from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.core.finding import Finding
from tutelage.data.audit import balance as mixes
from tutelage.data.audit.broken import FAR, ODD, Content, Files
from tutelage.data.audit.labels import Labels
from tutelage.data.audit.pool import SHOWN, Pool
from tutelage.data.audit.wording import are, examples, files, some, weight, worst_first

NOISY = 0.001
"""Share of random labels whose certain excess (lower end of the interval) is a warning."""
UNEVEN = 10.0


def of_files(found: Files) -> tuple[Finding, ...]:
    """Of the look at every file."""
    told = []
    if found.broken:
        listed = tuple(f"{name} ({why})" for name, why in found.broken.items())
        told.append(
            Finding(
                "warning",
                f"{files(len(found.broken))} cannot be read as images: {some(listed)}. Remove "
                "or replace them; the rest of this audit passes them over.",
                listed,
            )
        )
    odd = (
        ("Another format than the suffix says", found.disguised),
        ("Images passed over, since their suffix is none of an image", found.overlooked),
        ("Passed over, since they are no images by their suffix", dict.fromkeys(found.passed_over)),
    )
    for what, names in odd:
        if names:
            listed = tuple(f"{name} ({why})" if why else name for name, why in names.items())
            text = f"{what}: {files(len(names))}: {some(listed)}."
            told.append(Finding("notice", text, listed[:SHOWN]))
    whole = sum(found.sizes.values())
    return (*told, Finding("fine", f"{whole:,} of {found.looked_at:,} files are whole images."))


def of_content(found: Content, pool: Pool) -> tuple[Finding, ...]:
    """Of the look at every example's numbers."""
    told = []
    if len(found.not_finite):
        told.append(
            Finding(
                "warning",
                f"NaN or infinite numbers are in {examples(len(found.not_finite))}: "
                f"{some(pool.called(found.not_finite), len(found.not_finite))}. Fill or "
                "remove them.",
                pool.called(found.not_finite),
            )
        )
    if len(found.constant):
        told.append(
            Finding(
                weight(len(found.constant), len(pool)),
                f"{examples(len(found.constant))} {are(len(found.constant))} of one colour, with "
                f"nothing to see: {some(pool.called(found.constant), len(found.constant))}.",
                pool.called(found.constant),
            )
        )
    if len(found.extreme):
        named = pool.called(found.extreme)
        far = FAR if pool.tables else ODD
        told.append(
            Finding(
                "notice",
                f"{examples(len(found.extreme))} {are(len(found.extreme))} extreme, {far:g} usual "
                f"deviations or more from the middle in some respect: "
                f"{some(named, len(found.extreme))}. A slip, or rare?",
                named,
            )
        )
    return tuple(told) or (
        Finding("fine", f"None of the {len(pool):,} examples is empty, constant or extreme."),
    )


def of_labels(found: Labels, pool: Pool, classes: Sequence[str]) -> tuple[Finding, ...]:
    """Of labels that are likely wrong."""
    if found.why is not None or found.noise is None:
        return (Finding("notice", f"Labels were not looked at: {found.why}."),)
    if not len(found.suspects):
        return (
            Finding(
                "fine",
                f"No label of {len(found.places):,} in train and validation is doubted.",
            ),
        )
    named = tuple(
        f"{pool.call(place)}: {classes[int(pool.targets[place])]}, or {classes[instead]}?"
        for place, instead in zip(
            found.suspects[:SHOWN].tolist(), found.instead[:SHOWN].tolist(), strict=True
        )
    )
    total = len(found.places)
    noise = found.noise
    judge = (
        f"a plain classifier, right for {100 * found.accuracy:.1f} % of them, and their nearest "
        "neighbours"
    )
    second = (
        "cleanlab was not asked: pip install 'tutelage[data]'."
        if found.second is None
        else f"cleanlab, asked for a second opinion on the same figures, doubts "
        f"{found.second['flagged']:,}, {found.second['agreed']:,} of them the same."
    )
    if noise.low > NOISY:
        text = (
            f"About {100 * noise.share:.2g} % of the {total:,} labels of train and validation "
            f"(95 % interval {100 * noise.low:.2g} to {100 * noise.high:.2g} %), some "
            f"{round(noise.share * total):,}, look as if drawn at random. {len(found.suspects):,} "
            f"are doubted by {judge}; the first listed are the surest. {second} First: "
            f"{'; '.join(named[:6])}."
        )
        return (Finding("warning", text, named),)
    text = (
        f"{len(found.suspects):,} of {total:,} labels of train and validation "
        f"{are(len(found.suspects))} doubted by "
        f"{judge}, but no more than hard examples explain: look at the first few. {second} "
        f"First: {'; '.join(named[:6])}."
    )
    return (Finding("notice", text, named),)


def of_balance(mix: Mapping[str, Any], groups: Mapping[str, Any]) -> tuple[Finding, ...]:
    """Of classes and groups in the splits."""
    tables = {"class": mix, **{f"group of {name!r}": each for name, each in groups.items()}}
    tried = max(1, sum(len(each["shifts"]) for each in tables.values()))
    told = []
    for what, each in tables.items():
        for split, names in each["absent"].items():
            if names:
                told.append(
                    Finding(
                        "warning",
                        f"{split} has no example of {what} {some(tuple(names))}: nothing can be "
                        f"{'learnt' if split == 'train' else 'said'} of it there.",
                        tuple(names[:SHOWN]),
                    )
                )
        for split, shift in each["shifts"].items():
            if shift["p"] < mixes.ALPHA / tried:
                large = shift["v"] >= mixes.SHIFTED
                told.append(
                    Finding(
                        "warning" if large else "notice",
                        f"The mix of {what} in {split} differs from that of train (chi-squared, "
                        f"p = {shift['p']:.1g}; Cramér's V {shift['v']:.2f}, 0 would be alike): "
                        "figures measured there hold for its own mix.",
                    )
                )
        told += _uneven(what, each)
    for name, each in groups.items():
        tie = each["with_classes"]
        if tie["p"] < mixes.ALPHA and tie["v"] >= mixes.SHIFTED:
            told.append(
                Finding(
                    "notice",
                    f"In train, group of {name!r} and class go together (Cramér's V "
                    f"{tie['v']:.2f}): a model can learn the one from the other.",
                )
            )
    return worst_first(told) or (
        Finding("fine", "Every class is in every split, in even numbers and the same mix."),
    )


def _uneven(what: str, each: Mapping[str, Any]) -> list[Finding]:
    ratio, counts, names = each["largest_to_smallest"], each["counts"]["train"], each["names"]
    if ratio is None or ratio < UNEVEN:
        return []
    most, least = counts.index(max(counts)), counts.index(min(counts))
    return [
        Finding(
            "notice",
            f"In train, {what} {names[most]!r} has {counts[most]:,} examples and {names[least]!r} "
            f"{counts[least]:,}: accuracy over all hides the small one; look at each.",
        )
    ]
