import importlib.util
import sys

import pytest
import torch
from torch import nn

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import ModelError, NotInstalled, RecipeError
from tutelage.models import Observed, Transformers, build_model, feature_points, plain, reader_of

has_timm = importlib.util.find_spec("timm") is not None
has_transformers = importlib.util.find_spec("transformers") is not None
needs_timm = pytest.mark.skipif(not has_timm, reason="timm is not installed")
needs_transformers = pytest.mark.skipif(
    not has_transformers, reason="transformers is not installed"
)
# torchvision and transformers import things that warn of their own end
quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def test_a_bare_name_takes_its_sizes_from_the_data():
    model = build_model("lenet", classes=10, shape=(3, 32, 32))
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert build_model("mlp", classes=2, shape=(13,))(torch.rand(4, 13)).shape == (4, 2)
    assert build_model("gru", classes=2, shape=(7, 3))(torch.rand(4, 7, 3)).shape == (4, 2)
    images = torch.rand(4, 2, 8, 12)
    assert build_model({"gru": {"hidden": 4}}, classes=2, shape=(2, 8, 12))(images).shape == (4, 2)
    assert build_model("vit", classes=2, shape=(2, 8, 12))(images).shape == (4, 2)


def test_what_a_recipe_says_goes_before_what_the_data_says():
    model = build_model({"lenet": {"classes": 7, "channels": 1}}, classes=10, shape=(3, 28, 28))
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 7)


def test_feature_points_of_other_models_are_none():
    assert feature_points(nn.Linear(2, 2)) == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet21", r"no model called 'resnet21'. Did you mean .*'resnet20'"),
        ({"resnet20": {"width": 3}}, "model 'resnet20' has no option 'width'"),
        ({"resnet": {"dept": 20}}, "model 'resnet' has no option 'dept'. Did you mean 'depth'"),
        ({"resnet": 20}, "a model is a name, or one name with its options"),
        ({"resnet": {}, "vgg": {}}, "a model is a name, or one name with its options"),
        (["resnet"], "a model is a name, or one name with its options"),
        (None, "a model is a name, or one name with its options"),
        ("tim:resnet18", r"'tim' is no source of models. Did you mean 'timm'"),
        ({"gru": {"hiden": 3}}, "Did you mean 'hidden'"),
    ],
)
def test_a_wrong_name_or_option_is_one_line_with_a_suggestion(spec, words):
    with pytest.raises(RecipeError, match=words) as caught:
        build_model(spec, classes=10, shape=(3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.fixture
def shelf(monkeypatch):
    kept = dict(registry._shelves["model"])
    monkeypatch.setitem(registry._shelves, "model", kept)
    return kept


def test_sizes_that_the_data_cannot_say_are_asked_for(shelf):
    shelf["needs"] = lambda *, classes, beta: nn.Linear(1, classes)
    with pytest.raises(RecipeError, match="model 'needs' needs the option 'beta'"):
        build_model("needs", classes=10, shape=(3,))
    with pytest.raises(RecipeError, match="model 'mlp' needs the option 'inputs'"):
        registry.build("model", "mlp", {"classes": 3})


def test_what_a_builder_raises_is_told_in_one_line(shelf):
    def broken(*, classes: int) -> nn.Module:
        raise TypeError("bad operand")

    shelf["broken"], shelf["none"] = broken, lambda *, classes: None
    with pytest.raises(ModelError, match=r"model 'broken' cannot be made with {}: bad"):
        build_model("broken", classes=10, shape=(3,))
    with pytest.raises(ModelError, match="made a NoneType and no torch module"):
        build_model("none", classes=10, shape=(3,))


@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vit", "vgg8", "lenet", "convnext"])
@pytest.mark.parametrize("shape", [(7,), (5, 7)])
def test_a_network_for_images_refuses_rows_and_sequences(name, shape):
    with pytest.raises(
        ModelError, match=rf"{name} reads images \(C, H, W\), and examples have"
    ) as e:
        build_model(name, classes=2, shape=shape)
    assert f"shape {shape}: take mlp (rows) or gru (sequences)" in str(e.value)


@pytest.mark.parametrize("shape", [(), (0, 28, 28)])
def test_a_shape_of_nothing_is_refused(shape):
    with pytest.raises(ModelError, match="an example must have a shape such as"):
        build_model("resnet20", classes=10, shape=shape)


@pytest.mark.parametrize(
    ("spec", "library", "extra"),
    [("timm:resnet10t", "timm", "vision"), ("hf:somebody/model", "transformers", "hf")],
)
def test_an_absent_library_names_the_extra(monkeypatch, spec, library, extra):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(NotInstalled, match=rf'pip install "tutelage\[{extra}\]"') as caught:
        build_model(spec, classes=10, shape=(3, 32, 32))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hf:./nowhere": {}}, "no folder of that name with a config.json"),
        ({"hf:x/y": {"taks": 1}}, "has no option 'taks'. Did you mean 'task'"),
        ({"hf:x/y": {"task": "detection"}}, "has no task 'detection'"),
    ],
)
def test_what_is_wrong_with_a_transformers_name_is_said_before_the_import(spec, words):
    with pytest.raises((ModelError, RecipeError), match=words):
        build_model(spec, classes=10, shape=(3, 32, 32))


