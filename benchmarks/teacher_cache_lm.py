"""A language model's answers kept: bytes and rates, gradients beside the full KL, students.

Three parts, each on real positions of a model (``--model FOLDER --text FILE``; hidden states and a
head are drawn where none is given):

``rates``: a cache of rows of tokens is filled (top k of dense logits, by the CPU) and read in
batches from the page cache, through `Cached`: bytes and tokens a second.
``gradients``: the gradient of a student's head from each kind of target, beside that of the
divergence over all classes: cosine, and relative error. The student is the teacher with noise in
states and head, ``late`` (KL about 0.14) and ``early`` (about 1). Each form goes through the
records of a cache, so rounding is in it.
``outcome``: a small student learns from frozen targets over many epochs (`ways.kept_targets`).

    python benchmarks/teacher_cache_lm.py [--quick] [--model FOLDER --text FILE] [--record FILE]
        [--part rates|gradients|outcome] [--positions N] [--seeds S]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.objectives import linear_divergence, sparse_linear_divergence
from tutelage.teachers import Cached, Form, as_kept, sparse_answers
from tutelage.teachers.cache.records import Layout

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.naive.sparse import renormalised, zeroed
from benchmarks.rivals.heads import Case, tensors
from benchmarks.shared import Peak, stamp, told
from benchmarks.ways.kept_targets import Words, outcomes

FORMS: dict[str, Form] = {
    "top 8 + tail": Form("top", 8),
    "top 31 + tail": Form("top", 31),
    "top 32 + tail": Form("top", 32),
    "top 128 + tail": Form("top", 128),
    "top 8 + tail, 8 bits": Form("top", 8, "int8"),
    "top 32 + tail, 8 bits": Form("top", 32, "int8"),
    "top 48 + tail, 8 bits": Form("top", 48, "int8"),
    "8 exact + 8 draws": Form("top", 8, draws=8),
    "8 exact + 8 draws, 8 bits": Form("top", 8, "int8", draws=8),
    "32 exact + 16 draws": Form("top", 32, draws=16),
}
NaiveForm = Callable[[Tensor, SparseOutputs], Tensor]
NAIVE: dict[str, tuple[int, NaiveForm]] = {
    f"top {k}, {name}": (k, form)
    for k in (8, 32, 128)
    for name, form in (("both renormalised", renormalised), ("zeroed", zeroed))
}


def words_of(model: Path | None, text: Path | None, count: int, row: int) -> Words:
    """``count`` positions in rows of ``row`` tokens."""
    if model is None or text is None:
        drawn = tensors(Case(count, 49_152, "forward"), torch.float32)
        following = torch.zeros(count, dtype=torch.int64)
        return Words(drawn.teacher_hidden, following, drawn.teacher_weight)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(model, **options)
    made = AutoModelForCausalLM.from_pretrained(
        model, use_safetensors=True, dtype=torch.float32, **options
    ).eval()
    written = text.read_text(encoding="utf-8")[: count * 8]
    tokens = torch.tensor(tokenizer(written)["input_ids"][: count + 1])
    if len(tokens) <= count:
        raise SystemExit(f"{text} has {len(tokens)} tokens: {count + 1} are wanted.")
    with torch.inference_mode():
        states = [made.base_model(each).last_hidden_state for each in tokens[:-1].view(-1, 1, row)]
    head = made.get_output_embeddings().weight.detach().clone()
    return Words(torch.cat(states, 1)[0].clone(), tokens[1:], head)


def student_of(words: Words, wanted: float) -> tuple[Tensor, Tensor, float]:
    """The teacher with as much noise in states and head as makes the KL about ``wanted``."""
    source = torch.Generator().manual_seed(1)
    hidden, head = words.hidden, words.head
    spread = hidden.std(0) * torch.randn(hidden.shape, generator=source)
    other = head.std() * torch.randn(head.shape, generator=source)
    few, low, high, kl = slice(0, 64), 0.0, 1.0, 0.0
    for _ in range(9):
        scale = (low + high) / 2
        near = hidden[few] + scale * spread[few], head + scale * other
        kl = float(linear_divergence(*near, hidden[few], head))
        low, high = (scale, high) if kl < wanted else (low, scale)
    return hidden + scale * spread, head + scale * other, kl


def slope(weight: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient of a head."""
    leaf = weight.detach().requires_grad_()
    (found,) = torch.autograd.grad(loss(leaf), leaf)
    return found


