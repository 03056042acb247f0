import pytest
import torch

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError
from tutelage.models import Observed, build_model, feature_points, zoo

REPDISTILLER = (
    "counted by building github.com/HobbitLong/RepDistiller models/*.py at commit b84f547c5d"
)
TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html, column Params / num_params"
HE = "arXiv 1512.03385, table 6 (0.27M, 0.46M, 0.66M, 0.85M, 1.7M)"
LECUN = "LeCun 1998: 156 + 2,416 + 48,120 + 10,164 + 850"


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "options", "classes", "shape", "count", "source"),
    [
        ("resnet20", {}, 10, (3, 32, 32), 269_722, HE),
        ("resnet32", {}, 10, (3, 32, 32), 464_154, HE),
        ("resnet44", {}, 10, (3, 32, 32), 658_586, HE),
        ("resnet56", {}, 10, (3, 32, 32), 853_018, HE),
        ("resnet110", {}, 10, (3, 32, 32), 1_727_962, HE),
        ("resnet8", {"shortcut": "b"}, 100, (3, 32, 32), 83_892, REPDISTILLER),
        ("resnet14", {"shortcut": "b"}, 100, (3, 32, 32), 181_108, REPDISTILLER),
        ("resnet20", {"shortcut": "b"}, 100, (3, 32, 32), 278_324, REPDISTILLER),
        ("resnet32", {"shortcut": "b"}, 100, (3, 32, 32), 472_756, REPDISTILLER),
        ("resnet44", {"shortcut": "b"}, 100, (3, 32, 32), 667_188, REPDISTILLER),
        ("resnet56", {"shortcut": "b"}, 100, (3, 32, 32), 861_620, REPDISTILLER),
        ("resnet110", {"shortcut": "b"}, 100, (3, 32, 32), 1_736_564, REPDISTILLER),
        ("resnet8x4", {}, 100, (3, 32, 32), 1_233_540, REPDISTILLER),
        ("resnet32x4", {}, 100, (3, 32, 32), 7_433_860, REPDISTILLER),
        ("wrn_16_1", {}, 100, (3, 32, 32), 180_916, REPDISTILLER),
        ("wrn_16_2", {}, 100, (3, 32, 32), 703_284, REPDISTILLER),
        ("wrn_40_1", {}, 100, (3, 32, 32), 569_780, REPDISTILLER),
        ("wrn_40_2", {}, 100, (3, 32, 32), 2_255_156, REPDISTILLER),
        ("wrn_28_10", {}, 10, (3, 32, 32), 36_479_194, "arXiv 1605.07146, table 4: 36.5M"),
        ("vgg8", {}, 100, (3, 32, 32), 3_965_028, REPDISTILLER),
        ("vgg11", {}, 100, (3, 32, 32), 9_277_284, REPDISTILLER),
        ("vgg13", {}, 100, (3, 32, 32), 9_462_180, REPDISTILLER),
        ("vgg16", {}, 100, (3, 32, 32), 14_774_436, REPDISTILLER),
        ("vgg19", {}, 100, (3, 32, 32), 20_086_692, REPDISTILLER),
        ("mobilenetv2", {}, 100, (3, 32, 32), 812_836, REPDISTILLER),
        ("shufflenetv2", {}, 100, (3, 32, 32), 1_355_528, REPDISTILLER),
        (
            "mobilenetv2",
            {"multiplier": 1.0, "form": "imagenet"},
            1000,
            (3, 224, 224),
            3_504_872,
            TORCHVISION,
        ),
        ("shufflenetv2", {"form": "imagenet"}, 1000, (3, 224, 224), 2_278_604, TORCHVISION),
        (
            "shufflenetv2",
            {"multiplier": 2.0, "form": "imagenet"},
            1000,
            (3, 224, 224),
            7_393_996,
            TORCHVISION,
        ),
        (
            "convnext",
            {"widths": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "patch": 4},
            1000,
            (3, 224, 224),
            28_589_128,
            TORCHVISION,
        ),
        (
            "vit",
            {"patch": 16, "dim": 768, "depth": 12, "heads": 12},
            1000,
            (3, 224, 224),
            86_567_656,
            TORCHVISION,
        ),
        ("lenet", {}, 10, (1, 28, 28), 61_706, LECUN),
        (
            "mlp",
            {"hidden": [512, 256]},
            10,
            (1, 28, 28),
            784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10,
            "weights and biases of three linear layers",
        ),
        (
            "gru",
            {"hidden": 64, "layers": 2, "both_ways": True},
            10,
            (1, 28, 28),
            2 * 3 * 64 * (28 + 64 + 2) + 2 * 3 * 64 * (2 * 64 + 64 + 2) + 2 * 64 * 10 + 10,
            "both ways, three gates: from the input, from the state, two biases; one linear layer",
        ),
        (
            "gpt",
            {"width": 576, "layers": 30, "heads": 9, "kv_heads": 3},
            49_152,
            (8,),
            134_515_008,
            "huggingface.co/HuggingFaceTB/SmolLM2-135M, the same sizes: 135M, 134,515,008 stored",
        ),
        (
            "vgg",
            {"widths": [8, 16, 32], "per_stage": 1},
            10,
            (1, 28, 28),
            72 + 1152 + 4608 + 2 * (8 + 16 + 32) + 330,
            "three 3x3 convolutions, three norms, one linear layer",
        ),
    ],
)
def test_parameters_equal_the_published_count(name, options, classes, shape, count, source):
    with torch.device("meta"):
        model = build_model({name: options}, classes=classes, shape=shape)
    assert parameters(model) == count, source


