"""What a run's report has to say to questions of the NIST AI RMF: figures, and where they stand."""

from collections.abc import Callable, Mapping
from typing import Any

from tutelage.evaluation.examining import full
from tutelage.evaluation.wording import gate_value

Report = Mapping[str, Any]
Answer = Callable[[Report], str | None]


def fixed(text: str | None) -> Answer:
    """The same whatever the report says; None for what no package can answer."""
    return lambda report: text


def part(name: str, what: str, *more: str) -> Answer:
    """What parts of the proof found: their first sentence each; None where none was asked."""

    def told(report: Report) -> str | None:
        found = []
        for each in (name, *more):
            part = report.get("parts", {}).get(each)
            if part is not None and not part["left_out"] and part["findings"]:
                worst = part["findings"][0]
                found.append(f"{worst['text']} (report.json, parts.{each})")
        return " ".join([f"{what[0].upper()}{what[1:]}:", *found]) if found else None

    return told


def gates(report: Report) -> str | None:
    """How many gates passed; None where none were set."""
    gates = report["gates"]
    if not gates:
        return None
    passed = sum(gate["passed"] for gate in gates)
    return f"{passed} of {len(gates)} gates passed (report.json, gates)."


def limits(report: Report) -> str | None:
    """What the gates allow; None where none were set."""
    told = [
        f"{gate['name']} {gate['rule']} {gate_value(gate, 'threshold')}" for gate in report["gates"]
    ]
    return f"{'; '.join(told)} (report.json, gates)." if told else None


def use(report: Report) -> str:
    """What the model tells apart."""
    return (
        f"Telling {len(report['data']['classes'])} classes of {report['data']['name']} apart "
        "(MODEL_CARD.md, Intended use; whether it says for whom, its author knows)."
    )


def task(report: Report) -> str:
    """The task, and the method by which it was taught."""
    teacher = report["models"]["teacher"]
    by = (
        "without a teacher"
        if teacher is None
        else f"distilled from {teacher['name'] or 'a teacher'}"
    )
    return f"Classification; {by} (MODEL_CARD.md, Training; report.json, recipe)."


def sound(report: Report) -> str:
    """Seeds, controls, what was chosen on which split."""
    data, seeds = report["data"], report["comparison"]["seeds"]
    alone = "beside" if report["models"]["baseline"] else "**without**"
    chosen = ", ".join(data.get("chosen", ())) or "nothing"
    return (
        f"{len(seeds)} seed(s), {alone} a student trained alone; chosen on validation: {chosen}; "
        f"the test split was opened {data['test_opened']} time(s) (report.json, data)."
    )


def measured(report: Report) -> str:
    """Which parts of the proof were asked for, and which not."""
    parts = report.get("parts", {})
    done = [name for name, part in parts.items() if not part["left_out"]]
    out = [
        f"{name} ({part['left_out'].rstrip('.')})"
        for name, part in parts.items()
        if part["left_out"]
    ]
    never = sorted(set(full()) - set(parts))
    told = f"Parts of the proof: {', '.join(done) or 'none beyond accuracy and cost'}"
    told += f"; not asked: {', '.join(never)}" if never else ""
    return f"{told}{f'; asked for and left out: {chr(44).join(out)}' if out else ''}."


def tools(report: Report) -> str:
    """Data and versions of what measured."""
    data = report["data"]
    versions = report["environment"].get("versions", {})
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{data['test']:,} test examples of {data['name']} (DATA_CARD.md); {made}."


def accuracy(report: Report) -> str | None:
    """How often it is right, how sure, how fast; None where it broke."""
    student = report["models"]["student"]
    if student["accuracy"] is None:
        return None
    ends, took = student["accuracy_interval"], student["latency_ms"]
    return (
        f"{student['accuracy']:.1%} right ({ends['level']:.0%} interval {ends['low']:.1%} to "
        f"{ends['high']:.1%}), calibration error {student['ece']:.1%}; "
        f"{took['p50']:.3g} ms an answer ({took['backend']}, {took['threads']} thread(s), on the "
        "machine of the run) (report.json, models.student)."
    )


def gained(report: Report) -> str | None:
    """What the verdict says was gained; None for nothing."""
    gained = report["verdict"]["gained"]
    return f"{' '.join(gained)} (report.json, verdict)" if gained else None


def verdict(report: Report) -> str:
    """The verdict's headline."""
    return f"{report['verdict']['headline']} (report.json, verdict)"


def remain(report: Report) -> str:
    """What the verdict says was lost."""
    lost = report["verdict"]["lost"]
    return (
        f"{' '.join(lost) or 'None was found.'} (MODEL_CARD.md, Limits that the evaluation found)"
    )
