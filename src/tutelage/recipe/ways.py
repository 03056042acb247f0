"""The way of teaching that a recipe names: its batches, its peers, and the setting itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, suggest
from tutelage.core.outputs import Answers
from tutelage.core.source import Source
from tutelage.data import Loader, Overlapping, SameClass
from tutelage.data.text import TokenLoader
from tutelage.engine import AbstractSetting, Learner
from tutelage.objectives.base import AbstractObjective
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Named

CLASSIC = "classic"
_HANDED = {"student", "teacher", "objective", "peers", "examples", "epochs"}
Batches = Loader | TokenLoader
"""What gives a set in batches."""

_FEEDS: Mapping[str, Callable[[Loader], Source[Batch]]] = {
    "class_wise": lambda loader: cast("Source[Batch]", SameClass(loader)),
    "last_batch": Overlapping,
}


@dataclass(frozen=True)
class Way:
    """A setting by its name, for students that a recipe makes.

    Attributes:
        named: Name and options, as the recipe has them.
        examples: How many example numbers there are, for settings that remember each.
        epochs: Passes over the data.
    """

    named: Named
    examples: int
    epochs: int

    @property
    def asks_teacher(self) -> bool:
        """Whether the recipe's teacher is listened to; peers and past selves teach otherwise."""
        return "teacher" in registry.options_of(registry.get("setting", self.named.name))

    @property
    def peers(self) -> int:
        """How many networks learn; the first is the student that is shipped."""
        return int(self.named.options.get("peers", 2)) if self.named.name == "mutual" else 1

    def feed(self, loader: Batches) -> Source[Batch]:
        """The batches that the setting needs."""
        feed = _FEEDS.get(self.named.name)
        if feed is None:
            return loader
        if isinstance(loader, TokenLoader):
            raise RecipeError(
                f"setting: {self.named.name} needs batches of its own, which text has not: choose "
                "another."
            )
        return feed(loader)

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
        hands: dict[str, Callable[[], Any]] = {
            "student": lambda: student,
            "teacher": lambda: teacher if objective.needs_teacher else None,
            "objective": lambda: objective,
            "peers": lambda: [student, *map(peer, range(1, self.peers))],
            "examples": lambda: self.examples,
            "epochs": lambda: self.epochs,
        }
        written = dict(self.named.options)
        written.pop("peers", None)
        wanted = [name for name in hands if name in known and name not in written]
        given = {name: hands[name]() for name in wanted}
        plain = Named(name=self.named.name, options=written)
        return cast("AbstractSetting[Any]", schema.build("setting", plain, "setting", **given))

    def notes(self) -> list[str]:
        """What a reader of the report must know."""
        if self.asks_teacher:
            return []
        whom = (
            f"{self.peers} peers learn from each other"
            if self.peers > 1
            else ("the student learns from itself")
        )
        return [
            f"In the setting {self.named.name} {whom}: the teacher of this report was not asked."
        ]


def way(named: Named, examples: int, epochs: int) -> Way:
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
    if "objective" not in options:
        raise RecipeError(
            f"setting: {named.name} has a loss of its own, and a recipe's objective would not be "
            "heard: use it from Python (tutelage.settings)."
        )
    if lacking:
        raise RecipeError(
            f"setting: {named.name} needs {', '.join(lacking)}: write them as its options, or, "
            "where they are objects, use it from Python (tutelage.settings)."
        )
    allowed = [name for name in options if name not in {"student", "teacher", "objective"}]
    for name in named.options:
        if name not in allowed:
            raise RecipeError(
                f"setting.{named.name}.{name}: there is no such option (its value: "
                f"{short(named.options[name])}). {suggest(name, allowed)}"
            )
    count = named.options.get("peers", 2)
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 16:
        raise RecipeError(f"setting.{named.name}.peers: got {count!r}: write 2 to 16.")
    return Way(named, examples, epochs)
