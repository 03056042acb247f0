"""Text that the student wrote earlier is read again, and more of it is written when it helps.

Ko, Kim, Chen, Yun: DistiLLM: Towards Streamlined Distillation for Large Language Models, 2024,
arXiv:2402.03898.
"""

from collections.abc import Sequence
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.outputs import Answers
from tutelage.core.registry import register
from tutelage.core.seeds import derive, uniform
from tutelage.engine.items import moved
from tutelage.engine.learner import Learner
from tutelage.engine.options import number_within, whole_number
from tutelage.objectives.base import AbstractObjective
from tutelage.objectives.response.cross_entropy import CrossEntropy
from tutelage.settings.on_policy_taught import AbstractTaught, lesson_of
from tutelage.settings.probing import probe
from tutelage.settings.prompts import prompts_of, text_of
from tutelage.settings.rollouts import apart, flush, joined
from tutelage.settings.rollouts_setting import Lesson, ids_of, pen
from tutelage.settings.rollouts_window import as_plain


class Replay:
    """Rows of text that were written, the latest of them; checkpoints hold it.

    Args:
        capacity: Rows at most.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self._rows: list[tuple[int, Batch]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, batch: Batch, now: int) -> None:
        """Remember the rows of ``batch``, written after ``now`` updates."""
        kept = batch.to(torch.device("cpu"))
        rows = [(now, flush(kept[k : k + 1], "distillm")) for k in range(len(kept))]
        self._rows = [*self._rows, *rows][-self.capacity :]

    def draw(self, count: int, seed: int) -> tuple[Batch, int]:
        """So many of the rows (all, where there are fewer), and when the oldest was written."""
        order = uniform(seed, torch.arange(len(self)))[:, 0].argsort(stable=True)[:count]
        found = [self._rows[k] for k in order.tolist()]
        whole = joined([batch for _, batch in found], torch.arange(len(found)))
        return whole, min(written for written, _ in found)

    def forget(self, before: int) -> None:
        """Let go what was written before so many updates."""
        self._rows = [(written, batch) for written, batch in self._rows if written >= before]

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": [[written, as_plain(batch)] for written, batch in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self._rows = [(written, Batch(**batch)) for written, batch in state_dict["rows"]]


class Share:
    """How often the student's own text is read: more often each time that it got worse.

    Args:
        start: At first.
        tolerance: A loss is worse if it is larger than the last worse one by so much.
    """

    def __init__(self, start: float, tolerance: float):
        self.value, self.mark, self._tolerance = start, float("nan"), tolerance

    def told(self, loss: float) -> None:
        """A new loss on held-out data.

        >>> share = Share(0.0, 0.1)
        >>> [share.told(loss) for loss in (2.0, 1.0, 2.05, 2.2, 2.25)]
        [None, None, None, None, None]
        >>> share.value, share.mark
        (0.1, 2.2)
        """
        if self.mark != self.mark:
            self.mark = loss
        elif loss >= self.mark + self._tolerance:
            self.value, self.mark = min(round(self.value + 0.1, 6), 1.0), loss

    def state_dict(self) -> dict[str, float]:
        """Share and mark."""
        return {"value": self.value, "mark": self.mark}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go back to what `state_dict` gave."""
        self.value, self.mark = state_dict["value"], state_dict["mark"]


