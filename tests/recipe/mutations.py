"""Recipes that a careless user may write, each with what its one line must name."""

import json
from dataclasses import dataclass, field

import torch
import yaml
from recipe_samples import changed, large, small, without


@dataclass(frozen=True)
class Mutation:
    """One wrong recipe.

    Attributes:
        name: What is wrong.
        text: The recipe's file.
        says: Words that must be in the line: the key, the value.
        sets: For ``--set``.
        entries: Commands that must refuse it.
    """

    name: str
    text: str
    says: tuple[str, ...]
    sets: tuple[str, ...] = ()
    entries: tuple[str, ...] = field(default=("run", "check"))


def everything(files):
    """All mutations, over recipes whose data lies in the folder ``files``."""
    bases = {
        "small": small(files / "good.npz"),
        "large": large(files / "good.npz"),
    }
    found = []
    for base, recipe in bases.items():
        found += [*_misspelt(base, recipe), *_added(base, recipe), *_typed(base, recipe)]
        found += _missing(base, recipe)
    found += [*_out_of_range(bases), *_names(bases), *_files(bases, files), *_shapes(bases)]
    found += [*_texts(bases["small"]), *_assignments(bases), *_together(bases, files)]
    return found


def of(recipe, name, *says, **options):
    """A mutation whose recipe is data."""
    return Mutation(name, yaml.safe_dump(recipe, sort_keys=False), says, **options)


# ---- keys


def _levels(recipe, path=""):
    """All mappings of a recipe by path; lists are walked through."""
    if isinstance(recipe, dict):
        yield path, recipe
        pairs = recipe.items()
    else:
        pairs = enumerate(recipe)
    for key, value in pairs:
        if isinstance(value, (dict, list)):
            yield from _levels(value, f"{path}/{key}".strip("/"))


def _free(path):
    """Whether any key may stand there: names of things and features, keys that are tuned."""
    return path.endswith("pairs") or path in ("tune/student", "tune/baseline")


def _holds_name(path, level):
    """Whether this mapping is ``{name: options}``, where the key is a registered name."""
    last = path.split("/")[-1]
    listed = last.isdigit()
    return listed or last in ("model", "source", "optimizer", "resolve", "schedule")


def _misspelt(base, recipe):
    for path, level in _levels(recipe):
        for key in level:
            if _free(path):
                continue
            wrong = key[:-1] if len(key) > 4 else f"{key}x"
            place = f"{path}/{key}".strip("/")
            mutated = changed(without(recipe, place), f"{path}/{wrong}".strip("/"), level[key])
            if place == "recipe":
                yield of(mutated, f"{base}: {place} misspelt", "recipe", "version")
                continue
            what = repr(wrong) if _holds_name(path, level) else wrong
            yield of(mutated, f"{base}: {place} misspelt", what, _dotted(path, level, wrong))


def _dotted(path, level, key):
    """How the line names a place: with the name of the thing for entries of lists."""
    if _holds_name(path, level) or path == "gates":
        return path.replace("/", ".")
    return f"{path}/{key}".strip("/").replace("/", ".")


def _added(base, recipe):
    for path, level in _levels(recipe):
        if not _free(path):
            mutated = changed(recipe, f"{path}/colour".strip("/"), "mauve")
            says = ("colour",) if _holds_name(path, level) else ("colour", "mauve")
            yield of(mutated, f"{base}: a key more in {path or 'the recipe'}", *says)


# ---- types


def _typed(base, recipe):
    for path, value in _leaves(recipe):
        for wrong in _wrong_types(path, value):
            # Of an option that is a list, the whole list is shown.
            key = path.removesuffix("/0").removesuffix("/1") if "model" in path else path
            says = (key.replace("/", "."), _shown(wrong))
            yield of(changed(recipe, path, wrong), f"{base}: {path} is {wrong!r}", *says)