def slope_by_logits(
    hidden: Tensor, weight: Tensor, answers: SparseOutputs, form: NaiveForm
) -> Tensor:
    """The same of a loss of full logits, a few rows at a time."""
    total = torch.zeros_like(weight)
    for start in range(0, len(hidden), 128):
        rows = slice(start, start + 128)
        few = cut(answers, rows)
        total += slope(weight, lambda w, r=rows, a=few: form(hidden[r] @ w.t(), a).sum())  # type: ignore[misc]
    return total / len(hidden)


def cut(answers: SparseOutputs, rows: slice) -> SparseOutputs:
    """Answers to some positions."""
    return SparseOutputs(
        answers.logits[rows], top=answers.top[rows], log_tail=answers.log_tail[rows]
    )


def gradients(words: Words) -> Iterator[dict[str, Any]]:
    """One row a student and target."""
    teacher = words.hidden @ words.head.t()
    entropy = float(-(teacher.softmax(-1) * teacher.log_softmax(-1)).sum(-1).mean())
    kept = {name: as_kept(Outputs(teacher[None]), form) for name, form in FORMS.items()}
    kept = {name: flat(answers) for name, answers in kept.items()}
    plain = {k: sparse_answers(teacher, k) for k in (8, 32, 128)}
    del teacher
    for stage, wanted in (("late", 0.137), ("early", 1.03)):
        hidden, weight, kl = student_of(words, wanted)
        true = slope(weight, lambda w, h=hidden: linear_divergence(h, w, words.hidden, words.head))  # type: ignore[misc]
        for name in (*FORMS, *NAIVE):
            if name in FORMS:
                bytes_each, answers = size(FORMS[name]), kept[name]
                ours = slope(
                    weight,
                    lambda w, h=hidden, a=answers: sparse_linear_divergence(h, w, a),  # type: ignore[misc]
                )
            else:
                k, form = NAIVE[name]
                bytes_each = size(Form("top", k))
                ours = slope_by_logits(hidden, weight, plain[k], form)
            yield {
                "row": f"gradient {stage}: {name}",
                "value": round(float((ours * true).sum() / (ours.norm() * true.norm())), 5),
                "unit": "cosine to the gradient of the full KL",
                "relative_error": round(float((ours - true).norm() / true.norm()), 4),
                "bytes_each": bytes_each,
                "kl": round(kl, 3),
                "entropy": round(entropy, 3),
                "positions": len(hidden),
                "runs": 1,
            }


def flat(answers: Outputs) -> SparseOutputs:
    """Of one row of positions, without the row."""
    assert isinstance(answers, SparseOutputs)
    drawn, mean = answers.drawn, answers.tail_mean
    return SparseOutputs(
        answers.logits[0],
        top=answers.top[0],
        log_tail=answers.log_tail[0],
        drawn=None if drawn is None else drawn[0],
        tail_mean=None if mean is None else mean[0],
    )


def size(form: Form, row: int = 1024, classes: int = 49_152) -> float:
    """Bytes of one position in rows of that length."""
    return round(Layout(form, (row, classes), {}).bytes / row, 2)


