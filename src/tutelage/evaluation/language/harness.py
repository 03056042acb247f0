"""Our models in the LM Evaluation Harness, and its tasks in our reports.

A Framework for Few-Shot Language Model Evaluation, Gao et al., 2021
(doi:10.5281/zenodo.5371628); the package ``lm_eval`` (MIT), of the extra ``lm-eval``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from tutelage.core.errors import DataError, ModelError, TutelageError
from tutelage.core.quiet import quietly
from tutelage.core.text import TextTokenizer
from tutelage.evaluation.language.asking import Scores
from tutelage.evaluation.language.likelihood import likelihoods, rolling
from tutelage.evaluation.language.writing import greedy, reads_at_most, why_silent
from tutelage.models import Observed
from tutelage.models.foreign import library

EXTRA = "lm-eval"
_MOST = 256  # tokens of an answer, where a task does not say


class Requested(Protocol):
    """What the harness asks: an ``Instance``."""

    @property
    def args(self) -> tuple[Any, ...]:
        """Context and continuation; a text; or context and options of generation."""
        ...


class Answering:
    """The three questions of the harness, answered by a model of ours.

    Args:
        model: One that goes on with a text.
        tokenizer: Its own.
        at_once: Rows in one batch.

    Raises:
        ModelError: The model does not go on with a text.
    """

    def __init__(self, model: Observed, tokenizer: TextTokenizer, *, at_once: int = 16):
        super().__init__()
        why = why_silent(model)
        if why is not None:
            raise ModelError(f"{why}: the harness asks models that do.")
        self._asked, self._cutter, self._at_once = model, tokenizer, at_once
        self._longest = reads_at_most(model)

    def loglikelihood(self, requests: Sequence[Requested]) -> list[tuple[float, bool]]:
        """Of each continuation its log-probability, nats, and whether it is the likeliest."""
        pairs = [(str(each.args[0]), str(each.args[1])) for each in requests]
        found = likelihoods(
            self._asked, self._cutter, pairs, longest=self._longest, at_once=self._at_once
        )
        return [(each.log_p, each.greedy) for each in found]

    def loglikelihood_rolling(self, requests: Sequence[Requested]) -> list[float]:
        """Of each whole text its log-probability, nats."""
        texts = [str(each.args[0]) for each in requests]
        found = rolling(
            self._asked, self._cutter, texts, longest=self._longest, at_once=self._at_once
        )
        return [each.log_p for each in found]

    def generate_until(self, requests: Sequence[Requested]) -> list[str]:
        """What the model goes on with, the likeliest token each time, up to a stop.

        Raises:
            ModelError: A task asks for drawn tokens.
        """
        groups: dict[tuple[tuple[str, ...], int], list[int]] = {}
        for place, each in enumerate(requests):
            groups.setdefault(self._way(each.args[1]), []).append(place)
        found = [""] * len(requests)
        for (stop, most), places in groups.items():
            write = greedy(self._asked, self._cutter, most=most)
            texts = write([str(requests[place].args[0]) for place in places], stop)
            for place, text in zip(places, texts, strict=True):
                found[place] = text
        return found

    def _way(self, options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
        if options.get("do_sample") and options.get("temperature", 1.0):
            raise ModelError("a task of the harness draws tokens: set do_sample: false in it.")
        until = options.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(map(str, until))
        asked = options.get("max_gen_toks") or options.get("max_new_tokens") or _MOST
        return tuple(filter(None, stop)), max(1, min(int(asked), self._longest // 2))


def language_model(model: Observed, tokenizer: TextTokenizer, *, at_once: int = 16) -> Any:
    """A model of ours as ``lm_eval.simple_evaluate(model=...)`` takes it.

    Args:
        model: One that goes on with a text.
        tokenizer: Its own.
        at_once: Rows in one batch.

    Returns:
        An ``lm_eval.api.model.LM``.

    Raises:
        NotInstalled: lm_eval is not here.
        ModelError: The model does not go on with a text.
    """
    library("lm_eval", EXTRA)
    base = library("lm_eval.api.model", EXTRA).LM
    kind: Any = type("TutelageModel", (Answering, base), {})
    return kind(model, tokenizer, at_once=at_once)


@dataclass(frozen=True)
class HarnessTask:
    """A task of the harness.

    Attributes:
        name: Of the task.
        written: Its configuration as plain data; None for one that the package brings.
        limit: Questions that are asked, the first ones; None for all.
    """

    name: str
    written: Mapping[str, Any] | None = None
    limit: int | None = None

    @property
    def kind(self) -> str:
        """What tells it from tasks of our own."""
        return "lm_eval"

    def ask(self, model: Observed, tokenizer: TextTokenizer) -> Scores:
        """What a model makes of it: the task's first figure, question by question.

        Raises:
            DataError: The task cannot be put to a model, in one line.
        """
        asked = language_model(model, tokenizer)
        spec: Any = self.name if self.written is None else dict(self.written)
        try:
            with quietly(), _sandboxed():
                found = library("lm_eval", EXTRA).simple_evaluate(
                    model=asked,
                    tasks=[spec],
                    task_manager=manager(self.written is None),
                    limit=self.limit,
                    bootstrap_iters=0,
                    random_seed=None,  # the draws of a run are not the harness's to seed
                    numpy_random_seed=None,
                    torch_random_seed=None,
                )
        except TutelageError:
            raise
        except Exception as error:  # whatever a task's template, data or metric raises
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise DataError(f"the harness cannot ask {self.name} ({said}).") from error
        return scores_of(found, self.name)


def scores_of(found: Mapping[str, Any], name: str) -> Scores:
    """The first figure of a task in what the harness returns, with its questions.

    Raises:
        DataError: There is no figure.

    Example:
        >>> results = {"results": {"t": {"alias": "t", "acc,none": 0.5, "acc_stderr,none": "N/A"}}}
        >>> samples = [{"doc_id": i, "filter": "none", "acc": 1.0 - i} for i in (1, 0)]
        >>> scores_of({**results, "samples": {"t": samples}}, "t").values
        (1.0, 0.0)
    """
    told = {
        key: float(value)
        for key, value in found.get("results", {}).get(name, {}).items()
        if "," in key and "_stderr," not in key and _finite(value)
    }
    if not told:
        raise DataError(f"the harness returns no figure of {name}: give it a metric_list.")
    key, total = next(iter(told.items()))
    metric, _, which = key.partition(",")
    higher = found.get("higher_is_better", {}).get(name, {}).get(metric, True)
    rows = [row for row in found.get("samples", {}).get(name, ()) if row.get("filter") == which]
    said = [row.get(metric) for row in sorted(rows, key=lambda row: int(row["doc_id"]))]
    values = [float(each) for each in said if isinstance(each, bool | int | float)]
    mean = sum(values) / len(values) if values else math.nan
    # A figure that is no mean, as a perplexity, has no value of a question.
    by_question = len(values) == len(rows) and math.isclose(mean, total, abs_tol=1e-6)
    others = {other.removesuffix(",none"): value for other, value in told.items() if other != key}
    return Scores(
        tuple(values) if by_question else (),
        metric=metric,
        better="lower" if higher is False else "higher",
        others=others,
        total=total,
    )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@cache
def manager(named: bool) -> Any:
    """What finds tasks; the thousands that the package brings only where one is named."""
    with quietly():
        library("lm_eval", EXTRA)
        return library("lm_eval.tasks", EXTRA).TaskManager(include_defaults=named)


@contextmanager
def _sandboxed() -> Iterator[None]:
    """Templates of tasks come from files, so they are run where they reach nothing."""
    utils: Any = library("lm_eval.utils", EXTRA)
    before = utils.env
    safe = library("jinja2.sandbox", EXTRA).ImmutableSandboxedEnvironment(
        loader=before.loader, undefined=before.undefined, keep_trailing_newline=True
    )
    safe.filters.update(before.filters)
    utils.env = safe
    try:
        yield
    finally:
        utils.env = before
