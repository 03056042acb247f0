"""A table of your own (here written to a CSV file first), a recipe as data, and its report."""

import csv
import tempfile
from pathlib import Path

import torch
from rich.console import Console

from tutelage.recipe.reading import parse
from tutelage.recipe.run import run

RECIPE = """
recipe: 1
name: table
data: {{source: {{csv: {{path: "{path}", target: kind}}}}}}
teacher: {{model: {{mlp: {{hidden: [64, 64]}}}}, train: {{epochs: 15}}}}
student: {{model: {{mlp: {{hidden: [8]}}}}}}
objective: [{{ce: {{weight: 0.5}}}}, {{kd: {{weight: 0.5, temperature: 2}}}}]
train: {{epochs: 8, batch_size: 32, learning_rate: 0.05}}
export: false
"""

with tempfile.TemporaryDirectory() as folder:
    points = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    kinds = ["inside" if point.norm() < 1.8 else "outside" for point in points]
    path = Path(folder) / "points.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c", "d", "kind"])
        writer.writerows([*point.tolist(), kind] for point, kind in zip(points, kinds, strict=True))
    result = run(parse(RECIPE.format(path=path)), Path(folder) / "run", console=Console())
    print(sorted(made.name for made in (Path(folder) / "run").iterdir()))
    print(f"the student is right on {result.report['models']['student']['accuracy']:.1%}")
