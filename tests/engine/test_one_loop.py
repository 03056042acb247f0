"""One loop: nobody but `fit` goes backward or lets an optimizer step."""

import ast
from pathlib import Path

import pytest

import tutelage

ROOT = Path(tutelage.__file__).parent
LOOP = ROOT / "engine" / "fit.py"


def loops(source, name):
    """Lines of ``source`` that do what only the loop may do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).lower()
            stepping = any(word in owner for word in ("optim", "scaler"))
            if node.func.attr == "backward" or (node.func.attr == "step" and stepping):
                yield f"{name}:{node.lineno}: {ast.unparse(node)}"


def test_there_is_no_second_loop():
    files = sorted(ROOT.rglob("*.py"))
    assert LOOP in files
    found = [
        line
        for file in files
        if file != LOOP
        for line in loops(file.read_text(), str(file.relative_to(ROOT)))
    ]
    assert found == [], "only engine/fit.py may do this: yield an Update instead"


def test_the_loop_is_found_by_this_test():
    assert len(list(loops(LOOP.read_text(), "fit"))) == 2


@pytest.mark.parametrize(
    "line",
    ["loss.backward()", "self.optimizer.step()", "optim[0].step(closure)", "scaler.step(o)"],
)
def test_a_second_loop_would_be_noticed(line):
    assert list(loops(line, "x.py")) == [f"x.py:1: {line}"]


def test_steps_of_other_things_are_allowed():
    assert list(loops("self.step(learner); schedule.step(); walk.step()", "x.py")) == []
