"""What a recipe reaches: accuracies over its seeds, the gain with its interval, and the savings.

    python benchmarks/recipe.py recipes/quickstart.yaml          # the figures of the README
    python benchmarks/recipe.py recipes/quickstart.yaml --quick  # one seed and epoch: it runs

Prints one JSON object a line at the end; committed ones lie in benchmarks/results/.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tutelage.core.errors import TutelageError
from tutelage.recipe.reading import Data, assign, read
from tutelage.recipe.run import run

QUICK = (
    "seeds=[0]",
    "train.epochs=1",
    "teacher.train.epochs=1",
    "baseline.epochs=5",
    "tune=null",
    "export=false",
)


def rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures of one report worth keeping beside each other."""
    models, compared = report["models"], report["comparison"]
    seeds = compared["seeds"]
    text = report.get("kind") == "language"
    key, what, unit = ("nll", "loss", "nats a token") if text else ("accuracy", "accuracy", "share")
    yield {"row": f"teacher {what}", "value": models["teacher"][key], "unit": unit}
    for arm in ("baseline", "student"):
        values = [seed[arm] for seed in seeds if seed[arm] is not None]
        if values:
            mean = sum(values) / len(values)
            yield {"row": f"{arm} {what}", "value": mean, "unit": unit, "each": values}
    if compared["gain"]:
        gain = compared["gain"]
        interval = [gain["low"], gain["high"]]
        yield {"row": "gain", "value": gain["mean"], "unit": unit, "interval": interval}
    for arm, found in (("student", compared), ("baseline", compared["control"])):
        if found is not None and found["agreement"] is not None:
            row = f"{arm}'s agreement with the teacher"
            yield {"row": row, "value": found["agreement"], "unit": "share"}
    for figure in ("parameters", "macs"):
        few, many = models["student"][figure], models["teacher"][figure]
        if few and many:
            yield {"row": f"teacher {figure} / student's", "ratio": many / few, "unit": "x"}
    slow, fast = (models[role]["latency_ms"] for role in ("teacher", "student"))
    where = f"{fast['backend']}, {fast['threads']} thread, batch {fast['batch']}"
    ratio = slow["p50"] / fast["p50"]
    yield {"row": f"teacher p50 / student's ({where})", "ratio": ratio, "unit": "x"}


def main() -> None:
    """Run the recipe in a folder of its own and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path, nargs="?", default=Path("recipes/quickstart.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="keep the run's folder here")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    try:
        data: Data = assign(read(chosen.recipe), [*(QUICK if chosen.quick else ()), *chosen.set])
        with tempfile.TemporaryDirectory() as spare:
            out = chosen.out or Path(spare) / "run"
            report = run(data, out, console=Console(stderr=True)).report
    except TutelageError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    environment = report["environment"]
    kept = {
        "seeds": data.get("seeds", [0]),
        "date": environment["date"],
        "versions": environment["versions"],
        "hardware": f"{environment['device']}, {environment['cores']} cores",
    }
    for row in rows(report):
        print(json.dumps({"benchmark": data["name"], **row, "runs": len(kept["seeds"]), **kept}))


if __name__ == "__main__":
    main()
