import subprocess
import sys

import pytest

from tutelage.core.errors import RecipeError
from tutelage.core.registry import names, options_of, register
from tutelage.data import Splits, load


def test_all_sources_and_augmentations_are_registered():
    assert {"csv", "fashion_mnist", "fashion_mnist_small", "image_folder", "npz"} <= set(
        names("data")
    )
    assert {"chat", "sentences", "text"} <= set(names("data"))
    assert {"bpe", "bytes", "characters", "hf"} == set(names("tokenizer"))
    assert {"colour", "cutmix", "cutout", "flip", "mixup", "shift"} <= set(names("augment"))


@pytest.mark.parametrize(
    "source",
    [
        "chat",
        "csv",
        "fashion_mnist",
        "fashion_mnist_small",
        "image_folder",
        "npz",
        "sentences",
        "text",
    ],
)
def test_every_option_of_a_source_has_a_type_and_is_described(source):
    from tutelage.core.registry import get

    maker = get("data", source)
    for name, option in options_of(maker).items():
        assert option.annotation is not option.empty
        assert f"\n        {name}: " in maker.__doc__


def test_a_source_is_loaded_by_name_with_overrides():
    splits = load({"fashion_mnist_small": {"validation": 500, "seed": 1}}, validation=1500)
    assert isinstance(splits, Splits)
    assert len(splits.validation) == 1500
    assert splits.origin["seed"] == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fashion_minst", "no data called 'fashion_minst'. Did you mean 'fashion_mnist'"),
        ({"npz": {}}, "data 'npz' needs the option 'path'"),
        ({"npz": {"pth": "a"}}, "no option 'pth'. Did you mean 'path'"),
        ({"npz": {}, "csv": {}}, "data is .* expected a name"),
        (7, "data is 7, expected a name"),
        (None, "data is None, expected a name such as 'fashion_mnist', .* as {csv: {path: table"),
    ],
)
def test_a_source_that_cannot_be_is_refused_in_one_line(source, message):
    with pytest.raises(RecipeError, match=message) as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_source_must_make_splits():
    if "test_broken" not in names("data"):
        register("data", "test_broken")(lambda: 3)
    with pytest.raises(RecipeError, match="made a int, expected Splits"):
        load("test_broken")


def test_importing_the_room_loads_nothing_heavy_and_no_other_room():
    code = (
        "import sys, tutelage.data; rooms = {m.split('.')[1] for m in sys.modules "
        "if m.startswith('tutelage.')}; heavy = {'PIL', 'tokenizers', 'transformers', 'jinja2'}; "
        "print(sorted(rooms), heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['core', 'data'] set()"
