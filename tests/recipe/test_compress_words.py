"""Wrong words of ``compress``: one line each, before anything is trained or written."""

import pytest
from compress_samples import INT8, NARROW, squeezed
from recipe_samples import changed, quiet_run, without, write

from tutelage.core.errors import TutelageError
from tutelage.recipe.compressing.choosing import best, gate, nearest, preferred
from tutelage.recipe.compressing.stages import stages_of
from tutelage.recipe.compressing.tree import nodes_of
from tutelage.recipe.sections import Budget, Compress, Train
from tutelage.recipe.validated import recipe_from
from typed import typed


def ways(**written):
    return lambda archive: squeezed(archive, ways=written)


def with_(key, value, **written):
    return lambda archive: changed(squeezed(archive, **written), key, value)


RESNET = {"resnet": {"depth": 8, "widths": [4, 8, 16]}}
WRONG = {
    "a stage's name": (ways(a=["prun"]), "compress.ways.a.0", "prun", "Did you mean 'prune'?"),
    "an option": (
        ways(a=[{"prune": {"shar": 0.5}}]),
        "compress.ways.a.0.prune.shar",
        "Did you mean 'share'?",
    ),
    "an option's type": (
        ways(a=[{"int8": {"method": "maximum"}}]),
        "compress.ways.a.0.int8_static.method",
        "maximum",
    ),
    "an option's range": (ways(a=[{"prune": {"share": 1.5}}]), "compress.ways.a.0.prune", "1.5"),
    "what is handed": (ways(a=[{"int8": {"target": "x"}}]), "compress.ways.a.0", "target"),
    "energy": (ways(a=[{"low_rank": {"energy": 2}}]), "compress.ways.a.0.low_rank", "energy"),
    "layers": (ways(a=[{"low_rank": {"layers": "zzz"}}]), "compress.ways.a.0.low_rank", "zzz"),
    "heal's key": (
        ways(a=[{"prune": {"heal": {"epoch": 3}}}]),
        "compress.ways.a.0.prune.heal.epoch",
        "Did you mean 'epochs'?",
    ),
    "heal's value": (
        ways(a=[{"prune": {"heal": {"epochs": 0}}}]),
        "compress.ways.a.0.prune.heal.epochs",
        "0",
    ),
    "heal is no mapping": (ways(a=[{"prune": {"heal": True}}]), "compress.ways.a.0.prune.heal"),
    "heal's optimizer": (
        ways(a=[{"prune": {"heal": {"optimizer": "sdg"}}}]),
        "compress.ways.a.0.prune.heal.optimizer",
        "Did you mean 'sgd'?",
    ),
    "heal of a file": (
        ways(a=[{"int8": {"heal": {"epochs": 1}}}]),
        "compress.ways.a.0.int8.heal",
        "trains nothing",
    ),
    "a stage after a file": (ways(a=["int8", "prune"]), "compress.ways.a.0.int8", "put it last"),
    "an empty way": (ways(a=[]), "compress.ways.a", "[]"),
    "no ways": (ways(), "compress.ways", "{}"),
    "a way's name": (ways(**{"a/b": ["int8"]}), "compress.ways", "a/b"),
    "the student's name": (ways(student=[INT8]), "compress.ways.student"),
    "two alike": (ways(a=[INT8], b=[INT8]), "compress.ways.b", "'a'"),
    "a step's name": (
        ways(a=[NARROW, INT8], **{"a-prune": [INT8]}),
        "compress.ways.a-prune",
        "choose another",
    ),
    "examples": (ways(a=[{"int8": {"examples": 4000}}]), "int8.examples", "4000", "400"),
    "a budget's key": (
        with_("compress/budget", {"byte": 1}),
        "compress.budget.byte",
        "Did you mean 'bytes'?",
    ),
    "a budget's value": (with_("compress/budget", {"bytes": -1}), "compress.budget.bytes", "-1"),
    "points for a share": (
        with_("compress/budget", {"accuracy_drop": 2}),
        "compress.budget.accuracy_drop",
        "2",
    ),
    "an empty budget": (with_("compress/budget", {}), "compress.budget", "limits nothing"),
    "prefer": (with_("compress/prefer", "speed"), "compress.prefer", "speed"),
    "a key": (with_("compress/way", {}), "compress.way", "Did you mean 'ways'?"),
    "no export": (with_("export", False), "compress", "export is false"),
    "processes": (with_("train/parallel", "ddp"), "compress", "train.parallel"),
    "peers": (with_("setting", "mutual"), "compress.ways.narrow.0.prune.heal", "mutual"),
    "a feature that is narrower": (
        with_("objective", [{"match": {"pairs": {"0": "0"}, "adapter": "none"}}]),
        "objective",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_it_is_one_line_with_key_and_value_before_anything_is_written(what, archive, tmp_path):
    recipe, *says = WRONG[what]
    with pytest.raises(TutelageError) as refused:
        quiet_run(recipe(archive), tmp_path / "out")
    line = str(refused.value)
    assert "\n" not in line
    for words in says:
        assert words in line, line
    assert not (tmp_path / "out").exists()


def test_check_plans_a_sweep_and_refuses_one_in_one_line(archive, tmp_path, monkeypatch):
    path = write(tmp_path / "r.yaml", squeezed(archive))
    code, said, err = typed(monkeypatch, "check", path)
    assert code == 0, err
    assert "healing" in said
    path = write(tmp_path / "r.yaml", squeezed(archive, ways={"a": ["halve"]}))
    code, _, err = typed(monkeypatch, "check", path)
    assert code == 2
    assert err.count("\n") == 1
    assert "compress.ways.a.0" in err


def test_heal_is_written_over_the_recipes_own_training():
    train = Train(epochs=7, learning_rate=0.3)
    written = Compress(ways={"a": [{"prune": {"heal": {"epochs": 2}}}]})
    (stage,) = stages_of(written, train)["a"]
    assert stage.heal == Train(epochs=2, learning_rate=0.3)


def test_equal_beginnings_are_one_step_and_unequal_ones_are_not():
    chain = [{"prune": {"share": 0.5}}, "int8"]
    other = [{"prune": {"share": 0.25}}, "int8"]
    half = [*chain[:1], "low_rank"]
    written = Compress(ways={"a": chain, "b": half, "c": other})
    nodes = nodes_of(stages_of(written, Train()))
    names = [(node.name, node.before, node.ends) for node in nodes]
    assert names == [
        ("a-prune", None, False),
        ("a", "a-prune", True),
        ("b", "a-prune", True),
        ("c-prune", None, False),
        ("c", "c-prune", True),
    ]


def point(name, size, p99, accuracy, drop):
    return {
        "name": name,
        "bytes": size,
        "latency_ms": {"p99": p99},
        "accuracy": {"mean": accuracy},
        "accuracy_drop": {"mean": drop, "low": drop - 0.01, "high": drop + 0.01},
    }


POINTS = [
    point("student", 100, 2.0, 0.90, 0.0),
    point("int8", 40, 1.0, 0.89, 0.01),
    point("tiny", 10, 0.5, 0.70, 0.20),
]


@pytest.mark.parametrize(
    ("limits", "prefer", "chosen"),
    [
        ({"bytes": 50}, "accuracy", "int8"),
        ({"bytes": 50}, "bytes", "tiny"),
        ({"bytes": 40, "accuracy_drop": 0.01}, "bytes", "int8"),
        ({"p99_ms": 5}, "accuracy", "student"),
        ({"p99_ms": 5}, "p99_ms", "tiny"),
        ({"accuracy_drop": 0}, "bytes", "student"),
        ({"bytes": 5}, "bytes", None),
        ({"bytes": 50, "p99_ms": 0.6, "accuracy_drop": 0.1}, "accuracy", None),
    ],
)
def test_the_choice_is_the_best_within_every_limit(limits, prefer, chosen):
    assert best(POINTS, limits, prefer) == chosen
    judged = gate(POINTS, limits, prefer)
    assert judged["passed"] == (chosen is not None)
    assert (judged["value"] <= judged["threshold"]) == (chosen is not None)


def test_the_nearest_breaks_fewest_limits_and_then_the_worst_by_least():
    assert nearest(POINTS, {"bytes": 5, "accuracy_drop": 0.3})["name"] == "tiny"
    assert nearest(POINTS, {"bytes": 20, "p99_ms": 0.7, "accuracy_drop": 0.05})["name"] == "tiny"
    assert nearest(POINTS, {"p99_ms": 0.9, "accuracy_drop": 0.012})["name"] == "int8"


def test_accuracy_decides_where_size_or_time_are_limited_and_size_elsewhere():
    for budget, expected in (
        (Budget(bytes=1, accuracy_drop=0.1), "accuracy"),
        (Budget(p99_ms=1.0), "accuracy"),
        (Budget(accuracy_drop=0.1), "bytes"),
    ):
        assert preferred(Compress(ways={}, budget=budget)) == expected
    assert preferred(Compress(ways={}, prefer="p99_ms")) == "p99_ms"


def test_what_a_run_resolved_is_a_recipe_again(archive):
    recipe = recipe_from(squeezed(archive))
    assert recipe_from(recipe.model_dump()) == recipe
    assert recipe_from(without(squeezed(archive), "compress")).compress is None
