"""Out of distribution: does the student notice what it was never meant for, as its teacher does?"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from tutelage.core.errors import DataError, RecipeError, suggest
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.data.sets import Examples
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.ood.asking import NEIGHBOUR, OF_LOGITS, Watch, inputs_of, own_sets, some
from tutelage.evaluation.ood.scores import neighbours_for
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.security_plots import dots
from tutelage.evaluation.separation import auroc_difference, auroc_interval, false_positive_rate
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import NAMES, listing, percent

Scores = Mapping[str, Mapping[str, Tensor]]
"""By role, by score."""


@register("part", "ood")
class OutOfDistribution(AbstractPart):
    """Confidence, energy, largest logit and nearest neighbour as alarms for strange examples.

    Outside are uniform noise, noise of the data's own mean and deviation, real examples with
    their pieces in the wrong places, and the run's outside sets.

    Args:
        score: What sentences, comparisons and the gate rest on: ``confidence``, ``energy``,
            ``max logit``. It is fixed beforehand: the best on the outside sets would flatter.
        most: Examples of each set that are looked at.
        bank: Training examples that the nearest neighbour is looked for among; which neighbour
            follows from this number alone.
    """

    title = "What it was never meant for"
    gates: ClassVar[Mapping[str, Gate]] = {
        "outside_auroc": Gate(
            "AUROC of telling outside examples from real ones, at worst",
            False,
            in_part("ood", "worst", "auroc"),
        )
    }

    def __init__(self, score: str = "confidence", most: int = 600, bank: int = 600):
        if score not in OF_LOGITS:
            raise RecipeError(f"score: got {score!r}. {suggest(score, OF_LOGITS)}")
        for key, value in (("most", most), ("bank", bank)):
            if value < 2:
                raise RecipeError(f"{key}: got {value}: at least 2 examples are needed.")
        self.score, self.most, self.bank = score, most, bank

    def absent(self, subjects: Subjects) -> str | None:
        """Noise can be made of numbers only."""
        try:
            inputs_of(subjects.test.take(subjects.test.ids.new_zeros(1)))
        except DataError:
            return "the examples are no images or tables of numbers, of which noise could be made"
        return None if len(subjects.test) > 1 else "there is one test example alone"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """AUROC and FPR95 of every model, set and score; the student against the others."""
        seed = derive(subjects.seed, "ood")
        inside = some(subjects.test, self.most, seed)
        like = some(subjects.validation or subjects.test, self.most, seed)
        sets, refused = _sets(own_sets(like, seed), subjects, self.most, seed)
        bank = None if subjects.train is None else some(subjects.train, self.bank, seed)
        watches = {role: Watch(subjects, role, bank) for role in subjects.roles}
        known = {role: watch.scores(inside) for role, watch in watches.items()}
        found, questions = {}, len(sets) * len(subjects.roles)
        for name, examples in sets.items():
            strange = {role: watch.scores(examples) for role, watch in watches.items()}
            strict = 1 - (1 - subjects.level) / questions
            found[name] = {
                "examples": len(examples),
                "models": {
                    role: _rates(known[role], strange[role], subjects.level) for role in known
                },
                "surer_outside": self._surer(known, strange, strict),
                "student_minus": {
                    role: self._difference(known, strange, role, strict)
                    for role in known
                    if role != "student"
                },
            }
        near = None if bank is None else {"k": neighbours_for(len(bank)), "of": len(bank)}
        worst = min(found, key=lambda name: self._auroc(found[name])["mean"])
        return {
            "score": self.score,
            "inside": len(inside),
            "sets": found,
            "refused": refused,
            "comparisons": questions,
            "neighbour": near,
            "worst": {"set": worst, "auroc": self._auroc(found[worst])},
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Where it is surer of strangers, and where it sees less than the others."""
        sets = figures["sets"]
        surer = [_surer_sentence(name, one) for name, one in sets.items() if one["surer_outside"]]
        lost = [one for one in (_lost(name, sets[name], figures) for name in sets) if one]
        lost.sort(key=lambda finding: finding.status != "warning")
        return [*surer, *lost, _summary(figures)]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """The figures of the fixed score as a picture, those of all as a table."""
        score = figures["score"]
        shown = {
            name: {role: scores[score]["auroc"] for role, scores in one["models"].items()}
            for name, one in figures["sets"].items()
        }
        return [
            Words(_ABOUT.format(score=score)),
            Picture(
                dots(shown, "ood", "AUROC, %", chance=0.5),
                "How well each model's "
                f"{score} tells outside examples from {figures['inside']:,} real test "
                "examples: right is better, and at the dashed line it is a coin's toss.",
            ),
            _table(figures),
            *(Words(f"{name} was left out: {why}") for name, why in figures["refused"].items()),
        ]

    def _auroc(self, one: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = one["models"]["student"][self.score]["auroc"]
        return found

    def _surer(self, known: Scores, strange: Scores, level: float) -> bool:
        """Whether the student is surer of strangers, beyond doubt, by its confidence."""
        ours = known["student"]["confidence"], strange["student"]["confidence"]
        return auroc_interval(*ours, level=level).high < 0.5

    def _difference(
        self, known: Scores, strange: Scores, role: str, level: float
    ) -> dict[str, float | str]:
        ours, theirs = (
            (known[who][self.score], strange[who][self.score]) for who in ("student", role)
        )
        return auroc_difference(ours, theirs, level=level).as_dict()


_USEFUL = 0.8
"""AUROC from which a score is of use on all sets; below, one should know of it."""
_ABOUT = (
    "A model should be less sure of what it was never meant for. Each score is meant to be high "
    "on real examples; AUROC is how often, of one real and one outside example, the real one has "
    "the higher score (50 % is chance), and FPR95 is the share of outside examples that would "
    "pass a threshold that 95 % of the real ones pass. Sentences rest on the {score} alone, which "
    "was fixed beforehand. Whoever passes these sets may still fail on others."
)


def _sets(
    own: Mapping[str, Examples], subjects: Subjects, most: int, seed: int
) -> tuple[dict[str, Examples], dict[str, str]]:
    """All outside sets that the models can read, and why not of the others."""
    found, refused = dict(own), {}
    for name, examples in subjects.outside.items():
        if examples.example_shape != subjects.test.example_shape:
            refused[name] = (
                f"its examples have the shape {examples.example_shape}, and the models read "
                f"{subjects.test.example_shape}."
            )
        elif len(examples) < 2:
            refused[name] = "it has one example alone."
        else:
            found[name] = some(examples, most, seed)
    return found, refused


def _rates(
    known: Mapping[str, Tensor], strange: Mapping[str, Tensor], level: float
) -> dict[str, Any]:
    found = {}
    for score, values in known.items():
        passed = false_positive_rate(values, strange[score])
        many = len(strange[score])
        found[score] = {
            "auroc": auroc_interval(values, strange[score], level=level).as_dict(),
            "fpr95": wilson(round(passed * many), many, level=level).as_dict(),
        }
    return found


def _surer_sentence(name: str, one: Mapping[str, Any]) -> Finding:
    share = 1 - one["models"]["student"]["confidence"]["auroc"]["mean"]
    return Finding(
        "warning",
        f"Shown {name}, the student is more sure than on real examples: in {percent(share)} of "
        "pairs it trusts its answer to the outside example more. Its confidence is no guard here.",
    )


def _lost(name: str, one: Mapping[str, Any], figures: Mapping[str, Any]) -> Finding | None:
    """The student against the baseline and the teacher on one set."""
    versus, score = one["student_minus"], figures["score"]
    others = [role for role in ("baseline", "teacher") if role in versus]
    worse = [role for role in others if versus[role]["high"] < 0]
    if not worse:
        return None
    reached = {role: one["models"][role][score]["auroc"]["mean"] for role in (*worse, "student")}
    than = listing([f"the {NAMES[role]} ({percent(reached[role])})" for role in worse])
    told = (
        f"The student tells {name} from real examples less well than {than}: AUROC "
        f"{percent(reached['student'])} by {score}"
    )
    # The interval covers the examples; the luck of one training each it does not.
    if len(worse) == len(others) and "baseline" in worse:
        text = f"{told}: distillation may have cost it some of its sense for outsiders"
        return Finding("warning", f"{text} (of one training each; others may differ).")
    rest = [f"the {NAMES[role]}" for role in others if role not in worse]
    alone = f", and is not shown to be worse than {listing(rest)}" if rest else ""
    return Finding("notice", f"{told}{alone} (of one training each; others may differ).")


def _summary(figures: Mapping[str, Any]) -> Finding:
    sets, score = figures["sets"], figures["score"]
    reached = {name: one["models"]["student"][score]["auroc"]["mean"] for name, one in sets.items()}
    best, worst = max(reached, key=lambda n: reached[n]), figures["worst"]
    text = (
        f"Of one real and one outside example, the student's {score} picks the real one in "
        f"{percent(worst['auroc']['mean'])} ({worst['set']}) to {percent(reached[best])} ({best}) "
        "of cases."
    )
    return Finding("fine" if worst["auroc"]["low"] > _USEFUL else "notice", text)


def _table(figures: Mapping[str, Any]) -> Table:
    rows = []
    for name, one in figures["sets"].items():
        for role, scores in one["models"].items():
            cells = [_cell(scores.get(score)) for score in (*OF_LOGITS, NEIGHBOUR)]
            rows.append((name, NAMES[role], *cells))
    near = figures["neighbour"]
    which = "" if near is None else f"; neighbour {near['k']} of {near['of']:,} training examples"
    head = ("outside set", "model", *OF_LOGITS, NEIGHBOUR)
    return Table(head, tuple(rows), f"AUROC / FPR95 by every score{which}", folded=True)


def _cell(rates: Mapping[str, Any] | None) -> str:
    if rates is None:
        return "not seen"
    return f"{percent(rates['auroc']['mean'])} / {percent(rates['fpr95']['mean'])}"
