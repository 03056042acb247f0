"""``nist_ai_rmf.md``: which figure or file of a package answers which question of the framework.

The questions are those subcategories of the AI Risk Management Framework 1.0 (NIST AI 100-1,
January 2023, tables 1 to 4) that a package can say something to, or that a reader will look for,
in our own words. Their numbers were compared with two transcriptions of these tables, which agree.
"""

from collections.abc import Collection
from dataclasses import dataclass

from tutelage.deployment.manifest import REFERENCE
from tutelage.deployment.rmf_answers import (
    Answer,
    Report,
    accuracy,
    fixed,
    gained,
    gates,
    limits,
    measured,
    part,
    remain,
    sound,
    task,
    tools,
    use,
    verdict,
)
from tutelage.deployment.shipped import Shipped

SUBCATEGORIES = 72
"""How many the framework's core has: 19 of govern, 18 of map, 22 of measure, 13 of manage."""


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


def nist_ai_rmf(
    report: Report, *, signed: bool, ships: Shipped | None = None, files: Collection[str] = ()
) -> str:
    """The mapping, computed from a report: what is answered, by what, and what is not.

    Args:
        report: Figures, as in ``report.json``.
        signed: Whether the package carries a signature.
        ships: Which file is shipped; None where that is not told.
        files: Names of the model's files in the package.

    Returns:
        Markdown: a table for each of govern, map, measure and manage.

    Raises:
        KeyError: The report is not one of `tutelage.evaluation.validate_report`.
    """
    watched = REFERENCE in files
    questions = [*_govern(signed), *_map(), *_measure(watched), *_manage()]
    rows = [(each, each.answer(report)) for each in questions]
    answered = sum(answer is not None for _, answer in rows)
    head = (
        "# NIST AI RMF 1.0: what this package answers\n\n"
        f"Of {len(rows)} questions listed here (the framework has {SUBCATEGORIES} subcategories) "
        f"{answered} are answered by figures or files of this "
        f"package, {len(rows) - answered} are not. An answer is evidence, not a judgement that the "
        "risk is acceptable; all other subcategories are for the organisation that deploys it."
    )
    if ships is not None:
        head += f"\n\n{_plain(ships.words)}"
    parts = [head]
    for function in ("GOVERN", "MAP", "MEASURE", "MANAGE"):
        lines = [_line(each, told) for each, told in rows if each.number.startswith(function)]
        parts.append(f"## {function.capitalize()}\n\n| | Question | Answer |\n| --- | --- | --- |")
        parts[-1] += "\n" + "\n".join(lines)
    return "\n\n".join(parts) + "\n"


def _line(question: Question, answer: str | None) -> str:
    told = answer if answer is not None else f"**Not answered here.** {question.else_}"
    return f"| {question.number} | {question.asks} | {_plain(told)} |"


def _govern(signed: bool) -> list[Question]:
    nobody = fixed(None)
    return [
        Question("GOVERN 1.1", "Which laws bind this use?", nobody, "For whoever deploys it."),
        Question(
            "GOVERN 1.4",
            "By which controls were risks held to limits?",
            gates,
            "No gates were set: nobody said beforehand what must hold.",
        ),
        Question(
            "GOVERN 1.6",
            "By what does an inventory know this model?",
            fixed(
                "manifest.json: SHA-256 of every file, the run's identity and its data's "
                f"fingerprints; {'signed' if signed else '**unsigned**'}. The inventory itself is "
                "for whoever deploys it."
            ),
            "",
        ),
        Question("GOVERN 2.1", "Who is responsible?", nobody, "Name them in MODEL_CARD.md."),
        Question(
            "GOVERN 6.1",
            "Which policy governs what comes from others?",
            nobody,
            "For the organisation; what came from others is under MAP 4.1.",
        ),
    ]