@register("setting", "distillm")
class DistiLLM(AbstractTaught):
    r"""DistiLLM: own text as far as it is needed, and the same text several times.

    .. math:: \text{with } u \sim U(0, 1): \quad
        u < \varphi \, (1 - t / T) \text{ writes anew}, \quad
        u < \varphi \text{ reads from the replay}, \quad
        \text{else the data's answers}

    after t of T updates; while the replay is not full, all of the share phi writes anew. Phi
    rises by 0.1 whenever the loss on held-out data is larger by ``tolerance`` than when it rose
    last (or was measured first). Updates are called ``own``, ``replayed`` and ``data``.

    Neighbours: `OnPolicy` has a fixed share and reads each text once.

    Deviations: as in the authors' code, the mark that a loss is held against moves only when phi
    rises. Their objective is ``skew_kl`` or ``skew_reverse_kl`` (alpha = 0.1); any will do.

    Args:
        student: Who writes and learns.
        teacher: A live one.
        objective: The divergence.
        held_out: Batches that the loss is measured on: of validation, never of test data.
        updates: T, of the whole run.
        measure: What is measured on them; None is cross entropy.
        every: Updates between two measurements.
        start: Phi at first.
        tolerance: See above.
        capacity: Rows that are remembered.
        oldest: Updates after which a row is forgotten; None never forgets but the oldest.
        most: Tokens of an answer at most.
        temperature: Of the draw.
        top_p: Share of the likeliest tokens that are drawn from.
        top_k: So many of the likeliest are drawn from; None is all.
        end: Number of the token that ends an answer.

    Raises:
        RecipeError: An option is out of range, or the teacher is a cache.
    """

    def __init__(
        self,
        student: Learner,
        teacher: Answers,
        objective: AbstractObjective,
        *,
        held_out: Sequence[Batch],
        updates: int,
        measure: AbstractObjective | None = None,
        every: int = 100,
        start: float = 0.0,
        tolerance: float = 0.1,
        capacity: int = 1000,
        oldest: int | None = None,
        most: int = 128,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int | None = None,
        end: int | None = None,
    ):
        name = "distillm"
        how = pen(most, temperature, top_p, top_k, end, name)
        super().__init__(student, teacher, objective, how, 1, name)
        if not held_out or not all(isinstance(batch, Batch) for batch in held_out):
            raise RecipeError("distillm: held_out must be a list of batches, at least one.")
        self.all_updates = whole_number(updates, "distillm: updates")
        self.every = whole_number(every, "distillm: every")
        self.oldest = None if oldest is None else whole_number(oldest, "distillm: oldest")
        self._held_out, self._measure = tuple(held_out), measure or CrossEntropy()
        number_within(start, "distillm: start", least=0, most=1)
        number_within(tolerance, "distillm: tolerance", least=0)
        self.replay = Replay(whole_number(capacity, "distillm: capacity"))
        self.phi = Share(float(start), float(tolerance))

    def lessons(self, batches: Sequence[Batch], seed: int) -> list[Lesson]:
        """New text, old text, or the data's."""
        [batch], now = batches, self.history.updates
        place = text_of(batch, self.name).device
        if now % self.every == 0:
            self.phi.told(self._loss(place))
        if self.oldest is not None:
            self.replay.forget(now - self.oldest)
        prompts, none = prompts_of(batch, self.name), torch.zeros(0, dtype=torch.int64)
        u = float(uniform(derive(seed, "own"), torch.zeros(1, dtype=torch.int64)))
        fresh = self.phi.value * (1 - now / self.all_updates)
        filling = u < self.phi.value and len(self.replay) < self.replay.capacity
        if len(prompts) and (u < fresh or filling):
            ids = ids_of(batch)[prompts.rows]
            [text] = self.written([prompts], [ids], derive(seed, "text"))
            lesson = lesson_of(batch, text, prompts.rows, none)
            self.replay.add(lesson.batch, now)
            return [lesson]
        self.history.wrote(rows=0, tokens=0, ended=0, data=len(batch))
        if u < self.phi.value and len(self.replay):
            rows, written = self.replay.draw(len(batch), derive(seed, "replay"))
            return [Lesson(moved(rows, place), "replayed", now - written)]
        return [lesson_of(batch, batch, none, none)]

    def _loss(self, place: torch.device) -> float:
        """On the held-out batches, each unit of equal weight."""
        total, count = 0.0, 0
        for batch in self._held_out:
            here = moved(batch, place)
            answer = probe(self.student, apart(here)[0])
            terms = self._measure(answer, answer, here)
            total += batch.count * sum(float(term) for term in terms.values())
            count += batch.count
        return total / max(count, 1)
