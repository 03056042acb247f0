"""``nist_ai_rmf.md``: which figure or file of a package answers which question of the framework.

The questions are those of the AI Risk Management Framework 1.0 (NIST AI 100-1, January 2023) that a
package can say something to, or that a reader will look for, in our own words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.evaluation.examining import full
from tutelage.evaluation.wording import gate_value

Report = Mapping[str, Any]
Answer = Callable[[Report], str | None]


@dataclass(frozen=True)
class Question:
    """One line of the mapping.

    Attributes:
        number: Of the framework's subcategory: ``MEASURE 2.7``.
        asks: In our words.
        answer: What the report has to say, or None.
        else_: Who or what must answer where the report has nothing.
    """

    number: str
    asks: str
    answer: Answer
    else_: str


def nist_ai_rmf(report: Report, *, signed: bool) -> str:
    """The mapping, computed from a report: what is answered, by what, and what is not.

    Args:
        report: Figures, as in ``report.json``.
        signed: Whether the package carries a signature.

    Returns:
        Markdown: a table for each of govern, map, measure and manage.

    Raises:
        KeyError: The report is not one of `tutelage.evaluation.validate_report`.
    """
    rows = [(each, each.answer(report)) for each in _questions(signed)]
    answered = sum(answer is not None for _, answer in rows)
    head = (
        "# NIST AI RMF 1.0: what this package answers\n\n"
        f"Of {len(rows)} questions listed here {answered} are answered by figures or files of this "
        f"package, {len(rows) - answered} are not. An answer is evidence, not a judgement that the "
        "risk is acceptable; the framework has more questions, which are for the organisation that "
        "deploys the model."
    )
    parts = [head]
    for function in ("GOVERN", "MAP", "MEASURE", "MANAGE"):
        lines = [_line(each, told) for each, told in rows if each.number.startswith(function)]
        parts.append(f"## {function.capitalize()}\n\n| | Question | Answer |\n| --- | --- | --- |")
        parts[-1] += "\n" + "\n".join(lines)
    return "\n\n".join(parts) + "\n"


def _line(question: Question, answer: str | None) -> str:
    told = answer if answer is not None else f"**Not answered here.** {question.else_}"
    return f"| {question.number} | {question.asks} | {_plain(told)} |"


def _questions(signed: bool) -> list[Question]:
    nobody = _fixed(None)
    return [
        Question("GOVERN 1.1", "Which laws bind this use?", nobody, "For whoever deploys it."),
        Question(
            "GOVERN 1.4",
            "By what process were risks held to limits?",
            _gates,
            "No gates were set: nobody said beforehand what must hold.",
        ),
        Question(
            "GOVERN 1.6",
            "How is the model told from others?",
            _fixed(
                "manifest.json: SHA-256 of every file, the run's identity and its data's "
                f"fingerprints; {'signed' if signed else '**unsigned**'}."
            ),
            "",
        ),
        Question("GOVERN 2.1", "Who is responsible?", nobody, "Name them in MODEL_CARD.md."),
        Question(
            "GOVERN 6.1",
            "Which parts are of others, under which licences?",
            _fixed("sbom.json, as each part's metadata states it; MODEL_CARD.md, Licences."),
            "",
        ),
        Question("MAP 1.1", "What is it for, and for whom?", _use, "MODEL_CARD.md says no more."),
        Question(
            "MAP 1.5", "Which losses are acceptable?", _limits, "No gates were set in the recipe."
        ),
        Question("MAP 2.1", "Which task, by which method?", _task, ""),
        Question(
            "MAP 2.2",
            "What does it not know?",
            _part("ood", "what it does with inputs it was never meant for"),
            "Other data were not tried (part `ood`); MODEL_CARD.md lists its weakest classes.",
        ),
        Question("MAP 2.3", "Was the experiment sound?", _sound, ""),
        Question("MAP 5.1", "Whom can it harm, how likely?", nobody, "Depends on the use."),
        Question("MEASURE 1.1", "What was measured, and what not?", _measured, ""),
        Question(
            "MEASURE 1.3", "Did somebody independent assess it?", nobody, "Made by its own run."
        ),
        Question("MEASURE 2.1", "On which data, with which tools?", _tools, ""),
        Question("MEASURE 2.3", "How well does it perform?", _accuracy, "It broke: see notes."),
        Question(
            "MEASURE 2.4", "Is it watched in production?", nobody, "A package cannot: watch it."
        ),
        Question(
            "MEASURE 2.5",
            "How reliable beyond the test data?",
            _part("corruption", "accuracy on corrupted inputs"),
            "Corrupted inputs were not tried (part `corruption`).",
        ),
        Question("MEASURE 2.6", "Is it safe where it fails?", nobody, "Depends on the use."),
        Question(
            "MEASURE 2.7",
            "How does it stand up to attackers?",
            _part("attacks", "attacks on inputs", "backdoor", "poisoning"),
            "No attack was tried (parts `attacks`, `backdoor`, `poisoning`).",
        ),
        Question(
            "MEASURE 2.9",
            "Can its answers be explained?",
            _part("explanations", "whether it looks where its teacher looks"),
            "Not looked into (part `explanations`).",
        ),
        Question(
            "MEASURE 2.10",
            "Does it tell who was in its training data?",
            _part("membership", "attacks on membership"),
            "Not looked into (part `membership`).",
        ),
        Question(
            "MEASURE 2.11",
            "Is it as good for everybody?",
            _part("fairness", "groups compared", "slices"),
            "No groups were compared (parts `fairness`, `slices`); report.json, "
            "comparison.per_class has classes alone.",
        ),
        Question("MEASURE 2.12", "What does it cost to run?", _cost, ""),
        Question("MANAGE 1.1", "Does it reach its purpose?", _verdict, ""),
        Question("MANAGE 1.4", "Which risks remain?", _remain, ""),
        Question("MANAGE 2.4", "How is it switched off?", nobody, "For whoever serves it."),
        Question("MANAGE 3.2", "Is the teacher watched too?", nobody, "It is not in this package."),
        Question("MANAGE 4.1", "What happens after deployment?", nobody, "Plan it: see above."),
        Question("MANAGE 4.3", "How are incidents told?", nobody, "For whoever deploys it."),
    ]


def _fixed(text: str | None) -> Answer:
    return lambda report: text


def _part(name: str, what: str, *more: str) -> Answer:
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


def _gates(report: Report) -> str | None:
    gates = report["gates"]
    if not gates:
        return None
    passed = sum(gate["passed"] for gate in gates)
    return f"{passed} of {len(gates)} gates passed (report.json, gates)."


def _limits(report: Report) -> str | None:
    told = [
        f"{gate['name']} {gate['rule']} {gate_value(gate, 'threshold')}" for gate in report["gates"]
    ]
    return f"{'; '.join(told)} (report.json, gates)." if told else None


def _use(report: Report) -> str:
    return (
        f"Telling {len(report['data']['classes'])} classes of {report['data']['name']} apart "
        "(MODEL_CARD.md, Intended use; whether it says for whom, its author knows)."
    )


def _task(report: Report) -> str:
    teacher = report["models"]["teacher"]
    by = (
        "without a teacher"
        if teacher is None
        else f"distilled from {teacher['name'] or 'a teacher'}"
    )
    return f"Classification; {by} (MODEL_CARD.md, Training; report.json, recipe)."


def _sound(report: Report) -> str:
    data, seeds = report["data"], report["comparison"]["seeds"]
    alone = "beside" if report["models"]["baseline"] else "**without**"
    chosen = ", ".join(data.get("chosen", ())) or "nothing"
    return (
        f"{len(seeds)} seed(s), {alone} a student trained alone; chosen on validation: {chosen}; "
        f"the test split was opened {data['test_opened']} time(s) (report.json, data)."
    )


def _measured(report: Report) -> str:
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


def _tools(report: Report) -> str:
    data = report["data"]
    versions = report["environment"].get("versions", {})
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{data['test']:,} test examples of {data['name']} (DATA_CARD.md); {made}."


def _accuracy(report: Report) -> str | None:
    student = report["models"]["student"]
    if student["accuracy"] is None:
        return None
    ends = student["accuracy_interval"]
    return (
        f"{student['accuracy']:.1%} right ({ends['level']:.0%} interval {ends['low']:.1%} to "
        f"{ends['high']:.1%}), calibration error {student['ece']:.1%} (report.json, "
        "models.student)."
    )


def _cost(report: Report) -> str:
    student = report["models"]["student"]
    took = student["latency_ms"]
    return (
        f"{took['p50']:.3g} ms an answer ({took['backend']}, {took['threads']} thread(s)), "
        f"{student['parameters']:,} parameters (report.json, models.student). Energy was not "
        "measured."
    )


def _verdict(report: Report) -> str:
    return f"{report['verdict']['headline']} (report.json, verdict)"


def _remain(report: Report) -> str:
    lost = report["verdict"]["lost"]
    return (
        f"{' '.join(lost) or 'None was found.'} (MODEL_CARD.md, Limits that the evaluation found)"
    )


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
