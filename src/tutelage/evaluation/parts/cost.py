"""What an answer costs: multiplications, memory, time, energy; and what training cost."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.core.registry import register
from tutelage.evaluation.costs.energy import energy_per_answer, unmeasurable
from tutelage.evaluation.costs.latency import Effort, Latency, onnx_latency, torch_latency
from tutelage.evaluation.costs.macs import macs
from tutelage.evaluation.costs.memory import peak_memory
from tutelage.evaluation.costs.parameters import parameters, weight_bytes
from tutelage.evaluation.costs.wording import latency_findings, size_findings, training_findings
from tutelage.evaluation.faces.blocks import Block, Picture, Table, Words
from tutelage.evaluation.gates.gate import Gate, in_part
from tutelage.evaluation.onnx_model import OnnxModel
from tutelage.evaluation.part import AbstractPart, Finding
from tutelage.evaluation.predict import evaluating
from tutelage.evaluation.subjects import Subjects
from tutelage.evaluation.wording import BACKENDS, NAMES, large, milliseconds, size


@register("part", "cost")
class Cost(AbstractPart):
    """Parameters, bytes, multiply-accumulates, memory, latency and energy of one answer.

    Args:
        batch: Answers at once, beside one by one.
        seconds: Time for all latencies of a backend together.
        calls: Measured calls of a model under each condition, where the time allows.
    """

    title = "What an answer costs"
    measures_time = True
    gates = {  # noqa: RUF012  # as the base has it
        "activation_bytes": Gate(
            "memory of one answer beside the weights",
            at_most=True,
            figure=in_part("cost", "models", "student", "memory"),
        ),
    }

    def __init__(self, *, batch: int = 32, seconds: float = 2.0, calls: int = 100):
        if batch < 2 or calls < 1 or not seconds > 0:
            raise DataError(
                f"cost: got batch {batch}, seconds {seconds}, calls {calls}: batch is at least 2, "
                "the others above 0."
            )
        self.batch, self.seconds, self.calls = batch, seconds, calls

    def figures(self, subjects: Subjects) -> dict[str, Any]:
        """Of every model, then of every condition."""
        many = min(self.batch, len(subjects.test))
        batch = subjects.test.batch(torch.arange(many))
        return {
            "batch": many,
            "models": {role: _costs(subjects, role, batch) for role in subjects.roles},
            "latency": self._latencies(subjects, batch),
            "energy": self._energy(subjects, batch),
            "training": {arm: dict(facts) for arm, facts in subjects.training.items()},
        }

    def findings(self, figures: Mapping[str, Any]) -> list[Finding]:
        """Ratios in words, and what could not be measured."""
        found = [
            *latency_findings(figures["latency"], figures["batch"]),
            *size_findings(figures["models"]),
            *training_findings(figures["training"]),
        ]
        return sorted(found, key=lambda one: one.status != "warning")

    def blocks(self, figures: Mapping[str, Any]) -> Sequence[Block]:
        """Costs of each model, then times under each condition."""
        from tutelage.evaluation.costs.plots import latencies

        shown: list[Block] = [_sizes(figures)]
        shown += [
            Words(f"{what} of the {NAMES[role]}'s answers could not be counted: {model[why]}")
            for role, model in figures["models"].items()
            for why, what in (("macs_why", "Multiply-accumulates"), ("memory_why", "Memory"))
            if model[why]
        ]
        if figures["latency"]:
            told = (
                "Time of a call: the usual one (p50) and the slow one (p99). Lower is better; "
                "each step of the scale is ten times longer."
            )
            shown += [Picture(latencies(figures["latency"]), told), _times(figures["latency"])]
        energy = figures["energy"]
        if energy["why"]:
            shown.append(Words(f"Energy is not measurable here: {energy['why']}."))
        else:
            each = (f"{NAMES[r]} {1000 * j:.3g} mJ" for r, j in energy["joules"].items())
            shown.append(
                Words(f"Energy of one answer in batches, idle power taken off: {', '.join(each)}.")
            )
        return [*shown, *_training(figures["training"])]

    def _latencies(self, subjects: Subjects, batch: Batch) -> list[dict[str, Any]]:
        models = {
            role: model
            for role, model in subjects.models.items()
            if not isinstance(model, OnnxModel) and _answers_here(subjects, role)
        }
        files = dict(subjects.files) | {
            role: model.path
            for role, model in subjects.models.items()
            if isinstance(model, OnnxModel)
        }
        ways = [(threads, each) for threads in _threads() for each in (batch[:1], batch)]
        effort = Effort(warmup=3, calls=self.calls, turn=5, seconds=self.seconds / len(ways))
        found = []
        for threads, each in ways:
            times: list[tuple[str, Latency]] = []
            if models:
                measured = torch_latency(models, each, threads=threads, effort=effort)
                times += measured.items()
            if files:
                measured = onnx_latency(files, each, threads=threads, effort=effort)
                times += measured.items()
            found += [{"role": role, **latency.as_dict()} for role, latency in times]
        return found

    def _energy(self, subjects: Subjects, batch: Batch) -> dict[str, Any]:
        why = unmeasurable()
        if why is not None:
            return {"joules": {}, "why": why}
        runs = {role: _run(subjects.models[role], batch) for role in subjects.roles}
        return {"joules": energy_per_answer(runs, batch=len(batch)), "why": None}


def _costs(subjects: Subjects, role: str, batch: Batch) -> dict[str, Any]:
    model, found = subjects.models[role], dict[str, Any]()
    observed = subjects.observed(role)
    if observed is not None:
        found |= {"parameters": parameters(observed).total, "bytes": weight_bytes(observed)}
    elif isinstance(model, OnnxModel):
        found |= {"parameters": model.parameters, "bytes": model.bytes}
    else:
        found |= {"parameters": None, "bytes": None}
    found |= {"macs": None, "macs_why": None}
    found |= {"memory": None, "memory_of_batch": None, "memory_why": None}
    try:
        found["macs"] = model.macs() if isinstance(model, OnnxModel) else macs(model, batch)
    except ModelError as error:
        found["macs_why"] = str(error)
    if isinstance(model, OnnxModel):
        return found | {"memory_why": "an ONNX file does not show its operations to torch."}
    try:
        found["memory"] = peak_memory(model, batch[:1])
        found["memory_of_batch"] = peak_memory(model, batch)
    except ModelError as error:
        found["memory_why"] = str(error)
    return found


def _answers_here(subjects: Subjects, role: str) -> bool:
    """Whether the model is on the CPU, where all are measured."""
    observed = subjects.observed(role)
    return observed is None or all(p.device.type == "cpu" for p in observed.parameters())


def _threads() -> list[int]:
    """One, two, and all cores that this process may use."""
    linux = sys.platform == "linux"
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    return sorted({many for many in (1, 2, cores) if many <= cores})


def _run(model: Any, batch: Batch) -> Any:
    def run() -> None:
        with evaluating(model), torch.inference_mode():
            model(batch)

    return run


def _sizes(figures: Mapping[str, Any]) -> Table:
    models, batch = figures["models"], figures["batch"]

    def row(name: str, key: str, word: Any) -> tuple[str, ...]:
        return (name, *(word(model[key]) for model in models.values()))

    rows = (
        row("Parameters", "parameters", _known(large)),
        row("Bytes of the weights", "bytes", _known(size)),
        row("Multiply-accumulates of one answer", "macs", _known(large)),
        row("Memory of one answer, beside the weights", "memory", _known(size)),
        row(f"Memory of {batch} answers at once", "memory_of_batch", _known(size)),
    )
    return Table(("", *(NAMES[role].capitalize() for role in models)), rows)


def _known(word: Any) -> Any:
    return lambda value: "not counted" if value is None else word(value)


def _times(latencies: Sequence[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            f"{BACKENDS.get(each['backend'], each['backend'])}, {NAMES[each['role']]}",
            f"{each['threads']}",
            f"{each['batch']}",
            milliseconds(each["p50"]),
            milliseconds(each["p99"]),
            f"{1000 * each['batch'] / each['p50']:,.0f}" if each["p50"] else "–",
            f"{each['calls']:,}",
        )
        for each in latencies
    )
    head = ("", "Threads", "Batch", "p50", "p99", "Answers a second", "Calls measured")
    return Table(head, rows, "All times, models measured in turns", folded=True)


def _training(training: Mapping[str, Mapping[str, float]]) -> list[Block]:
    if not training:
        return []
    rows = tuple(
        (
            NAMES.get(arm, arm).capitalize(),
            f"{facts.get('runs', 1):.0f}",
            f"{facts['steps']:,.0f}",
            f"{facts['seconds']:,.1f} s",
        )
        for arm, facts in training.items()
    )
    head = ("Training", "Times trained", "Steps in all", "Time in all")
    return [Table(head, rows, "What the training cost")]
