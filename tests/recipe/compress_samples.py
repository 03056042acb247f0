"""Small recipes that compress: rows of pixels, linear layers, files in a second each."""

import json

from recipe_samples import small

HEAL = {"epochs": 6, "learning_rate": 0.05}
NARROW = {"prune": {"share": 0.75, "heal": HEAL}}
INT8 = {"int8": {"examples": 64}}


def squeezed(archive, **compress):
    """A recipe whose student has units to spare."""
    recipe = small(archive)
    del recipe["export"]
    ways = {
        "int8": [INT8],
        "narrow": [NARROW, INT8],
        "narrow_float": [NARROW],
        "raw": [{"prune": {"share": 0.75}}],
    }
    section = {"ways": ways, "budget": {"bytes": 200_000, "accuracy_drop": 0.5}, **compress}
    made = {
        **recipe,
        "student": {"model": {"mlp": {"hidden": [32, 32]}}},
        "train": {**recipe["train"], "epochs": 6},
        "baseline": False,
        "report": "none",
        "compress": section,
    }
    return json.loads(json.dumps(made))  # nothing is there twice: YAML would write aliases