SMALL = {
    "resnet": ({"depth": 8, "width": 4}, (3, 32, 32)),
    "wrn": ({"depth": 10, "width": 1}, (3, 32, 32)),
    "vgg": ({"widths": [4, 6, 8]}, (1, 28, 28)),
    "lenet": ({}, (1, 28, 28)),
    "mobilenetv2": ({"multiplier": 0.25}, (3, 32, 32)),
    "shufflenetv2": ({"multiplier": 0.5}, (3, 32, 32)),
    "vit": ({"dim": 16, "depth": 2, "heads": 2}, (3, 32, 32)),
    "convnext": ({"widths": [4, 6, 8], "depths": [1, 1, 1]}, (3, 32, 32)),
    "mlp": ({"hidden": [12, 6]}, (1, 28, 28)),
    "gru": ({"hidden": 8, "layers": 2, "both_ways": True}, (1, 28, 20)),
    "gpt": ({"width": 16, "layers": 2, "heads": 4, "kv_heads": 2}, (9,)),
}

SHAPES = {
    "resnet": {
        "layer1": (4, 32, 32),
        "layer2": (8, 16, 16),
        "layer3": (16, 8, 8),
        "pool": (16,),
    },
    "wrn": {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8), "pool": (64,)},
    "vgg": {"layer1": (4, 28, 28), "layer2": (6, 14, 14), "layer3": (8, 7, 7), "pool": (8,)},
    "lenet": {"layer1": (6, 14, 14), "layer2": (16, 5, 5), "layer3": (120,), "layer4": (84,)},
    "mobilenetv2": {
        "layer1": (4, 16, 16),
        "layer2": (6, 16, 16),
        "layer3": (8, 8, 8),
        "layer4": (16, 4, 4),
        "layer5": (24, 4, 4),
        "layer6": (40, 2, 2),
        "layer7": (80, 2, 2),
        "pool": (1280,),
    },
    "shufflenetv2": {
        "layer1": (48, 16, 16),
        "layer2": (96, 8, 8),
        "layer3": (192, 4, 4),
        "pool": (1024,),
    },
    "vit": {"embed": (65, 16), "layer1": (65, 16), "layer2": (65, 16), "pool": (16,)},
    "convnext": {"layer1": (4, 16, 16), "layer2": (6, 8, 8), "layer3": (8, 4, 4), "pool": (8,)},
    "mlp": {"layer1": (12,), "layer2": (6,)},
    "gru": {"gru": (28, 16), "pool": (16,)},
    "gpt": {"embed": (9, 16), "layer1": (9, 16), "layer2": (9, 16)},
}


def small(name, classes=7):
    options, shape = SMALL[name]
    torch.manual_seed(0)
    model = build_model({name: options}, classes=classes, shape=shape)
    for key, value in model.named_parameters():
        if key.endswith(".scale"):  # ConvNeXt's blocks begin as nothing, too small to learn here
            torch.nn.init.ones_(value)
    return model, examples(name, 4)