class Rows:
    """Rows of tokens whose answers are those of the positions, over and over."""

    def __init__(self, rows: int, row: int, batch: int):
        self.ids, self.views, self._batch = torch.arange(rows), 1, batch
        self._tokens = torch.randint(
            0, 49_152, (rows, row), generator=torch.Generator().manual_seed(0)
        )
        self._mask = torch.ones(rows, row, dtype=torch.bool)

    def identity(self) -> dict[str, Any]:
        """What the rows follow from."""
        return {"data": "rows", "augment": [], "seed": None}

    def __len__(self) -> int:
        return -(-len(self.ids) // self._batch)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """All rows, in order."""
        for ids in self.ids.split(self._batch)[start:]:
            yield Batch({"input_ids": self._tokens[ids]}, mask=self._mask[ids], ids=ids, view=0)


def rates(words: Words, form: Form, *, tokens: int, row: int, passes: int) -> dict[str, Any]:
    """Bytes, rates of filling and reading."""
    options = {"form": form.form, "k": form.k, "precision": form.precision, "draws": form.draws}
    few, classes = min(len(words.hidden), 256), len(words.head)
    logits = (words.hidden[:few] @ words.head.t()).view(1, few, classes)
    source = Rows(4, few, 1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.thread_time()
        with Cached(lambda batch: Outputs(logits), folder, source, name="dense", **options) as kept:
            kept.fill(source)
            filled = 4 * few / (time.thread_time() - start)
            answers = kept(next(source.epoch(0)))
    assert isinstance(answers, SparseOutputs)
    parts = answers.logits, answers.top, answers.log_tail, answers.drawn, answers.tail_mean
    many = [None if part is None else longer(part, row) for part in parts]

    def sparse(batch: Batch) -> Outputs:
        one = [None if part is None else part.expand(len(batch), *part.shape[1:]) for part in many]
        return SparseOutputs(one[0], top=one[1], log_tail=one[2], drawn=one[3], tail_mean=one[4])  # type: ignore[arg-type]

    source = Rows(tokens // row, row, 8)
    with (
        tempfile.TemporaryDirectory() as folder,
        Cached(sparse, folder, source, name="sparse", classes=classes, **options) as kept,
    ):
        whole = kept.fill(source)
        batches, spent, peak = list(source.epoch(0)), [], Peak()
        for _ in range(passes):
            begun = time.perf_counter(), time.thread_time()
            for batch in batches:
                kept(batch)
            spent.append((time.perf_counter() - begun[0], time.thread_time() - begun[1]))
    clock, own = (statistics.median(each) for each in zip(*spent, strict=True))
    every = len(source.ids) * row
    return {
        "value": round(every / clock),
        "unit": "tokens read a second",
        "cpu_reads": round(every / own),
        "runs": passes,
        "bytes_each": round(whole.record / row, 2),
        "cpu_filled": round(filled),
        "peak_mb": peak.grown,
    }


def longer(part: Tensor, row: int) -> Tensor:
    """Positions ``(1, N, ...)`` over and over, ``(1, row, ...)``."""
    return part.repeat(1, -(-row // part.shape[1]), *[1] * (part.ndim - 2))[:, :row]


def all_rates(words: Words, quick: bool) -> Iterator[dict[str, Any]]:
    """One row a form."""
    for name, form in FORMS.items():
        found = rates(
            words, form, tokens=1 << (15 if quick else 18), row=1024, passes=3 if quick else 7
        )
        yield {"row": f"rate: {name}", **found}


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute on two cores")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", type=Path, help="folder of a causal language model")
    parser.add_argument("--text", type=Path, help="a text for it to read")
    parser.add_argument("--positions", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--part", choices=("rates", "gradients", "outcome"))
    parser.add_argument("--record", type=Path, help="append the lines to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    parts = [chosen.part] if chosen.part else ["rates", "gradients", "outcome"]
    count, seeds, steps = chosen.positions, chosen.seeds, 150
    if chosen.quick:
        count, seeds, steps = min(count, 128), 1, 10
    longest = max(count, 3072 if "outcome" in parts and not chosen.quick else 0)
    words = words_of(chosen.model, chosen.text, longest, 128 if chosen.quick else 256)
    facts = {"model": chosen.model.name if chosen.model else "drawn", "seed": 0}
    facts |= {"threads": chosen.threads, **stamp()}
    some = replace(words, hidden=words.hidden[:count], following=words.following[:count])
    found = {
        "rates": lambda: all_rates(some, chosen.quick),
        "gradients": lambda: gradients(some),
        "outcome": lambda: outcomes(words.first(8192), seeds, steps),
    }
    for part in parts:
        for row in found[part]():
            told([{"benchmark": "teacher_cache_lm", **row, **facts}], chosen.record)


if __name__ == "__main__":
    main()