def _leaves(recipe, path=""):
    pairs = recipe.items() if isinstance(recipe, dict) else enumerate(recipe)
    for key, value in pairs:
        place = f"{path}/{key}".strip("/")
        if "pairs/" in place or "tune/student" in place or "tune/baseline" in place:
            continue
        if isinstance(value, (dict, list)):
            yield from _leaves(value, place)
        else:
            yield place, value


def _wrong_types(path, value):
    """Values of another type than ``value``, as somebody may write them."""
    if isinstance(value, bool):
        return ["yes", 1]
    if path.endswith("per_stage"):
        return ["many", True, 1.5]
    if isinstance(value, int):
        return ["many", True, [value, value]] if path != "recipe" else ["one"]
    if isinstance(value, float):
        return [f"{value} ", {"value": value}]
    if path.endswith(("augment/1",)):
        return [7]
    if path.endswith("adapter"):
        return [3]
    return [12, ["a", "b"]]


def _shown(value):
    """The start of the value as the line has it."""
    return repr(value)[:20]


def _missing(base, recipe):
    for key in ("recipe", "name", "data", "teacher", "student", "objective"):
        yield of(without(recipe, key), f"{base}: no {key}", key)
    for key in ("data/source", "teacher/model", "student/model"):
        yield of(without(recipe, key), f"{base}: no {key}", key.replace("/", "."))
    yield of(without(recipe, "data/source/npz/path"), f"{base}: no path", "data.source.npz.path")
    for key in ("train", "data", "teacher", "student", "objective", "seeds"):
        for empty in (None, 3, "all", [[]]):
            yield of(changed(recipe, key, empty), f"{base}: {key} is {empty!r}", key)


# ---- values


