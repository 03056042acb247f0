"""One-pass linear head against full logits and public fused heads, on the same tensors.

Each measurement is a process of its own, so that its peak is its own: it makes the tensors, then
one pass forward and backward, whose peak memory (the inputs are there before) and CPU time count.
Ways take turns; a ratio is the median over rounds.

Hidden states are drawn, not a model's: widths of unlike scale, a teacher with an entropy of 5.6
nats, and a student that differs by noise in states and head. `precision` rows give them in bf16 to
each way, and hold loss and gradients against full logits in fp64.

``--rivals FOLDER`` adds trl 1.16.0 (`chunked_divergence`) and liger-kernel 0.8.5 (`chunked_loss`),
installed there by pip, without what they depend on, where they are missing. Of trl the kernel's two
files run, unchanged; they ask transformers whether Triton is there (here: no), and its trainer for
a gather under ZeRO (here: none), and are answered without importing either.

    python benchmarks/lm_head.py [--quick] [--rivals FOLDER] [--record FILE] [--rounds R]
        [--part speed|precision]
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.rivals.heads import WAY, Case, Tensors, prepared, tensors
from benchmarks.shared import Peak, stamp, told

WAYS = ("one_pass", "full_logits", "trl", "liger")

SPEED = (
    Case(1024, 49_152, "reverse"),
    Case(512, 151_936, "forward"),
    Case(1024, 49_152, "js"),
)
LONG = (Case(256, 49_152, "forward"), Case(4096, 49_152, "forward"))
PRECISION = tuple(
    Case(128, 49_152, divergence, gap)
    for gap in (0.5, 0.13)
    for divergence in ("forward", "reverse")
)


def step(way: str, t: Tensors, divergence: str) -> float:
    """The loss of one pass forward and backward, with gradients from nothing."""
    t.hidden.grad = t.weight.grad = None
    loss = WAY[way](t, divergence)
    loss.backward()
    return float(loss.detach())


def speed_of(way: str, case: Case, frozen: bool) -> Mapping[str, float]:
    """In a process of its own: MiB beyond the inputs, CPU seconds."""
    t = tensors(case, torch.float32)
    t.weight.requires_grad_(not frozen)
    step(way, tensors(Case(8, 100, case.divergence), torch.float32), case.divergence)
    gc.collect()
    peak, start = Peak(), time.process_time()
    loss = step(way, t, case.divergence)
    return {"mib": peak.grown, "cpu_s": time.process_time() - start, "loss": loss}


def precision_of(way: str, case: Case) -> Mapping[str, float]:
    """In a process of its own: relative errors of bf16 against full logits in fp64."""
    t = tensors(case, torch.bfloat16)
    loss = step(way, t, case.divergence)
    exact = Tensors(*(each.detach().double() for each in vars(t).values()))
    exact.hidden.requires_grad_()
    exact.weight.requires_grad_()
    wanted = step("full_logits", exact, case.divergence)
    found = {"loss_error": abs(loss / wanted - 1), "loss": wanted}
    for name in ("hidden", "weight"):
        true = getattr(exact, name).grad
        off = (getattr(t, name).grad.double() - true).norm() / true.norm()
        found[f"{name}_error"] = float(off)
    return found


def measured(kind: str, way: str, case: Case, rivals: Path | None, **more: Any) -> dict[str, Any]:
    """What one process found, or ``{"failed": why}``."""
    work = json.dumps({"kind": kind, "way": way, "case": asdict(case), **more})
    found = [os.environ.get("PYTHONPATH", ""), str(rivals or "")]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, found))}
    command = [sys.executable, __file__, "--work", work]
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def work(given: str, threads: int) -> None:
    """One process's part."""
    torch.set_num_threads(threads)
    asked = json.loads(given)
    case = Case(**asked["case"])
    if asked["kind"] == "speed":
        print(json.dumps(speed_of(asked["way"], case, asked.get("frozen", False))))
    else:
        print(json.dumps(precision_of(asked["way"], case)))


def speed_rows(
    case: Case, ways: Sequence[str], rounds: int, rivals: Path | None
) -> Iterator[dict[str, Any]]:
    """One row a way: medians over rounds, and the ratio of its CPU time to the one pass's."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            runs[way].append(measured("speed", way, case, rivals))
    for way, each in runs.items():
        row = {
            "benchmark": "lm_head",
            "row": f"{case.name}, {way}",
            "unit": "MiB beyond the inputs",
        }
        failed = [run["failed"] for run in each if "failed" in run]
        if failed:
            yield {**row, "failed": failed[0]}
            continue
        ratios = [
            run["cpu_s"] / ours["cpu_s"] for run, ours in zip(each, runs[ways[0]], strict=True)
        ]
        yield {
            **row,
            "value": statistics.median(run["mib"] for run in each),
            "cpu_s": round(statistics.median(run["cpu_s"] for run in each), 2),
            "ratio": round(statistics.median(ratios), 3),
            "loss": each[0]["loss"],
            "runs": rounds,
        }


def all_speed_rows(
    ways: Sequence[str], rounds: int, rivals: Path | None, quick: bool
) -> Iterator[dict[str, Any]]:
    """Cases against each other way, then longer ones and a frozen head for ours alone."""
    if quick:
        yield from speed_rows(Case(256, 49_152, "reverse"), ways, rounds, rivals)
        return
    for case in SPEED:
        yield from speed_rows(case, ways, rounds, rivals)
    for case in LONG:
        yield from speed_rows(case, ways[:1], 1, rivals)
    found = measured("speed", ways[0], SPEED[0], rivals, frozen=True)
    row = {"benchmark": "lm_head", "row": f"{SPEED[0].name}, one_pass, frozen head", "runs": 1}
    yield {**row, "value": found.pop("mib", None), "unit": "MiB beyond the inputs", **found}


def precision_rows(
    cases: Sequence[Case], ways: Sequence[str], rivals: Path | None
) -> Iterator[dict[str, Any]]:
    """One row a way and case."""
    for case in cases:
        for way in ways:
            found = measured("precision", way, case, rivals)
            name = f"precision bf16 {case.name} gap={case.gap}, {way}"
            row = {"benchmark": "lm_head", "row": name, "value": found.get("weight_error")}
            yield {**row, "unit": "relative error of dW", "runs": 1, **found}


def rows(chosen: argparse.Namespace, rivals: Path | None) -> Iterator[dict[str, Any]]:
    """All that was asked for."""
    ways = WAYS if rivals else WAYS[:2]
    if chosen.part != "precision":
        yield from all_speed_rows(ways, chosen.rounds, rivals, chosen.quick)
    if chosen.part != "speed":
        yield from precision_rows(PRECISION[-1:] if chosen.quick else PRECISION, ways, rivals)


def main() -> None:
    """Measure, print, and keep where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="at most a minute on two cores")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rivals", type=Path, help="folder of trl and liger-kernel")
    parser.add_argument("--record", type=Path, help="append the lines to this file")
    parser.add_argument("--rounds", type=int, default=3, help="processes a way and case")
    parser.add_argument("--part", choices=("speed", "precision"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.work:
        work(chosen.work, chosen.threads)
        return
    rivals = prepared(chosen.rivals.resolve()) if chosen.rivals else None
    torch.set_num_threads(chosen.threads)
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    for row in rows(chosen, rivals):
        told([{**row, "threads": chosen.threads, "seed": 0, **stamp()}], chosen.record)
    if not rivals:
        print("trl and liger-kernel were not asked: give --rivals FOLDER.", file=sys.stderr)


if __name__ == "__main__":
    main()
