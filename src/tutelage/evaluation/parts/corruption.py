"""Robustness to bad images: noise, blur, fog, JPEG and the like, at several severities."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.core.outputs import dense
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.predict import evaluating
from tutelage.evaluation.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from tutelage.evaluation.robustness.degradation import against, kept
from tutelage.evaluation.robustness.plots import corruption_bars
from tutelage.evaluation.robustness.telling import said, taught, versus
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.whitebox import device_of, some
from tutelage.evaluation.wording import NAMES, listing, percent


@register("part", "corruption")
class Corruption(AbstractPart):
    """Accuracy on corrupted test images, of every model on the same ones.

    Args:
        examples: Most test images used (drawn by id).
        severities: Which of 1 to 5.
        kinds: Which corruptions; none named: all.
        tolerated: Share of the accuracy that the student may lose beyond its teacher before this
            is a warning.
    """

    title = "Bad images"
    gates: ClassVar[Mapping[str, Gate]] = {
        "corrupted_accuracy": Gate(
            "the student's mean accuracy on corrupted images",
            False,
            in_part("corruption", "models", "student", "corrupted"),
            "%",
        ),
        "corruption_drop": Gate(
            "accuracy lost to corruption, beyond what the teacher loses",
            True,
            in_part("corruption", "against", "teacher", "loss"),
            "points",
        ),
    }

    def __init__(
        self,
        examples: int = 200,
        severities: Sequence[int] = (1, 3, 5),
        kinds: Sequence[str] = (),
        tolerated: float = 0.05,
    ):
        self.kinds = tuple(kinds) or tuple(CORRUPTIONS)
        for kind in self.kinds:
            if kind not in CORRUPTIONS:
                raise RecipeError(f"there is no corruption {kind!r}. {suggest(kind, CORRUPTIONS)}")
        if not severities or not set(severities) <= set(SEVERITIES):
            raise RecipeError(f"severities are {list(severities)}: give some of 1 to 5.")
        if examples < 1 or not 0 <= tolerated <= 1:
            raise RecipeError(
                f"examples is {examples} and tolerated {tolerated}: give at least 1, and a share "
                "in [0, 1]."
            )
        self.most, self.severities = examples, tuple(sorted(set(severities)))
        self.tolerated = tolerated

    def absent(self, subjects: Subjects) -> str | None:
        """There must be images."""
        return None if subjects.images else "the examples are no images"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Accuracy by model, kind and severity; what the student lost beyond the others."""
        rows = some(subjects.test, self.most, derive(subjects.seed, "corruption"))
        batch = subjects.test.batch(rows)
        assert batch.targets is not None, "`some` takes labelled rows alone"
        assert isinstance(batch.inputs, Tensor), "images were asked for"
        assert batch.ids is not None, "every set gives ids"
        images = {kind: self._versions(batch, kind, subjects.seed) for kind in self.kinds}
        clean, after = {}, {}
        for role in subjects.roles:
            model = subjects.models[role]
            clean[role] = _right(model, batch.inputs, batch)
            after[role] = torch.stack(  # (kinds, severities, N)
                [torch.stack([_right(model, one, batch) for one in images[k]]) for k in self.kinds]
            )
        others = [role for role in ("teacher", "baseline") if role in clean]
        return {
            "examples": len(rows),
            "of": len(subjects.test),
            "kinds": list(self.kinds),
            "severities": list(self.severities),
            "tolerated": self.tolerated,
            "models": {
                role: _model(clean[role], after[role], self.kinds, subjects.level) for role in clean
            },
            "against": {
                role: against(
                    (clean["student"], after["student"]),
                    (clean[role], after[role]),
                    self.kinds,
                    seed=derive(subjects.seed, "corruption", role),
                    level=subjects.level,
                )
                for role in others
            },
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """What corruption costs the student, and whether that is more than it costs the others."""
        told = []
        teacher, alone = (figures["against"].get(role) for role in ("teacher", "baseline"))
        student = figures["models"]["student"]
        if teacher:
            told.append(versus(teacher, figures["tolerated"]))
        if alone:
            told.append(taught(alone))
        worst = min(figures["kinds"], key=lambda kind: sum(student["kinds"][kind]))
        told.append(
            Finding(
                "notice",
                f"On corrupted images (mean of {len(figures['kinds'])} kinds) the student is "
                f"right in {percent(student['corrupted'])}, on the same images unspoilt in "
                f"{percent(student['clean']['mean'])}; the worst for it is {said(worst)}, with "
                f"{percent(_mean(student['kinds'][worst]))}.",
            )
        )
        return sorted(told, key=lambda one: one.status != "warning")

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """How it was done, a picture, and all accuracies."""
        models, kinds = figures["models"], figures["kinds"]
        roles = list(models)
        means = {r: [_mean(models[r]["kinds"][kind]) for kind in kinds] for r in roles}
        clean = {role: models[role]["clean"]["mean"] for role in roles}
        severities = listing([str(one) for one in figures["severities"]])
        return [
            Words(
                f"The same {figures['examples']:,} of {figures['of']:,} test images, spoilt in "
                f"{len(kinds)} ways at severities {severities} of 5, were shown to every model. "
                "Kinds and severities are this project's own: compare models of this report, not "
                "published figures. Intervals cover the luck of the examples, not that of training."
            ),
            Picture(
                corruption_bars([said(kind) for kind in kinds], means, clean),
                "Accuracy of each model under each kind of corruption, mean over severities",
            ),
            _summary(figures),
            _whole(figures),
        ]

    def _versions(self, batch: Batch, kind: str, seed: int) -> list[Tensor]:
        assert isinstance(batch.inputs, Tensor), "images were asked for"
        assert batch.ids is not None, "every set gives ids"
        dice = derive(seed, "corruption")
        return [corrupt(batch.inputs, batch.ids, kind, s, seed=dice) for s in self.severities]


def _right(model: Any, images: Tensor, batch: Batch) -> Tensor:
    """Who is answered rightly, ``(N,)`` of bool; asked as every model can be, without a graph."""
    device = device_of(model) if isinstance(model, torch.nn.Module) else torch.device("cpu")
    with evaluating(model), torch.no_grad():
        answer = dense(model(Batch(images, ids=batch.ids).to(device)), "an evaluation")
    assert batch.targets is not None, "labelled rows alone were drawn"
    return answer.cpu().argmax(-1) == batch.targets


def _model(clean: Tensor, after: Tensor, kinds: Sequence[str], level: float) -> dict[str, Any]:
    """One model's accuracies; ``after`` is ``(kinds, severities, N)`` of bool."""
    shares = after.double().mean(-1).tolist()
    return {
        "clean": wilson(int(clean.sum()), len(clean), level=level).as_dict(),
        "corrupted": after.double().mean().item(),
        "kept": kept(clean, after),
        "kinds": dict(zip(kinds, shares, strict=True)),
    }


def _summary(figures: Mapping[str, Any]) -> Table:
    models, against = figures["models"], figures["against"]

    def ratios(key: str) -> list[str]:
        return [_ratio(against[role][key]) if role in against else "" for role in models]

    rows = [
        ("Clean", *(percent(m["clean"]["mean"]) for m in models.values())),
        ("its interval, %", *(_ends(m["clean"]) for m in models.values())),
        ("Corrupted, mean of all", *(percent(m["corrupted"]) for m in models.values())),
        ("Share of the clean accuracy kept", *(percent(m["kept"]) for m in models.values())),
        ("Student's errors over this model's", *ratios("error")),
        ("Errors added to the student's over those added here", *ratios("relative_error")),
    ]
    heads = (NAMES[role].capitalize() for role in models)
    return Table(("Accuracy", *heads), tuple(rows), "What corruption costs")


def _whole(figures: Mapping[str, Any]) -> Table:
    models, severities = figures["models"], figures["severities"]
    heads = [f"{NAMES[role].capitalize()}, {s}" for role in models for s in severities]
    rows = [
        (said(kind), *(percent(share) for m in models.values() for share in m["kinds"][kind]))
        for kind in figures["kinds"]
    ]
    return Table(("Kind", *heads), tuple(rows), "Accuracy by kind and severity", folded=True)


def _ends(interval: Mapping[str, Any]) -> str:
    return f"{100 * interval['low']:.0f} to {100 * interval['high']:.0f}"


def _ratio(value: float | None) -> str:
    return "no ratio" if value is None else f"{value:.2f}"


def _mean(shares: Sequence[float]) -> float:
    return sum(shares) / len(shares)