def _out_of_range(bases):
    nan, inf = float("nan"), float("inf")
    for path, wrongs in {
        "train/epochs": [0, -1, 10**9, 1.5, nan],
        "train/batch_size": [0, -32, 10**12],
        "train/learning_rate": [0, -0.1, nan, inf, 1e300],
        "train/clip": [0, -1, inf],
        "train/average": [0, 1, 1.5, -0.1],
        "train/patience": [0, -1],
        "train/validate_every": [0, -3],
        "train/accumulate": [0, -2],
        "train/workers": [-1, 10**6],
        "train/precision": ["fp8", "float32", ""],
        "train/keep": ["worst", ""],
        "train/parallel": ["deepspeed"],
        "train/device": ["gpu", "cuda:x", "meta", "tpu:0", "", "cpu:99"],
        "train/optimizer/sgd/momentum": [nan],
        "train/optimizer/sgd/weight_decay": [inf],
        "train/schedule/one_cycle/warmup": [-1, 2, 1.0],
        "baseline/epochs": [0, -5],
        "baseline/learning_rate": [-1],
        "teacher/train/epochs": [0],
        "teacher/seed": [-1],
        "teacher/labels": ["few"],
        "teacher/expect": [1.5, -0.1, 93],
        "teacher/intake/size": [0, -28, 10**6],
        "teacher/intake/mean": [[], [0.1, 0.2], [nan]],
        "teacher/intake/std": [[0], [-1], [0.1, 0.2], 0.3],
        "student/intake/size": [0],
        "student/graft": [3, "pool"],
        "data/labels": [0, -5, 3, 10**9],
        "data/variants": ["turns", 3],
        "data/source/npz/validation": [-1, 0, 10**9, 2.5],
        "data/source/npz/test": [0, 600, 5],
        "seeds": [[], [-1], [1, 1], ["a"], 3, list(range(101))],
        "objective/0/ce/weight": [nan, inf, "half"],
        "objective/0/ce/label_smoothing": [-0.1, 2],
        "objective/1/kd/temperature": [0, -4, nan, inf],
        "objective": [[]],
        "tune/seed": [3, -1],
        "tune/student/train.learning_rate": [[], [-1], ["fast"], 0.1],
        "gates/accuracy": [90, nan, "high"],
        "name": ["", "../evil", "a/b", "a b", "käse", ".hidden", "x" * 101, "a\nb", "..", "-x"],
        "recipe": [0, 2, 1.5, "1", None],
    }.items():
        for wrong in wrongs:
            key = path.replace("/", ".")
            says = (key, _number(wrong))
            yield of(changed(bases["large"], path, wrong), f"{path} is {wrong!r:.40}", *says)
    for key, value in (
        *(("views", wrong) for wrong in (0, -1, 1.5, "all")),
        *(("k", wrong) for wrong in (0, -3, 11)),
        *(("precision", wrong) for wrong in ("fp8", "", 16)),
        ("form", "sparse"),
        ("features", "layer1"),
        ("folder", ""),
    ):
        kept = {"views": 2, "form": "top", "features": ["layer1"], key: value}
        recipe = changed(bases["large"], "teacher/cache", kept)
        yield of(recipe, f"cache of {key} {value!r}", "teacher.cache", key, _number(value))
    for shift in (-2, 0, 1000):
        recipe = changed(bases["large"], "train/augment/0/shift/pixels", shift)
        yield of(recipe, f"shift by {shift}", "train.augment", str(shift))
    for name, options in (
        ("flip", {"probability": 2}),
        ("cutout", {"size": 0}),
        ("mixup", {"alpha": -1}),
        ("cutmix", {"probability": -0.5}),
        ("colour", {"brightness": -3}),
    ):
        recipe = changed(bases["large"], "train/augment", [{name: options}])
        yield of(recipe, f"{name} {options}", f"train.augment.0.{name}.{next(iter(options))}")
    for name, options in (
        ("multi_step", {"milestones": [0.9, 0.1]}),
        ("cosine", {"floor": 2}),
        ("constant", {"warmup": 1}),
    ):
        recipe = changed(bases["large"], "train/schedule", {name: options})
        yield of(recipe, f"{name} {options}", f"train.schedule.{name}.{next(iter(options))}")
    for option, value in (("momentum", -1), ("weight_decay", -0.1)):
        recipe = changed(bases["large"], f"train/optimizer/sgd/{option}", value)
        yield of(recipe, f"{option} of {value}", "train.optimizer.sgd", option, str(value))
    for key, value in (("0/ce/weight", 1e308), ("1/kd/temperature", 1e-300)):
        *place, option = key.split("/")
        recipe = changed(bases["large"], f"objective/{key}", value)
        says = (f"objective.{'.'.join(place)}", option, repr(value))
        yield of(recipe, f"{option} of {value}", *says)
    recipe = changed(bases["large"], "student/intake/size", 1)
    yield of(recipe, "images of one pixel", "student.model", "intake.size", "4x0x0")
    recipe = changed(bases["large"], "train/optimizer", {"adamw": {"beta1": 1.5}})
    yield of(recipe, "beta1 of 1.5", "train.optimizer.adamw", "beta1")
    for role in ("teacher", "student"):
        for model, options in (
            ("resnet", {"depth": 21}),
            ("resnet", {"width": 0}),
            ("vgg", {"widths": []}),
            ("vgg", {"widths": [-4]}),
            ("vgg", {"widths": [10**7, 10**7]}),
            ("mlp", {"hidden": [10**12]}),
            ("mlp", {"hidden": [0]}),
            ("mlp", {"dropout": 1.5}),
            ("vit", {"patch": 5}),
            ("vit", {"heads": 7}),
            ("shufflenetv2", {"multiplier": 0.3}),
            ("gru", {"layers": 0}),
        ):
            recipe = changed(bases["small"], f"{role}/model", {model: options})
            yield of(recipe, f"{role} {model} {options}", f"{role}.model", next(iter(options)))


def _number(value):
    if isinstance(value, list) and value:
        value = value[-1]
    return {"nan": "nan", "inf": "inf"}.get(str(value), repr(value)[:12])


# ---- names of registered things


