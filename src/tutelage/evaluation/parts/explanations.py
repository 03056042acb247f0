"""Where the models look, whether the student looks where its teacher does, and at what mark."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.evaluation.explain.looking import (
    SIDE,
    Asked,
    Looked,
    alike,
    drawn_anew,
    integrated_of,
    look,
    nearer,
    place_of,
    spots,
    worth,
)
from tutelage.evaluation.explain.maps import rank_correlation
from tutelage.evaluation.explain.plots import as_png, as_veil, deletion_curves, where_they_look
from tutelage.evaluation.explain.randomised import unlearned
from tutelage.evaluation.explain.telling import faithful, likeness, no_spot, spot
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.whitebox import some
from tutelage.evaluation.wording import NAMES, ROLES, listing, percent, points
from tutelage.models.observed import Observed

_METHODS = {
    "grad_cam": "Grad-CAM on the last convolutional map",
    "rollout": "attention rollout",
    "integrated": "integrated gradients",
}


@register("part", "explanations")
class Explanations(AbstractPart):
    """Maps of importance for the true class, of every model on the same test images.

    Args:
        examples: Most test images used (drawn by id).
        pictures: How many of them are shown.
        integrated: Most images for integrated gradients; 0 leaves them out.
        tolerated: What hiding a spot may cost the student beyond what it costs its teacher, as
            a share of the examples, before this is a warning.
    """

    title = "Where the models look"

    def __init__(
        self,
        examples: int = 64,
        pictures: int = 5,
        integrated: int = 32,
        tolerated: float = 0.1,
    ):
        if examples < 1 or min(pictures, integrated) < 0 or not 0 <= tolerated <= 1:
            raise RecipeError(
                f"examples is {examples}, pictures {pictures}, integrated {integrated} and "
                f"tolerated {tolerated}: give counts (examples at least 1), and a share in [0, 1]."
            )
        self.most, self.pictures = examples, pictures
        self.integrated, self.tolerated = integrated, tolerated

    def absent(self, subjects: Subjects) -> str | None:
        """There must be images, and a student that can be differentiated."""
        if not subjects.images:
            return "the examples are no images"
        if subjects.observed("student") is None:
            return "the student only answers: gradients of it cannot be had"
        if look(_one(subjects, "student"), self._asked(subjects, 2)) is None:
            return (
                "the student has no convolutional map and no attention; for integrated gradients: "
                'pip install "tutelage[explain]"'
            )
        return None

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Sharpness, deletion, likeness to the teacher, spots, and pictures."""
        asked = self._asked(subjects, self.most)
        seen = ((role, subjects.observed(role)) for role in subjects.roles)
        models = {role: model for role, model in seen if model is not None}
        looked = {
            role: found for role, one in models.items() if (found := look(one, asked)) is not None
        }
        judged = {role: worth(models[role], looked[role], asked) for role in looked}
        student, against = looked["student"], _against(looked)
        twin = look(unlearned(models["student"], asked.seed), asked)
        return {
            "examples": len(asked.ids),
            "of": len(subjects.test),
            "models": {role: told for role, (told, _) in judged.items()},
            "alike": {
                role: alike(looked["teacher"], one)
                for role, one in looked.items()
                if role != "teacher" and "teacher" in looked
            },
            "nearer": nearer(looked["teacher"], student, looked["baseline"], asked)
            if {"teacher", "baseline"} <= set(looked)
            else None,
            "unlearned": None
            if twin is None
            else drawn_anew(rank_correlation(student.maps, twin.maps), asked),
            "against": against,
            "spots": []
            if against is None
            else spots(
                (student, judged["student"][1]),
                (looked[against], judged[against][1]),
                asked,
                self.tolerated,
            ),
            "integrated": integrated_of(models, asked, self.integrated)
            if self.integrated
            else {"left_out": "it was not asked for"},
            "shown": self._shown(subjects, looked, asked),
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Spots that only the student needs, likeness, and what the maps are worth."""
        against = figures["against"]
        found = [spot(one, against) for one in figures["spots"][:3]]
        if against is not None and not found:
            found.append(no_spot(against))
        like = likeness(figures)
        return [*found, *([like] if like else []), faithful(figures)]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """How it was done, pictures, figures by model, and the deletion curves."""
        models = figures["models"]
        ways: dict[str, list[str]] = {_METHODS[m["method"]]: [] for m in models.values()}
        for role, model in models.items():
            ways[_METHODS[model["method"]]].append(NAMES[role])
        by = [way if len(ways) == 1 else f"{way} ({listing(who)})" for way, who in ways.items()]
        blocks: list[Block] = [
            Words(
                f"For {figures['examples']:,} of {figures['of']:,} test images, every model was "
                f"asked where it sees the true class, by {listing(by)}. A map shows what weighs in "
                "an answer, not why; pictures are examples, the table is the evidence. Intervals "
                "cover the luck of the examples, not that of training."
            )
        ]
        if figures["shown"]:
            roles = [role for role in models if role in ROLES]
            blocks.append(
                Picture(
                    where_they_look(figures["shown"], roles),
                    "The same test images for each model: what it looks at is clear, the rest "
                    "veiled in grey; below, its answer and whether it is right",
                )
            )
        blocks.append(_table(figures))
        blocks.append(
            Picture(
                deletion_curves(models),
                "Certainty while pixels are taken away, those first that a model's own map calls "
                "important; the dotted thin line of the same colour is the same in random order",
            )
        )
        blocks.append(_grid(models))
        return [*blocks, Words(_of_integrated(figures["integrated"]))]

    def _asked(self, subjects: Subjects, most: int) -> Asked:
        seed = derive(subjects.seed, "explanations")
        batch = subjects.test.batch(some(subjects.test, most, seed))
        assert isinstance(batch.inputs, Tensor), "images were asked for"
        assert batch.targets is not None, "`some` takes labelled rows alone"
        assert batch.ids is not None, "every set gives ids"
        return Asked(batch.inputs, batch.targets, batch.ids, seed, subjects.level)

    def _shown(
        self, subjects: Subjects, looked: Mapping[str, Looked], asked: Asked
    ) -> list[dict[str, Any]]:
        names, shown = subjects.test.classes, min(self.pictures, len(asked.ids))
        rows = [(subjects.test.ids.cpu() == one).nonzero().item() for one in asked.ids[:shown]]
        said = {role: subjects.answers(role).logits.argmax(1)[rows].tolist() for role in looked}
        return [
            {
                "id": int(asked.ids[place]),
                "class": names[int(asked.truth[place])],
                "image": as_png(asked.images[place]),
                "maps": {
                    role: {"veil": as_veil(one.native[place]), "answer": names[said[role][place]]}
                    for role, one in looked.items()
                },
            }
            for place in range(shown)
        ]


def _one(subjects: Subjects, role: str) -> Observed:
    model = subjects.observed(role)
    assert model is not None, "who cannot be differentiated was left out before"
    return model


def _against(looked: Mapping[str, Looked]) -> str | None:
    """Whom the student's spots are compared with."""
    return next((role for role in ("teacher", "baseline") if role in looked), None)


def _table(figures: Mapping[str, Any]) -> Table:
    models = figures["models"]

    def row(name: str, cell: Callable[[str, Mapping[str, Any]], str]) -> tuple[str, ...]:
        return (name, *(cell(role, model) for role, model in models.items()))

    def like(role: str, key: str) -> str:
        return _number(figures["alike"][role][key]) if role in figures["alike"] else ""

    rows = (
        row("Rank correlation with the teacher's", lambda role, _: like(role, "rank")),
        row("Cosine to the teacher's", lambda role, _: like(role, "cosine")),
        row("Spread (entropy; 1 is everywhere)", lambda _, m: _number(m["spread"])),
        row("Gini (1 is one spot)", lambda _, m: _number(m["gini"])),
        row("Deletion area, by the map", lambda _, m: _number(m["deletion"]["map"])),
        row("Deletion area, by chance", lambda _, m: _number(m["deletion"]["chance"])),
        row("Gain over chance", lambda _, m: _ends(m["deletion"]["gain"])),
        row("Empty maps", lambda _, m: str(m["empty"])),
    )
    heads = (NAMES[role].capitalize() for role in models)
    return Table(("Maps", *heads), rows, "What the maps are like")


def _grid(models: Mapping[str, Any]) -> Table:
    rows = [
        (
            place_of(cell).removeprefix("the ").capitalize(),
            *(
                f"{percent(m['cells'][cell], 0)}, {points(m['hidden'][cell], sign=False)}"
                for m in models.values()
            ),
        )
        for cell in range(SIDE**2)
    ]
    return Table(
        ("Spot", *(NAMES[role].capitalize() for role in models)),
        tuple(rows),
        "Share of the attention on each spot, and points of accuracy lost when it is hidden",
        folded=True,
    )


def _of_integrated(found: Mapping[str, Any]) -> str:
    if found["left_out"]:
        return f"Integrated gradients were left out: {found['left_out'].rstrip('.')}."
    ranks = [f"{NAMES[role]} {_number(one['rank'])}" for role, one in found["alike"].items()]
    text = (
        f"By integrated gradients, on {found['examples']} images, the rank correlation with the "
        f"teacher's maps is: {listing(ranks)}"
    )
    if found["nearer"] is not None:
        change = found["nearer"]
        text += f" (student minus student alone: {_ends(change)})"
    return text + "."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _ends(interval: Mapping[str, Any]) -> str:
    return f"{_number(interval['low'])} to {_number(interval['high'])}"
