"""Poisoned training data: does a small patch, repeated in many images, go with one label?"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.seeds import derive
from tutelage.data.sets import Examples, TensorSet
from tutelage.data.splits import labelled
from tutelage.evaluation.backdoor.inversion import stamp
from tutelage.evaluation.backdoor.patches import Suspect, repeated_patches, trigger_of
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.intervals import wilson
from tutelage.evaluation.ood.asking import inputs_of, some
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.predict import predict
from tutelage.evaluation.security_plots import pixels
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import NAMES, listing, percent

_WHOSE = {"train": "student's", "taught": "teacher's"}


@register("part", "poisoning")
class Poisoning(AbstractPart):
    """A search for dirty-label poison (BadNets) in what student and teacher were trained on.

    Args:
        most: Images of each set that are looked through.
        windows: Sides of the patches that are compared, in pixels.
        tested: Test images that a found patch is put on.
    """

    title = "Poison in the training data"

    def __init__(self, most: int = 4000, windows: Sequence[int] = (2, 3), tested: int = 500):
        for key, value in (("most", most), ("tested", tested)):
            if value < 2:
                raise RecipeError(f"{key}: got {value}: give at least 2.")
        if not windows or min(windows) < 2:
            raise RecipeError(f"windows: got {list(windows)}: give sides of 2 pixels or more.")
        self.most, self.windows, self.tested = most, tuple(windows), tested

    def absent(self, subjects: Subjects) -> str | None:
        """Labelled images of what was learned from are needed."""
        if not subjects.images:
            return "the examples are no images"
        return None if _sets(subjects) else "it is not known what the models were trained on"

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """What was looked through and found, and what a found patch does to the models."""
        seed = derive(subjects.seed, "poisoning")
        height, width = subjects.test.example_shape[1:]
        most = min(self.most, max(6_000_000 // (height * width), 50))
        searched, found = {}, []
        for name, examples in _sets(subjects).items():
            looked = some(examples, most, seed)
            images, targets = inputs_of(looked), looked.targets
            assert targets is not None
            searched[name] = len(looked)
            for one in repeated_patches(
                images, targets, len(looked.classes), windows=self.windows, level=subjects.level
            ):
                found.append({"set": name, **self._told(one, images, targets, subjects, seed)})
        return {"searched": searched, "windows": list(self.windows), "found": found}

    def _told(
        self, one: Suspect, images: Tensor, targets: Tensor, subjects: Subjects, seed: int
    ) -> dict[str, Any]:
        mask, pattern = trigger_of(images, one)
        test = subjects.test
        assert test.targets is not None
        others = test.take((test.targets != one.label).nonzero().flatten())
        shown = some(others, self.tested, seed)
        marked = TensorSet(
            stamp(inputs_of(shown), mask, pattern), shown.targets, classes=test.classes
        )
        answers = {
            role: [
                int((predict(subjects.models[role], each).logits.argmax(-1) == one.label).sum())
                for each in (marked, shown)
            ]
            for role in subjects.roles
        }
        many = len(shown)
        with_label = int((targets[one.rows] == one.label).sum())
        return {
            "label": test.classes[one.label],
            "examples": len(one.rows),
            "with_label": with_label,
            "of_label": with_label / int((targets == one.label).sum()),
            "place": None if one.anywhere else list(one.place),
            "likeness": one.likeness.as_dict(),
            "pixels": int(mask.sum()),
            "example": _rounded(images[one.rows[0]]),
            "answers": {
                role: {
                    "marked": wilson(with_it, many, level=subjects.level).as_dict(),
                    "plain": wilson(without, many, level=subjects.level).as_dict(),
                }
                for role, (with_it, without) in answers.items()
            },
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Each patch that was found, or that none was, and what this is worth."""
        told = [Finding("warning", _sentence(one)) for one in figures["found"]]
        if told:
            return told
        counts = [f"{n:,} of the {_WHOSE[name]}" for name, n in figures["searched"].items()]
        return [
            Finding(
                "fine",
                f"No small patch that goes with one label was found in the training images "
                f"({listing(counts)} were looked through). This is no proof: hidden or sleeping "
                "triggers are not seen.",
            )
        ]

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """How it was looked for, what was found, and an image with it."""
        shown: list[Block] = [
            Words(_ABOUT.format(sizes=listing([f"{n}x{n}" for n in figures["windows"]])))
        ]
        for one in figures["found"]:
            image = torch.tensor(one["example"])
            caption = f"A training image with the patch, labelled {one['label']}"
            shown += [Picture(pixels(image, caption), caption + "."), _table(one)]
        return [*shown, Words(_LIMITS)]


_ABOUT = (
    "Poisoned images often carry one and the same small mark. Every window of {sizes} pixels of "
    "the training images was compared with that of all others, at its place and anywhere: a mark "
    "is suspicious if nearly all images with it have one label while they look like images of "
    "other labels (by their nearest neighbours without the mark)."
)
_LIMITS = (
    "What this cannot see: blended, warped or noisy triggers, marks in fewer than some 50 images, "
    "poison whose label fits the image, photographs whose nearest neighbours by pixels say nothing "
    "of what they show, and a teacher made so that its backdoor wakes in a student taught with "
    "clean data. The part on backdoors looks at the models themselves."
)


def _sets(subjects: Subjects) -> dict[str, Examples]:
    """The labelled images of the student, and the teacher's where they are others."""
    found: dict[str, Examples] = {}
    known = torch.zeros(0, dtype=torch.long)
    for name in _WHOSE:
        examples: Examples | None = getattr(subjects, name)
        if examples is None or examples.targets is None or not bool((examples.targets >= 0).any()):
            continue
        if bool(torch.isin(examples.ids, known).all()):
            continue
        found[name], known = labelled(examples), examples.ids
    return found


def _sentence(one: Mapping[str, Any]) -> str:
    student = one["answers"].get("student")
    where = "at one place" if one["place"] is not None else "at changing places"
    obeys = ""
    if student is not None:
        obeys = (
            f" On test images of other classes it makes the student answer “{one['label']}” to "
            f"{percent(student['marked']['mean'])} of them ({percent(student['plain']['mean'])} "
            "without it)."
        )
    return (
        f"The {_WHOSE[one['set']]} training data look poisoned: {one['examples']:,} images hold "
        f"the same small patch {where}, {one['with_label']:,} of them labelled “{one['label']}”, "
        f"though they hardly look like it by their nearest neighbours.{obeys}"
    )


def _table(one: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            NAMES[role],
            percent(each["plain"]["mean"]),
            f"{percent(each['marked']['mean'])} ({percent(each['marked']['low'])} to "
            f"{percent(each['marked']['high'])})",
        )
        for role, each in one["answers"].items()
    )
    head = ("model", "without the patch", "with the patch")
    return Table(head, rows, f"Test images of other classes answered “{one['label']}”")


def _rounded(image: Tensor) -> list[Any]:
    """Pixels for JSON, to three digits; of large images every n-th row and column."""
    step = max(-(-max(image.shape[1:]) // 64), 1)
    found: list[Any] = (image[:, ::step, ::step].double() * 1000).round().div(1000).tolist()
    return found
