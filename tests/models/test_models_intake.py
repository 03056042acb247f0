import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tutelage.core.errors import ModelError, ShapeMismatch
from tutelage.models import NORMALISATIONS, Intake, NamedIntake

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_normalising_equals_the_formula():
    x = images(4, 3, 8, 8)
    expected = (x.numpy() - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    np.testing.assert_allclose(Intake(MEAN, STD)(x).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_one_number_is_for_all_channels():
    x = images(2, 3, 4, 4)
    torch.testing.assert_close(Intake(0.5, 0.25)(x), (x - 0.5) / 0.25)
    assert torch.equal(Intake()(x), x)


def test_a_table_is_normalised_by_column():
    x = images(5, 3)
    expected = (x.numpy() - np.array([1.0, 2, 3])) / np.array([4.0, 5, 6])
    np.testing.assert_allclose(Intake([1, 2, 3], [4, 5, 6])(x).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(("size", "both"), [(16, (16, 16)), ((20, 12), (20, 12)), (64, (64, 64))])
def test_resizing_equals_torch(size, both):
    x = images(2, 3, 32, 28)
    expected = F.interpolate(x, both, mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(Intake(size=size)(x), expected)


def test_resizing_down_is_antialiased():
    stripes = torch.tensor([0.0, 1.0]).repeat(16).expand(1, 1, 32, 32)
    small = Intake(size=8)(stripes)
    assert (small[..., 1:-1] - 0.5).abs().max() < 0.07  # aliased it would be 0 or 1 somewhere


def test_images_of_the_right_size_are_not_touched():
    x = images(2, 3, 8, 8)
    assert Intake(size=8)._resize(x) is x


def test_grey_images_are_repeated_to_three_channels():
    x = images(2, 1, 4, 4)
    out = Intake(MEAN, STD, channels=3)(x)
    torch.testing.assert_close(out, Intake(MEAN, STD)(x.repeat(1, 3, 1, 1)))


def test_the_length_of_mean_says_how_many_channels_the_model_takes():
    assert Intake(MEAN, STD)(images(2, 1, 4, 4)).shape == (2, 3, 4, 4)


def test_colour_images_are_turned_to_luma():
    x = images(2, 3, 4, 4)
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(Intake(channels=1)(x)[:, 0], expected)


def test_size_then_channels_then_normalisation():
    x = images(2, 1, 16, 16)
    small = F.interpolate(x, (8, 8), mode="bilinear", antialias=True)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(Intake(MEAN, STD, 8, 3)(x), (small - mean) / std)


@pytest.mark.parametrize("name", sorted(NORMALISATIONS))
def test_a_known_normalisation_is_taken_by_name(name):
    mean, std = NORMALISATIONS[name]
    x = images(1, len(mean), 2, 2)
    torch.testing.assert_close(Intake.named(name)(x), Intake(mean, std)(x))


def test_an_unknown_normalisation_names_the_nearest():
    with pytest.raises(ModelError, match=r"'imagnet'. Did you mean 'imagenet'"):
        Intake.named("imagnet")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"std": 0.0}, "std must be above 0 everywhere"),
        ({"std": [0.1, -1, 1]}, "std must be above 0 everywhere"),
        ({"mean": "0.5"}, "mean must be a number or a list"),
        ({"mean": []}, "mean must be a number or a list"),
        ({"mean": float("nan")}, "mean must be a number or a list"),
        ({"mean": [0.1, 0.2], "std": [1, 1, 1]}, "mean has 2 numbers, std 3"),
        ({"mean": [0.1, 0.2], "channels": 3}, "mean has 2 numbers, std 1, and the model takes 3"),
        ({"size": 0}, "size must be one number"),
        ({"size": (1, 2, 3)}, "size must be one number"),
        ({"channels": 0}, "channels must be at least 1"),
    ],
)
def test_an_option_out_of_range_is_refused(options, words):
    with pytest.raises(ModelError, match=words) as caught:
        Intake(**options)
    assert "\n" not in str(caught.value)


def test_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ShapeMismatch, match="takes 4 channels and the data has 3"):
        Intake(channels=4)(images(2, 3, 4, 4))
    with pytest.raises(ShapeMismatch, match=r"resizes images \(N, C, H, W\), got shape \(2, 3\)"):
        Intake(size=4)(images(2, 3))
    with pytest.raises(ShapeMismatch, match=r"got torch.uint8: divide bytes by 255"):
        Intake()(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_an_intake_is_no_part_of_the_weights_but_moves_along():
    intake = Intake(MEAN, STD)
    assert not intake.state_dict()
    assert intake.double().mean.dtype == torch.float64
    assert intake(images(1, 3, 2, 2).double()).dtype == torch.float64
    assert "0.485" in repr(intake)


def test_half_precision_stays_half():
    assert Intake(MEAN, STD)(images(1, 3, 2, 2).bfloat16()).dtype == torch.bfloat16


def test_named_inputs_are_changed_by_name_only():
    inputs = {"image.left": images(1, 3, 2, 2), "tokens": torch.arange(3)}
    out = NamedIntake({"image.left": Intake(0.5, 0.5)})(inputs)
    torch.testing.assert_close(out["image.left"], inputs["image.left"] * 2 - 1)
    assert out["tokens"] is inputs["tokens"]
    assert Intake(0.5)(inputs) is inputs


def test_a_named_intake_refuses_what_it_does_not_find():
    intake = NamedIntake({"image": Intake()})
    with pytest.raises(ShapeMismatch, match=r"input 'image'. Did you mean 'images'"):
        intake({"images": images(1, 3, 2, 2)})
    with pytest.raises(ShapeMismatch, match="one intake without a name"):
        intake(images(1, 3, 2, 2))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_an_exported_intake_computes_the_same(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = nn.Sequential(Intake(MEAN, STD, (16, 12), 3), nn.Conv2d(3, 2, 3)).eval()
    program = torch.onnx.export(
        model,
        (images(2, 1, 28, 28),),
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    program.save(tmp_path / "intake.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "intake.onnx")
    for count in (1, 5):
        x = images(count, 1, 28, 28, seed=count)
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(out, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