def _names(bases):
    for path, wrongs in {
        "data/source": ["fashion_mnst", "imagenet", "", "npz ", "os.system", {"npzz": {}}],
        "teacher/model": ["resnet21", "torch.nn.Linear", "", {"vggg": {}}, "../lenet"],
        "student/model": ["lenet6", {"": {}}, "LeNet", "timm:no_such_model", "hf:/no/such/folder"],
        "objective/1": ["kdd", {"soft_target": {}}, "", {"kd": {}, "ce": {}}, {"kd": [1]}],
        "objective/2": [{"match": {}}, {"match": {"pairs": {}}}, "at"],
        "train/optimizer": ["adam", "SGD", {"sgd": {"lr": 0.1}}, {"sgd": {"learning_rate": 1}}],
        "train/schedule": ["linear", "none", {"cosine": {"warm_up": 0.1}}],
        "train/augment": [["rotate"], [{"shift": {"by": 2}}], ["flip", {}], "flip", [["flip"]]],
    }.items():
        for wrong in wrongs:
            where = path.replace("/", ".")
            says = _inner(wrong)
            yield of(changed(bases["large"], path, wrong), f"{path} is {wrong!r}", where, says)
    for adapter in ("lienar", "", {"linear": {"bais": True}}, {"a": {}, "b": {}}, {"conv1x1": 3}):
        recipe = changed(bases["large"], "objective/2/match/adapter", adapter)
        yield of(recipe, f"adapter {adapter!r}", "objective.2", _inner(adapter))
    for gate in ("acuracy", "latency", ""):
        yield of(changed(bases["large"], "gates", {gate: 1}), f"gate {gate!r}", "gates", repr(gate))
    yield of(changed(bases["small"], "gates", [0.9]), "gates is a list", "gates", "0.9")
    recipe = {**bases["small"], "baseline": False, "gates": {"gain": 0.01}}
    yield of(recipe, "a gain over no baseline", "gates.gain", "0.01", "baseline")
    for key in ("train", "epochs", "train.", "data.labels", "train.lerning_rate", "objective.at.x"):
        recipe = changed(bases["large"], "tune/student", {key: [1, 2]})
        yield of(recipe, f"tune {key}", "tune.student", key)
    recipe = changed(bases["large"], "tune/baseline", {"objective.kd.temperature": [1]})
    yield of(recipe, "tune the baseline's objective", "tune.baseline", "objective.kd.temperature")
    recipe = changed(bases["large"], "baseline", False)
    yield of(recipe, "tune no baseline", "tune.baseline", "baseline: false")


def _inner(wrong):
    """Some word of a wrong value that the line must show."""
    if isinstance(wrong, list):
        wrong = wrong[-1]
    while isinstance(wrong, dict) and wrong:
        key, inner = next(iter(wrong.items()))
        if not isinstance(inner, dict) or not inner:
            return key
        wrong = inner
    return repr(wrong).strip("'") if wrong else ""


# ---- files