def examples(name, count, classes=7):
    shape = SMALL[name][1]
    return torch.randint(classes, (count, *shape)) if name == "gpt" else torch.rand(count, *shape)


def last(logits):
    """Of language models, those of the token after the last."""
    return logits[:, -1] if logits.ndim == 3 else logits


def test_every_family_is_tried_here():
    families = {n for n in registry.names("model") if not any(c.isdigit() for c in n)}
    families |= {"mobilenetv2", "shufflenetv2"}
    assert families >= set(SMALL)
    assert {n for n in families if hasattr(zoo, n)} == set(SMALL) == set(SHAPES)


@pytest.mark.parametrize("name", SMALL)
def test_feature_points_are_stable_in_name_and_shape(name):
    model, inputs = small(name)
    points = feature_points(model)
    answer = Observed(model).tap([*points, "linear:in"])(Batch(inputs))
    assert last(answer.logits).shape == (4, 7)
    assert {path: tuple(answer[path].shape[1:]) for path in points} == SHAPES[name]
    again = torch.nn.functional.linear(answer["linear:in"], model.linear.weight, model.linear.bias)
    torch.testing.assert_close(again, answer.logits)


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name):
    model, inputs = small(name)
    torch.nn.functional.cross_entropy(last(model(inputs)), torch.tensor([0, 1, 2, 3])).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize("name", SMALL)
def test_a_model_lowers_its_loss_on_a_handful_of_images(name):
    model, inputs = small(name)
    targets = torch.tensor([0, 1, 2, 3])
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(last(model(inputs)), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", ["resnet8x4", "wrn_16_1", "vgg8", "resnet20"])
def test_a_named_variant_runs(name):
    model = build_model(name, classes=5, shape=(1, 32, 32)).eval()
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet", {"depth": 21}, r"depth is 6 n \+ 2, at least 8, and got 21: 20 is the nearest"),
        ("resnet", {"depth": "20"}, "depth must be a whole number of at least 1, got '20'"),
        ("resnet", {"shortcut": "c"}, "shortcut must be 'a' or 'b', got 'c'"),
        ("wrn", {"width": 0}, "width must be a whole number of at least 1, got 0"),
        ("vgg", {"widths": 32}, "widths must be a list of whole numbers, got 32"),
        ("vgg", {"widths": [8, 8], "per_stage": [1]}, "2 stages and per_stage 1"),
        ("lenet", {"size": 8}, "at least 12x12 pixels, got size 8"),
        ("mobilenetv2", {"multiplier": 0}, "multiplier must be above 0, got 0"),
        ("shufflenetv2", {"multiplier": 3}, "multiplier must be 0.5 or 1.0 or 1.5 or 2.0, got 3"),
        ("vit", {"patch": 5}, "patches of 5 pixels do not fill images of 32x32"),
        ("vit", {"dim": 10, "heads": 4}, r"dim \(10\) must be a multiple of heads \(4\)"),
        ("vit", {"dropout": 1.0}, "dropout must be a number from 0 to below 1"),
        ("convnext", {"depths": [1]}, "4 stages and depths 1"),
        ("mlp", {"hidden": []}, "hidden must be a list of whole numbers"),
        ("gru", {"hidden": True}, "hidden must be a whole number"),
        ("gpt", {"width": 12, "heads": 4}, r"width \(12\) must be a multiple of twice the heads"),
        ("gpt", {"heads": 4, "kv_heads": 3}, r"kv_heads \(3\) must divide heads \(4\)"),
        ("gpt", {"activation": "relu"}, "activation must be 'swiglu' or 'gelu', got 'relu'"),
        ("gpt", {"mlp": 0}, "mlp must be a number above 0, got 0"),
        ("resnet", {"classes": 0}, "classes must be a whole number of at least 1, got 0"),
    ],
)
def test_an_option_out_of_range_is_one_line(name, options, words):
    with pytest.raises(ModelError, match=words) as caught:
        build_model({name: options}, classes=10, shape=(3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the exporter warns of its own ways, most with the GRU
@pytest.mark.parametrize("name", SMALL)
def test_every_family_exports_for_any_batch_and_computes_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, inputs = small(name)
    model.eval()
    program = torch.onnx.export(
        model,
        (inputs,),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 6):
        x = examples(name, count)
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.tensor(out), model(x).detach(), rtol=1e-3, atol=1e-4)
