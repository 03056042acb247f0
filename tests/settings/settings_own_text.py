"""Ways of learning from own text and from preferences, and the two processes that learn so."""

import os
import sys
from pathlib import Path

import torch
from settings_writing import END, WORDS, learner, observed, questions

from tutelage.core.batch import Batch
from tutelage.engine import Machine, fit
from tutelage.objectives import DPO, SoftTarget
from tutelage.settings import MiniLLM, OnPolicy, PolicyGradient, Preference


def pairs():
    found = []
    for k, batch in enumerate(questions(3, rows=8)):
        ids, variant = torch.arange(8) // 2 + 10 * k, torch.arange(8) % 2
        found.append(Batch(batch.inputs, batch.targets, batch.mask, ids, variant=variant))
    return found


def sevens(prompt, answer):
    return sum(word % WORDS == 7 for word in answer)


HOW = {"most": 5, "end": END}
WAYS = {
    "on_policy": lambda: OnPolicy(
        learner(), observed(7), SoftTarget(1.0), by="row", write_for=2, **HOW
    ),
    "minillm": lambda: MiniLLM(learner(), observed(7), **HOW),
    "policy_gradient, text": lambda: PolicyGradient(learner(), sevens, group=3, **HOW),
    "policy_gradient, token": lambda: PolicyGradient(
        learner(), sevens, group=3, per="token", **HOW
    ),
    "preference": lambda: Preference(learner(), DPO(beta=1.0)),
}


def learnt(name, machine):
    """The weights after six batches; or the line that refused it."""
    torch.manual_seed(0)
    setting = WAYS[name]()
    source = pairs() if name == "preference" else questions(3, rows=5)
    try:
        fit(setting, source, steps=6, machine=machine)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return setting.student.model.state_dict()


if __name__ == "__main__":
    shared = {
        f"{parallel}: {name}": learnt(name, Machine("cpu", parallel=parallel))
        for parallel in ("ddp", "fsdp")
        for name in WAYS
    }
    if os.environ["RANK"] == "0":
        torch.save(shared, Path(sys.argv[1]) / "shared.pt")