def _files(bases, files):
    for name in (
        "nothing_here.safetensors",
        "other.safetensors",
        "few_classes.safetensors",
        "nan.safetensors",
        "inf.safetensors",
        "truncated.safetensors",
        "empty.safetensors",
        "noise.safetensors",
        "weights.onnx",
        "folder.safetensors",
        "code.pth",
        "plain.pth",
        "number.pt",
        "nothing.pt",
        "truncated.pth",
        "empty.pth",
        "good.npz",
        "",
        ".",
        "~",
        "no/such/folder/x.pth",
        "fitting.safetensors/inner.pth",
        "x" * 300 + ".pth",
    ):
        for role in ("teacher", "student"):
            path = str(files / name) if name not in ("", ".", "~") else name
            recipe = changed(bases["small"], f"{role}/weights", path)
            yield of(recipe, f"{role}.weights {name[:30]!r}", f"{role}.weights", name[:100])
    recipe = changed(bases["large"], "teacher/weights", str(files / "colour.safetensors"))
    yield of(recipe, "weights for colour images", "teacher.weights", "colour.safetensors")
    for name in (
        "nowhere.npz",
        "more_targets.npz",
        "no_examples.npz",
        "negative.npz",
        "huge_label.npz",
        "fractions.npz",
        "one_class.npz",
        "gap.npz",
        "objects.npz",
        "words.npz",
        "nan_inputs.npz",
        "normalised.npz",
        "flat_bytes.npz",
        "scalars.npz",
        "few.npz",
        "truncated.npz",
        "empty.npz",
        "text.npz",
        "no_arrays.npz",
        "table.csv",
        "code.pth",
        "empty_folder",
        "x" * 300,
    ):
        recipe = changed(bases["small"], "data/source/npz/path", str(files / name))
        yield of(recipe, f"npz {name[:30]}", "data.source")
    for option, value in (("inputs", "images"), ("targets", "labels"), ("classes", ["a", "b"])):
        recipe = changed(bases["small"], f"data/source/npz/{option}", value)
        yield of(recipe, f"npz {option} {value}", "data.source.npz")
    for source, options in (
        ("image_folder", {"path": str(files / "no_images")}),
        ("image_folder", {"path": str(files / "empty_folder")}),
        ("image_folder", {"path": str(files / "broken_images")}),
        ("image_folder", {"path": str(files / "table.csv")}),
        ("image_folder", {"path": str(files / "good.npz")}),
        ("image_folder", {"path": str(files / "missing")}),
        ("image_folder", {"path": "/dev/null"}),
        ("csv", {"path": str(files / "table.csv"), "target": "lable"}),
        ("csv", {"path": str(files / "table.csv")}),
        ("csv", {"path": str(files / "header.csv"), "target": "label"}),
        ("csv", {"path": str(files / "empty.csv"), "target": "label"}),
        ("csv", {"path": str(files / "ragged.csv"), "target": "label"}),
        ("csv", {"path": str(files / "good.npz"), "target": "label"}),
        ("csv", {"path": str(files / "empty_folder"), "target": "label"}),
        ("csv", {"path": str(files / "missing.csv"), "target": "label"}),
        ("csv", {"path": str(files / "table.csv"), "target": "label", "delimiter": ";;"}),
        ("csv", {"path": str(files / "table.csv"), "target": "label", "missing": "ignore"}),
        ("fashion_mnist", {"folder": str(files), "download": False}),
        ("fashion_mnist", {"folder": str(files / "missing"), "download": False}),
        ("fashion_mnist_small", {"validation": 0}),
        ("fashion_mnist_small", {"validation": 10_000}),
        ("fashion_mnist_small", {"labels": 3}),
    ):
        recipe = changed(bases["small"], "data/source", {source: options})
        yield of(recipe, f"{source} {json.dumps(options)[-50:]}", f"data.source.{source}")


# ---- shapes


def _shapes(bases):
    match = "objective/2/match"
    for name, key, value, *says in (
        ("a feature that is not there", f"{match}/pairs", {"layer9": "layer1"}, "layer9"),
        ("a teacher's feature that is not", f"{match}/pairs", {"layer1": "stage1"}, "stage1"),
        ("features of a number", f"{match}/pairs", {"layer1": 3}, "3"),
        ("unlike shapes and no adapter", f"{match}/adapter", None, "layer1"),
        ("an adapter for tokens", f"{match}/adapter", "token", "layer1"),
        ("attention on vectors", "objective/2", {"at": {"pairs": {"pool": "pool"}}}, "at"),
        ("a relation of nothing", "objective/2", {"rkd_angle": {"student": "nope"}}, "nope"),
        ("two terms of one name", "objective/0", {"kd": {"weight": 1}}, "kd"),
    ):
        yield of(changed(bases["large"], key, value), name, "objective", *says)
    only_labels = changed(bases["small"], "objective", ["ce"])
    yield of(only_labels, "nobody listens to the teacher", "objective", "ce")
    silent = changed(bases["small"], "objective/1/kd/weight", 0)
    yield of(silent, "the teacher has no weight", "objective", "kd")
    for classes, says in (
        (["a"] * 10, "a"),
        ([str(i) for i in range(9)], "9"),
        (["t-shirt"], "t-shirt"),
        ([], "[]"),
    ):
        recipe = changed(bases["small"], "teacher/classes", classes)
        yield of(recipe, f"teacher.classes {classes[:2]}", "teacher.classes", says)
    for channels in (2, 4, 0):
        recipe = changed(bases["large"], "teacher/intake/channels", channels)
        yield of(recipe, f"{channels} channels", "teacher.intake.channels", str(channels))
    compiled = changed(bases["large"], "train/compile", True)
    yield of(compiled, "compile with features", "train.compile", "True", "layer1")
    unteachable = without(bases["small"], "teacher/train")
    yield of(unteachable, "a teacher who knows nothing", "teacher", "weights")
    tiny = changed(bases["small"], "student/model", {"vgg": {"widths": [4] * 8}})
    yield of(tiny, "more poolings than pixels", "student.model")