def test_tables_are_nothing_for_timm():
    with pytest.raises(ModelError, match=r"timm:resnet10t reads images .* shape \(5,\)"):
        build_model("timm:resnet10t", classes=10, shape=(5,))


def like_transformers(answer):
    def forward(self, pixel_values=None, mask=None):
        return answer(pixel_values, mask)

    base = type("PreTrainedModel", (nn.Module,), {"__module__": "transformers.modeling_utils"})
    named = {"forward": forward, "main_input_name": "pixel_values"}
    return type("SomeModel", (base,), named)()


def test_a_transformers_model_is_read_by_name_without_being_told():
    model = like_transformers(lambda x, mask: {"loss": None, "logits": x if mask is None else -x})
    observed = Observed(model)
    assert isinstance(observed.read, Transformers)
    x = torch.rand(2, 3)
    assert torch.equal(observed(Batch(x)).logits, x)
    assert torch.equal(observed(Batch({"pixel_values": x, "mask": x})).logits, -x)


def test_a_transformers_model_without_a_head_is_told():
    observed = Observed(like_transformers(lambda x, mask: {"last_hidden_state": x}))
    with pytest.raises(ModelError, match="SomeModel answers without logits: load it with a head"):
        observed(Batch(torch.rand(2, 3)))


def test_an_ordinary_model_is_read_plainly():
    assert reader_of(nn.Linear(1, 1)) is plain


@needs_timm
@quiet
def test_a_timm_model_is_built_tapped_and_learns():
    model = build_model("timm:resnet10t", classes=7, shape=(1, 32, 32))
    answer = Observed(model).tap(["layer1", "layer4"])(Batch(torch.rand(2, 1, 32, 32)))
    assert answer.logits.shape == (2, 7)
    assert answer["layer1"].shape == (2, 64, 8, 8)
    answer.logits.sum().backward()
    assert model.conv1[0].weight.grad.any()


@needs_timm
@quiet
def test_wrong_timm_names_and_options_are_one_line():
    with pytest.raises(RecipeError, match=r"timm has no model 'resnet10x'. Did you mean"):
        build_model("timm:resnet10x", classes=7, shape=(3, 32, 32))
    with pytest.raises(ModelError, match=r"cannot be made with {'foo': 1}: .*'foo'"):
        build_model({"timm:resnet10t": {"foo": 1}}, classes=7, shape=(3, 32, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        num_labels=5,
    )
    target = tmp_path_factory.mktemp("vit")
    transformers.ViTForImageClassification(config).save_pretrained(target)
    return target


@needs_transformers
@quiet
def test_a_transformers_folder_is_read_tapped_and_learns(folder):
    model = build_model(f"hf:{folder}", classes=5, shape=(3, 16, 16))
    answer = Observed(model).tap(["classifier:in"])(Batch(torch.rand(2, 3, 16, 16)))
    assert answer.logits.shape == (2, 5)
    assert answer["classifier:in"].shape == (2, 16)
    answer.logits.sum().backward()
    assert model.classifier.weight.grad.any()


@needs_transformers
@quiet
def test_another_number_of_classes_needs_a_word(folder):
    with pytest.raises(ModelError, match="has 5 classes where 3 were asked for: set new_head"):
        build_model(f"hf:{folder}", classes=3, shape=(3, 16, 16))
    x = Batch(torch.rand(2, 3, 16, 16))
    for options, count in (
        ({"new_head": True}, 3),
        ({"classes": 5}, 5),
        ({"pretrained": False}, 3),
    ):
        model = build_model({f"hf:{folder}": options}, classes=3, shape=(3, 16, 16))
        assert Observed(model)(x).logits.shape == (2, count)
