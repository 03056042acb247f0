"""The report in plain words: gained, lost, may it be shipped. Sentences follow the figures."""

from collections.abc import Mapping
from typing import Any

from tutelage.evaluation.wording import (
    gate_value,
    large,
    listing,
    milliseconds,
    percent,
    points,
    size,
    span,
    threads,
    times,
)

_NAMED = 4  # classes that a sentence lists
_ENOUGH_SEEDS = 3  # fewer cannot tell teaching from the luck of training


def verdict(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures say.

    Args:
        report: Figures with ``models``, ``comparison``, ``data`` and ``gates``.

    Returns:
        ``status`` (``"yes"``: every gate passed; ``"no"``: a gate failed or the student collapsed;
        ``"open"``: no gate was set), ``headline``, and lists of sentences ``gained``, ``lost``,
        ``ship``.
    """
    student, gates = report["models"]["student"], report["gates"]
    failed = [gate for gate in gates if not gate["passed"]]
    status = "no" if failed or student["collapsed"] else "yes" if gates else "open"
    return {
        "status": status,
        "headline": _headline(report),
        "gained": _gain(report) + ([] if student["collapsed"] else _savings(report["models"])),
        "lost": _losses(report),
        "ship": [*_shipping(report, failed), *_provenance(report)],
    }


def _headline(report: Mapping[str, Any]) -> str:
    models, gain = report["models"], report["comparison"]["gain"]
    teacher, student = models["teacher"], models["student"]
    if student["collapsed"]:
        return f"The student collapsed: {student['collapsed']}."
    smaller = 1.0 if teacher is None else teacher["parameters"] / max(student["parameters"], 1)
    keeps = f"A student {times(smaller)}× smaller" if smaller > 1.05 else "The student"
    told = f"{keeps} reaches {percent(student['accuracy'])}"
    if teacher is not None and teacher["accuracy"] is not None:
        told += f", its teacher {percent(teacher['accuracy'])}"
    if gain is None:
        return told + "."
    over = f" over {gain['seeds']} seeds" if gain["seeds"] > 1 else ""
    change = f"{points(abs(gain['mean']), sign=False)} points{over}"
    few = gain["seeds"] < _ENOUGH_SEEDS
    if gain["low"] > 0:
        words = f"{change} ahead of itself alone" if few else f"the teacher gained it {change}"
        return f"{told}; {words}."
    if gain["high"] < 0:
        words = f"{change} behind itself alone" if few else f"the teacher cost it {change}"
        return f"{told}; {words}."
    return f"{told}; the teacher was not shown to help."


def _gain(report: Mapping[str, Any]) -> list[str]:
    models, gain = report["models"], report["comparison"]["gain"]
    student, baseline = models["student"], models["baseline"]
    if student["collapsed"]:
        return [
            f"Nothing: the student collapsed ({student['collapsed']}). Look at the learning rate, "
            "the weight of the teacher's term and the temperature before anything else."
        ]
    if gain is None:
        return [
            "Whether the teacher helped is not known: the same student was not trained without it."
        ]
    runs = f"over {gain['seeds']} seeds" if gain["seeds"] > 1 else "with one seed"
    level = f"{100 * gain['level']:.0f} % interval {span(gain)}"
    change = f"{points(gain['mean'])} points against the same student trained without a teacher"
    few = gain["seeds"] < _ENOUGH_SEEDS
    if gain["low"] > 0:
        claim = "This student is ahead" if few else "Distillation helped"
        sentences = [f"{claim}: {change} ({level}, {runs})."]
    elif gain["high"] < 0:
        claim = "This student is behind" if few else "Distillation hurt"
        sentences = [f"{claim}: {change} ({level}, {runs}). Ship the student alone."]
    else:
        sentences = [
            f"Distillation was not shown to help: {change}; the {level} includes 0 ({runs})."
        ]
    if gain["seeds"] == 1:
        sentences.append(
            "The interval covers only which examples were tested, not the luck of training."
        )
    if few:
        sentences.append(
            f"Whether the teacher or luck made the difference takes {_ENOUGH_SEEDS} seeds or more."
        )
    if baseline is not None and baseline["collapsed"]:
        sentences.append(
            f"The student alone collapsed ({baseline['collapsed']}), so the gain says little: "
            "tune the baseline too."
        )
    return sentences


def _savings(models: Mapping[str, Any]) -> list[str]:
    teacher, student = models["teacher"], models["student"]
    if teacher is None:
        return []
    sentences = []
    smaller = teacher["parameters"] / max(student["parameters"], 1)
    if smaller > 1.05:
        sentences.append(
            f"{times(smaller)}× fewer parameters: {large(student['parameters'])} in place of "
            f"{large(teacher['parameters'])}, {size(student['bytes'])} in place of "
            f"{size(teacher['bytes'])}."
        )
    else:
        sentences.append(
            f"Not smaller: the student has {large(student['parameters'])} parameters, the teacher "
            f"{large(teacher['parameters'])}."
        )
    before, after = teacher["latency_ms"], student["latency_ms"]
    same = all(before[key] == after[key] for key in ("backend", "threads", "batch"))
    if same and after["p50"] and before["p50"] / after["p50"] > 1.05:
        sentences.append(
            f"{times(before['p50'] / after['p50'])}× faster: {milliseconds(after['p50'])} in place "
            f"of {milliseconds(before['p50'])} ({threads(after)})."
        )
    elif same and after["p50"]:
        sentences.append(
            f"Not faster: {milliseconds(after['p50'])}, the teacher {milliseconds(before['p50'])} "
            f"({threads(after)})."
        )
    return sentences


def _losses(report: Mapping[str, Any]) -> list[str]:
    comparison, models = report["comparison"], report["models"]
    change = comparison["accuracy_change"]
    if models["teacher"] is None:
        return [
            "What was lost is not known: there is no teacher here to compare with.",
            *_calibration(models),
        ]
    if change is None:
        return ["What was lost cannot be measured: some answers are NaN or infinite."]
    level = f"{100 * change['level']:.0f} % interval {span(change)}"
    if change["high"] < 0:
        lost = [
            f"It lost {points(-change['mean'], sign=False)} points of the teacher's accuracy "
            f"({level})."
        ]
    elif change["low"] > 0:
        lost = [f"No accuracy: the student is {points(change['mean'])} points better ({level})."]
    else:
        lost = [f"No accuracy that could be measured: {points(change['mean'])} points ({level})."]
    lost.append(
        f"{percent(comparison['negative_flip_rate'])} of the examples were right with the teacher "
        f"and are wrong now; {percent(comparison['positive_flip_rate'])} the other way round."
    )
    return [*lost, *_classes(comparison["per_class"]), *_calibration(models)]


def _classes(rows: list[dict[str, Any]]) -> list[str]:
    worse = sorted((r for r in rows if r["clear"] and r["delta"] < 0), key=lambda r: r["delta"])
    if not rows:
        return []
    if not worse:
        return ["No single class lost so much that chance can be ruled out."]
    named = [f"{r['class']} ({points(r['delta'])})" for r in worse[:_NAMED]]
    named += [f"{len(worse) - _NAMED} more"] if len(worse) > _NAMED else []
    which = "this class" if len(worse) == 1 else "these classes"
    return [f"It lost beyond doubt in {which}: {listing(named)}."]


def _calibration(models: Mapping[str, Any]) -> list[str]:
    teacher, student = models["teacher"], models["student"]
    if student["ece"] is None:
        return []
    if student["ece"] < 0.02:
        return [
            f"Its confidence can be trusted: off by {points(student['ece'], sign=False)} points."
        ]
    over = student["confidence"] > student["accuracy"]
    said = f"It is too {'sure' if over else 'unsure'} of itself: confidence and accuracy differ by "
    also = (
        f" (the teacher: {points(teacher['ece'], sign=False)})"
        if teacher is not None and teacher["ece"] is not None
        else ""
    )
    return [f"{said}{points(student['ece'], sign=False)} points on average{also}."]


def _shipping(report: Mapping[str, Any], failed: list[dict[str, Any]]) -> list[str]:
    student, gates = report["models"]["student"], report["gates"]
    sentences = []
    if student["collapsed"]:
        sentences.append("No: a collapsed model is of no use to anybody.")
    for gate in failed:
        sentences.append(_failed(gate))
    if gates and not failed and not student["collapsed"]:
        sentences.append(
            f"By your own conditions, yes: all {len(gates)} gates passed."
            if len(gates) > 1
            else "By your own condition, yes: the gate passed."
        )
    if not gates and not student["collapsed"]:
        sentences.append(
            "You decide: no gates are set. Name what you need (accuracy_drop, "
            "negative_flips, p99_ms, ...) and the student will be held to it."
        )
    return sentences


def _failed(gate: Mapping[str, Any]) -> str:
    evidence = gate.get("evidence", "")
    why = f" {evidence[0].upper()}{evidence[1:]}." if evidence else ""
    return (
        f"No: {gate['meaning']} is {gate_value(gate, 'value')}, and the gate "
        f"{gate['name']} asks for {gate['rule']} {gate_value(gate, 'threshold')}.{why}"
    )


def _provenance(report: Mapping[str, Any]) -> list[str]:
    data, seeds = report["data"], report["comparison"]["seeds"]
    opened = data["test_opened"]
    once = "was opened once, for this report" if opened == 1 else f"was opened {opened} times"
    listed = listing(list(data["chosen"])) if data["chosen"] else ""
    chosen = f"{listed[0].upper()}{listed[1:]} " if listed else ""
    plural = "were" if len(data["chosen"]) > 1 else "was"
    by = (
        f"{chosen}{plural} chosen on {data['validation']:,} validation examples. " if chosen else ""
    )
    sentences = [f"{by}The test split of {data['test']:,} examples {once}."]
    if opened != 1:
        sentences.append(
            "Figures on data that was looked at before are too good by an unknown amount."
        )
    if len(seeds) > 1:
        sentences.append(
            f"{len(seeds)} students were trained; the shipped one is seed {report['seed']}, named "
            "beforehand, not the best of them."
        )
    if data["labelled"] is not None and data["labelled"] < data["train"]:
        sentences.append(
            f"The student saw {data['train']:,} examples, {data['labelled']:,} of them with labels."
        )
    if data["teacher"]:
        sentences.append(f"{data['teacher'][0].upper()}{data['teacher'][1:].rstrip('.')}.")
    return sentences