def _map() -> list[Question]:
    nobody = fixed(None)
    return [
        Question("MAP 1.1", "What is it for, and for whom?", use, "MODEL_CARD.md says no more."),
        Question(
            "MAP 1.5", "Which losses are acceptable?", limits, "No gates were set in the recipe."
        ),
        Question("MAP 2.1", "Which task, by which method?", task, ""),
        Question(
            "MAP 2.2",
            "What does it not know?",
            part("ood", "what it does with inputs it was never meant for"),
            "Other data were not tried (part `ood`); MODEL_CARD.md lists its weakest classes. How "
            "people oversee its answers is for whoever deploys it.",
        ),
        Question("MAP 2.3", "Was the experiment sound?", sound, ""),
        Question("MAP 3.1", "What is gained by it?", gained, "Nothing was found to be gained."),
        Question(
            "MAP 4.1",
            "Which parts are of others, under which licences?",
            fixed(
                "sbom.json, as each part's metadata states it; teacher and data: MODEL_CARD.md, "
                "Licences."
            ),
            "",
        ),
        Question("MAP 5.1", "Whom can it harm, how likely?", nobody, "Depends on the use."),
    ]


def _measure(watched: bool) -> list[Question]:
    return [*_soundness(watched), *_trust()]


def _soundness(watched: bool) -> list[Question]:
    nobody = fixed(None)
    ready = "reference.safetensors holds how validation examples were answered, to compare with. "
    return [
        Question("MEASURE 1.1", "What was measured, and what not?", measured, ""),
        Question(
            "MEASURE 1.3", "Did somebody independent assess it?", nobody, "Made by its own run."
        ),
        Question("MEASURE 2.1", "On which data, with which tools?", tools, ""),
        Question("MEASURE 2.3", "How well does it perform?", accuracy, "It broke: see notes."),
        Question(
            "MEASURE 2.4",
            "Is it watched in production?",
            nobody,
            f"{ready if watched else ''}Watching is for whoever serves it.",
        ),
        Question(
            "MEASURE 2.5",
            "How reliable beyond the test data?",
            part("corruption", "accuracy on corrupted inputs"),
            "Corrupted inputs were not tried (part `corruption`).",
        ),
        Question("MEASURE 2.6", "Is it safe where it fails?", nobody, "Depends on the use."),
    ]


def _trust() -> list[Question]:
    nobody = fixed(None)
    return [
        Question(
            "MEASURE 2.7",
            "How does it stand up to attackers?",
            part("attacks", "attacks on inputs", "backdoor", "poisoning"),
            "No attack was tried (parts `attacks`, `backdoor`, `poisoning`).",
        ),
        Question(
            "MEASURE 2.8",
            "Can it be seen how it was made, and by whom?",
            fixed(
                "How: report.json, recipe and command; MODEL_CARD.md, To make it again. By whom: "
                "the signature, where there is one, and what MODEL_CARD.md says."
            ),
            "",
        ),
        Question(
            "MEASURE 2.9",
            "Can its answers be explained?",
            part("explanations", "whether it looks where its teacher looks"),
            "Not looked into (part `explanations`).",
        ),
        Question(
            "MEASURE 2.10",
            "Does it tell who was in its training data?",
            part("membership", "attacks on membership"),
            "Not looked into (part `membership`).",
        ),
        Question(
            "MEASURE 2.11",
            "Is it as good for everybody?",
            part("fairness", "groups compared", "slices"),
            "No groups were compared (parts `fairness`, `slices`); report.json, "
            "comparison.per_class has classes alone.",
        ),
        Question(
            "MEASURE 2.12",
            "What does training it cost the environment?",
            nobody,
            "Neither energy nor emissions were measured; report.json, notes, has the hours that "
            "training took.",
        ),
    ]


def _manage() -> list[Question]:
    nobody = fixed(None)
    return [
        Question("MANAGE 1.1", "Does it reach its purpose?", verdict, ""),
        Question("MANAGE 1.4", "Which risks remain?", remain, ""),
        Question("MANAGE 2.4", "How is it switched off?", nobody, "For whoever serves it."),
        Question("MANAGE 3.2", "Is the teacher watched too?", nobody, "It is not in this package."),
        Question("MANAGE 4.1", "What happens after deployment?", nobody, "Plan it: see above."),
        Question("MANAGE 4.3", "How are incidents told?", nobody, "For whoever deploys it."),
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