def _together(bases, files):
    for device in ("cuda:99",) if torch.cuda.is_available() else ("cuda", "cuda:99"):
        recipe = changed(bases["small"], "train/device", device)
        yield of(recipe, f"no {device}", "train.device", device)
    for kind in ("ddp", "fsdp"):
        recipe = changed(bases["small"], "train/parallel", kind)
        says = ("parallel", kind, "torchrun")
        yield of(recipe, f"{kind} without torchrun", *says, entries=("run",))
        recipe = changed(bases["small"], "baseline", {"parallel": kind})
        yield of(recipe, f"{kind} in one stage", "baseline.parallel", kind)
    mixed = changed(bases["large"], "train/augment", ["mixup", "flip"])
    yield of(mixed, "a flip after mixing", "train.augment", "flip")
    mixed = changed(bases["small"], "objective/1", {"dkd": {}})
    mixed["train"]["augment"] = ["mixup"]
    yield of(mixed, "mixed targets where a class is asked for", "objective.1.dkd", "mixup")
    rows = {"csv": {"path": str(files / "table.csv"), "target": "label"}}
    table = changed(bases["small"], "data/source", rows)
    for name, key, value in (
        ("images' intake on a table", "student/intake", {"size": 20}),
        ("a convolution on a table", "student/model", "lenet"),
        ("images' augmentation on a table", "train/augment", ["flip"]),
    ):
        says = key.replace("/", ".")
        yield of(changed(table, key, value), name, says)


# ---- texts


