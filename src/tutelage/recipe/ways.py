"""The way of teaching that a recipe names: its batches, its peers, and the setting itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.core.outputs import Answers
from tutelage.core.source import Source
from tutelage.core.text import TextTokenizer
from tutelage.data import Loader, Overlapping, SameClass, Splits
from tutelage.data.text import TokenLoader, TokenSet
from tutelage.engine import AbstractSetting, Learner
from tutelage.objectives.base import AbstractObjective
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.crossed import NAME as CROSSED
from tutelage.recipe.crossed import AlignedRows
from tutelage.recipe.pairs import Pairs, check_pairs
from tutelage.recipe.rewards import TEACHER, reward_of
from tutelage.recipe.sections import Named
from tutelage.settings.cross_tokenizer import sides_of

CLASSIC = "classic"
_PREFERENCE = "preference"
_NEVER = ("student", "teacher", "objective", "reference")
_HANDED = {"student", "teacher", "objective", "peers", "examples", "epochs", "held_out", "updates"}
OF_THEIR_OWN = ("minillm", "policy_gradient")
"""Settings with a loss of their own, beside which there is no objective."""
WRITING = ("on_policy", "distillm", *OF_THEIR_OWN)
"""Settings in which the student writes, so that no kept answer serves."""
_HELD_OUT = 8  # batches of validation text
_REFERENCES = ("teacher", "start")
_NOT_WRITTEN = {"held_out", "updates", "measure"}
Batches = Loader | TokenLoader
"""What gives a set in batches."""

_FEEDS: Mapping[str, Callable[[Loader], Source[Batch]]] = {
    "class_wise": lambda loader: cast("Source[Batch]", SameClass(loader)),
    "last_batch": Overlapping,
}


@dataclass(frozen=True)
class Texts:
    """The data of a setting that writes or compares answers.

    Attributes:
        train: What is learnt from.
        validation: What the student is measured on meanwhile.
        size: Rows of a batch.
        template: In which conversations are written.
    """

    train: TokenSet
    validation: TokenSet
    size: int
    template: str

    def held_out(self) -> list[Batch]:
        """The first batches of validation text."""
        rows = torch.arange(len(self.validation))
        return [self.validation.batch(some) for some in torch.split(rows, self.size)[:_HELD_OUT]]


def texts_of(splits: Splits, batch_size: int) -> Texts | None:
    """The data for a setting on text; None where it is none."""
    train, held = splits.train, splits.validation
    if not (isinstance(train, TokenSet) and isinstance(held, TokenSet)):
        return None
    template = str(splits.origin.get("template", "plain"))
    return Texts(train, held, min(batch_size, len(train)), template)


@dataclass(frozen=True)
class Way:
    """A setting by its name, for students that a recipe makes.

    Attributes:
        named: Name and options, as the recipe has them.
        examples: How many example numbers there are, for settings that remember each.
        epochs: Passes over the data.
        theirs: The teacher's tokenizer, where it has one of its own.
        texts: The data, where it is text.
    """

    named: Named
    examples: int
    epochs: int
    theirs: TextTokenizer | None = None
    texts: Texts | None = None

    @property
    def asks_teacher(self) -> bool:
        """Whether the recipe's teacher is listened to; peers and past selves teach otherwise."""
        written = self.named.options
        if self.named.name == "policy_gradient":
            return bool(written.get("reward") == TEACHER)
        if self.named.name == _PREFERENCE:
            return bool(written.get("reference", TEACHER) == TEACHER)
        return "teacher" in registry.options_of(registry.get("setting", self.named.name))

    @property
    def peers(self) -> int:
        """How many networks learn; the first is the student that is shipped."""
        return int(self.named.options.get("peers", 2)) if self.named.name == "mutual" else 1

    def feed(self, loader: Batches) -> Source[Batch]:
        """The batches that the setting needs."""
        if self.theirs is not None and isinstance(loader, TokenLoader):
            return AlignedRows(loader, self.theirs)
        if self.named.name == _PREFERENCE and self.texts is not None:
            assert isinstance(loader, TokenLoader)
            return Pairs(self.named.options["pairs"], loader, self.texts.template)
        feed = _FEEDS.get(self.named.name)
        if feed is None:
            return loader
        if isinstance(loader, TokenLoader):
            raise RecipeError(
                f"setting: {self.named.name} needs batches of its own, which text has not: choose "
                "another."
            )
        return feed(loader)

    def sides(self, batch: Batch) -> tuple[Batch, Batch]:
        """A batch as the student sees it, and as the teacher does."""
        return sides_of(batch) if self.named.name == CROSSED else (batch, batch)

    def setting(
        self,
        student: Learner,
        teacher: Answers,
        objective: AbstractObjective,
        peer: Callable[[int], Learner],
    ) -> AbstractSetting[Any]:
        """The setting, made.

        Args:
            student: The one that is shipped.
            teacher: The recipe's.
            objective: What it is to become.
            peer: Makes further learners, by number from 1.
        """
        known = registry.options_of(registry.get("setting", self.named.name))
        heard = objective.needs_teacher and self.asks_teacher
        hands: dict[str, Callable[[], Any]] = {
            "student": lambda: student,
            "teacher": lambda: teacher if heard else None,
            "objective": lambda: objective,
            "peers": lambda: [student, *map(peer, range(1, self.peers))],
            "examples": lambda: self.examples,
            "epochs": lambda: self.epochs,
        }
        written = dict(self.named.options)
        written.pop("peers", None)
        hands |= self._of_text(written, teacher)
        wanted = [name for name in hands if name in known and name not in written]
        given = {name: hands[name]() for name in wanted}
        plain = Named(name=self.named.name, options=written)
        return cast("AbstractSetting[Any]", schema.build("setting", plain, "setting", **given))

    def _of_text(self, written: dict[str, Any], teacher: Answers) -> dict[str, Callable[[], Any]]:
        """What settings on text are handed; names of objects are taken out of ``written``."""
        if self.texts is None:
            return {}
        texts = self.texts
        cutter = texts.train.tokenizer
        steps = self.epochs * -(-len(texts.train) // texts.size)
        hands: dict[str, Callable[[], Any]] = {
            "end": lambda: None if cutter is None else cutter.end,
            "held_out": texts.held_out,
            "updates": lambda: steps,
        }
        if self.named.name == "policy_gradient":
            reward = written.pop("reward")
            hands["reward"] = lambda: reward_of(reward, texts.train, teacher)
        if self.named.name == _PREFERENCE:
            written.pop("pairs")
            written.pop("reference", None)
        return hands

    def notes(self) -> list[str]:
        """What a reader of the report must know."""
        if self.asks_teacher:
            return []
        if self.named.name in ("policy_gradient", _PREFERENCE):
            what = "a check" if self.named.name == "policy_gradient" else "pairs of answers"
            return [f"The student learns from {what}: the teacher of this report was not asked."]
        whom = (
            f"{self.peers} peers learn from each other"
            if self.peers > 1
            else ("the student learns from itself")
        )
        return [
            f"In the setting {self.named.name} {whom}: the teacher of this report was not asked."
        ]


def way(
    named: Named,
    examples: int,
    epochs: int,
    theirs: TextTokenizer | None = None,
    texts: Texts | None = None,
) -> Way:
    """A recipe's way of teaching.

    Raises:
        RecipeError: There is no such setting, or it needs what a recipe cannot write.
    """
    known = registry.names("setting")
    if named.name not in known:
        raise RecipeError(f"setting: there is no {named.name!r}. {suggest(named.name, known)}")
    options = registry.options_of(registry.get("setting", named.name))
    lacking = [
        name
        for name, option in options.items()
        if option.default is option.empty and name not in {*_HANDED, *named.options}
    ]
    if "objective" not in options and named.name not in OF_THEIR_OWN:
        raise RecipeError(
            f"setting: {named.name} has a loss of its own, and a recipe's objective would not be "
            "heard: use it from Python (tutelage.settings)."
        )
    if texts is None and named.name in (*WRITING, _PREFERENCE):
        raise RecipeError(
            f"setting: got {named.name!r}, which is for text, and this data is none: choose "
            "another."
        )
    if named.name == "policy_gradient" and "reward" in lacking:
        raise RecipeError(
            "setting.policy_gradient.reward: it is missing: write reward: teacher, equals or "
            "number; a function of your own is for Python."
        )
    if lacking:
        raise RecipeError(
            f"setting: {named.name} needs {', '.join(lacking)}: write them as its options, or, "
            "where they are objects, use it from Python (tutelage.settings)."
        )
    allowed = [name for name in options if name not in _NOT_WRITTEN | {*_NEVER}]
    if named.name == _PREFERENCE:
        check_pairs(named.options.get("pairs"))
        allowed += ["pairs", "reference"]
        if named.options.get("reference", TEACHER) not in _REFERENCES:
            raise RecipeError(
                f"setting.preference.reference: got {short(named.options['reference'])}: write "
                "teacher, or start for the student as it begins."
            )
    for name in named.options:
        if name not in allowed:
            raise RecipeError(
                f"setting.{named.name}.{name}: there is no such option (its value: "
                f"{short(named.options[name])}). {suggest(name, allowed)}"
            )
    count = named.options.get("peers", 2)
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 16:
        raise RecipeError(f"setting.{named.name}.peers: got {count!r}: write 2 to 16.")
    return Way(named, examples, epochs, theirs, texts)