def _texts(recipe):
    good = yaml.safe_dump(recipe, sort_keys=False)
    yield Mutation("an open bracket", f"{good}\ngates: {{accuracy: 0.5\n", ("line",))
    yield Mutation("a tab", "recipe: 1\n\tname: x\n", ("line 2",))
    yield Mutation("bad indentation", "recipe: 1\n  name: x\n", ("line 2",))
    yield Mutation("a quote that stays open", 'recipe: 1\nname: "x\n', ("line",))
    yield Mutation("an empty file", "", ("empty",))
    yield Mutation("only a comment", "# recipe: 1\n", ("empty",))
    yield Mutation("a list", "- recipe: 1\n- name: x\n", ("list",))
    yield Mutation("a word", "quickstart", ("str",))
    yield Mutation("a number", "1", ("int",))
    yield Mutation("two documents", f"{good}---\n{good}", ("document",))
    yield Mutation("a key twice", f"{good}\nname: again\n", ("name", "twice"))
    yield Mutation("a key twice inside", "recipe: 1\ntrain: {epochs: 1, epochs: 2}\n", ("epochs",))
    yield Mutation(
        "code", f"{good}\nabout: !!python/object/apply:os.getcwd []\n", ("tag", "os.getcwd")
    )
    yield Mutation("a module", f"{good}\nabout: !!python/module:os\n", ("tag",))
    yield Mutation("a tag of its own", f"{good}\nabout: !secret x\n", ("tag", "secret"))
    yield Mutation("a binary value", f"{good}\nabout: !!binary aGVsbG8=\n", ("tag",))
    yield Mutation("an alias", f"{good}\nabout: &a x\ngates: *a\n", ("alias", "*a"))
    yield Mutation("a merge", f"{good}\nx: &a {{epochs: 1}}\ny: {{<<: *a}}\n", ("alias",))
    yield Mutation("a merge of nothing", f"{good}\n<<: {{epochs: 1}}\n", ("<<",))
    yield Mutation("a complex key", "? [a, b]\n: 1\n", ("key",))
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
    yield Mutation("a bomb of aliases", bomb, ("alias",))
    yield Mutation("itself", "recipe: &a [*a]\n", ("alias",))
    yield Mutation("a deep hole", f"recipe: {'[' * 5000}", ("line 1",))
    yield Mutation("a deep list", f"recipe: {'[' * 500}{']' * 500}\n", ("line 1",))
    yield Mutation("a long number", f"recipe: 1\nname: x\nseeds: [{'9' * 5000}]\n", ("digits",))
    yield Mutation("a control character", "recipe: 1\nname: \x07\n", ("YAML",))
    yield Mutation("half a character", good + 'about: "\\ud800"\n', ("about",))
    yield Mutation("JSON's trailing comma", '{"recipe": 1, "name": "x",,}', ("line 1",))
    yield Mutation("Python", "recipe = 1\nname = 'x'\n", ("str",))
    yield Mutation("TOML", "[recipe]\nversion = 1\n", ("line",))
    yield Mutation("a Windows path", 'recipe: 1\nname: "C:\\data"\n', ("line 2",))


# ---- --set


def _assignments(bases):
    text = yaml.safe_dump(bases["large"], sort_keys=False)
    for assignment, *says in (
        ("train.epochs",),
        ("=3",),
        ("train.=3",),
        (".epochs=3",),
        ("train..epochs=3",),
        ("train.epochs=",),
        ("train.epochs=three",),
        ("train.epochs=0",),
        ("train.epocs=3", "epochs"),
        ("trian.epochs=3", "train"),
        ("name.first=x",),
        ("seeds.0.x=1",),
        ("seeds=5",),
        ("objective.dist.weight=2", "dist"),
        ("objective.kd.temprature=2", "temperature"),
        ("objective.kd.temperature=hot", "hot"),
        ("objective.9.weight=1", "9"),
        ("objective.kd=3", "3"),
        ("train.augment.turn.angle=3", "turn"),
        ("train.optimizer.adam.lr=3", "adam"),
        ("teacher.weights=/no/file.pth", "/no/file.pth"),
        ("student.model=lenett", "lenet"),
        ("gates.acuracy=0.5", "accuracy"),
        ("train={epochs: 1", "YAML"),
        ("train={epochs: 1, epochs: 2}", "twice"),
        ("about=!!python/object:os.system x", "tag"),
        ("about=*a", "alias"),
        ("recipe=2", "recipe"),
        ("export=maybe", "export"),
        ("calibrate=2", "calibrate"),
        ("control=perhaps", "control"),
        ("setting=mutaul", "mutual"),
        ("setting={mutual: {peers: 1}}", "peers"),
        ("setting=noisy_student", "noisy_student"),
        ("report=fairnes", "fairness"),
        ("report=[{cost: {bath: 8}}]", "bath"),
        ("outside=3", "outside"),
        ("outside={x: {nothing: {}}}", "nothing"),
        ("outside={x: {fashion_mnist_small: {foo: 1}}}", "foo"),
        ("gates={accuracy_drop: {at_least: 0.1}}", "at_most"),
        ("gates={accuracy: {at_least: 0.5, by: luck}}", "by"),
        ("data.variants={strong: {augment: [flpi]}}", "flip"),
        ("data.source=imagenet", "imagenet"),
    ):
        key = assignment.partition("=")[0].split(".")[0]
        says = (says[-1] if says else key,)
        yield Mutation(f"--set {assignment}", text, says, sets=(assignment,))
