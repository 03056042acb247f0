import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_samples import small

from tutelage.core.errors import RecipeError
from tutelage.recipe.reading import assign, parse, put, read, written


def test_yaml_is_read_as_its_version_1_2_has_it():
    text = "a: no\nb: 1e-3\nc: 010\nd: on\ne: 2026-01-31\nf: 1_000\ng: 0x1F\nh: ~\ni: TRUE\nj: .5\n"
    assert parse(text) == {
        "a": "no",
        "b": 0.001,
        "c": 10,
        "d": "on",
        "e": "2026-01-31",
        "f": "1_000",
        "g": "0x1F",
        "h": None,
        "i": True,
        "j": 0.5,
    }


def test_keys_are_words_whatever_they_look_like():
    assert parse("1: a\nno: b\n~: c\n1e3: d\n") == {"1": "a", "no": "b", "~": "c", "1e3": "d"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "line 2: the key 'a' is there twice"),
        ("a: {b: 1, b: 2}", "the key 'b' is there twice"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag .*os.system.* remove it"),
        ("a: !!str 5", "the tag"),
        ("a: &x 1\nb: *x", r"line 2: the alias \*x"),
        ("a: &x {c: 1}\nb:\n  <<: *x", "line 3: the alias"),
        ("? {a: 1}\n: 2", "a key is a mapping or a list"),
        ("a: [1, 2", "line 1, column 9: this is no YAML"),
        ("a: \x00", "this is no YAML"),
        ("", "this is empty"),
        ("- a", "this is a list"),
        (f"a: {'9' * 5000}", "line 1: a number of 5000 digits"),
        ("[" * 100 + "]" * 100, "more than 50 lists or mappings in each other"),
    ],
)
def test_what_is_no_plain_data_is_refused_with_its_line(text, says):
    with pytest.raises(RecipeError, match=says) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_an_anchor_that_nobody_points_to_does_no_harm():
    assert parse("a: &x {b: 1}") == {"a": {"b": 1}}


def test_a_recipe_that_is_not_there_names_the_nearest_in_its_folder(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("recipe: 1")
    with pytest.raises(RecipeError, match=r"Did you mean 'quickstart.yaml'\?"):
        read(tmp_path / "quikstart.yaml")
    with pytest.raises(RecipeError, match=r"In '\.': Known: quickstart\.yaml"):
        read(tmp_path / "no_such_folder" / "x.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=r"there is no recipe .* Check its path\."):
        read(tmp_path / "empty" / "x.yaml")


def test_a_folder_a_binary_file_and_a_giant_are_no_recipes(tmp_path):
    with pytest.raises(RecipeError, match=r"is a folder: name a recipe. It holds none"):
        read(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(bytes(range(256)))
    with pytest.raises(RecipeError, match="cannot be read as text in UTF-8"):
        read(binary)
    giant = tmp_path / "giant.yaml"
    giant.write_text("# nothing\n" * 200_000)
    with pytest.raises(RecipeError, match="2,000,000 bytes"):
        read(giant)
    with pytest.raises(RecipeError, match=r"cannot be read .*File name too long"):
        read(tmp_path / ("x" * 300))


def test_a_mark_at_the_start_of_a_file_is_not_part_of_it(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbfrecipe: 1\r\nname: x\r\n")
    assert read(path) == {"recipe": 1, "name": "x"}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("aé1e-_no~:#"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab1 :"), inner),
    max_leaves=10,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text("abc1e~", min_size=1), plain, min_size=1))
def test_what_is_written_is_read_back_as_it_was(content):
    assert parse(written(content)) == content


def test_the_same_list_twice_is_written_out_twice():
    shared = [1, 2]
    assert parse(written({"a": shared, "b": shared})) == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("assignment", "place", "value"),
    [
        ("train.epochs=3", ("train", "epochs"), 3),
        ("train.learning_rate=1e-3", ("train", "learning_rate"), 0.001),
        ("seeds=[1, 2]", ("seeds",), [1, 2]),
        ("gates={accuracy: 0.5}", ("gates",), {"accuracy": 0.5}),
        ("gates.accuracy=0.5", ("gates",), {"accuracy": 0.5}),
        ("about=a=b", ("about",), "a=b"),
        ("about=", ("about",), None),
        ("baseline=no", ("baseline",), "no"),
        ("baseline.epochs=7", ("baseline",), {"epochs": 7}),
        ("train.schedule.cosine.floor=0.1", ("train", "schedule"), {"cosine": {"floor": 0.1}}),
        ("objective.kd.temperature=3", ("objective", 1, "kd", "temperature"), 3),
        ("objective.1.temperature=3", ("objective", 1, "kd", "temperature"), 3),
        ("objective.0=dist", ("objective", 0), "dist"),
        ("objective.ce=", ("objective", 0), {"ce": None}),
        ("train.augment.shift.pixels=1", ("train", "augment", 0, "shift"), {"pixels": 1}),
        ("train.augment.flip.probability=1", ("train", "augment", 1, "flip"), {"probability": 1}),
    ],
)
def test_set_puts_a_value_at_its_key(assignment, place, value):
    before = small("x.npz")
    before["train"] |= {"augment": [{"shift": {"pixels": 2}}, "flip"], "schedule": "cosine"}
    after = assign(before, [assignment])
    for step in place:
        after = after[step]
    assert after == value


def test_set_leaves_the_recipe_it_was_given_as_it_was():
    before, again = small("x.npz"), small("x.npz")
    assign(before, ["objective.kd.temperature=9", "train.epochs=9", "seeds=[9]"])
    assert before == again


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("train.epochs", "write key=value"),
        ("=1", "write key=value"),
        ("a..b=1", "write key=value"),
        ("name.x=1", "takes|no parts|name"),
        ("objective.dkd.beta=1", "nothing is called 'dkd' there. Did you mean 'kd'?"),
        ("objective.7=kd", "nothing is called '7' there"),
        ("train={a: 1", "this is no YAML"),
        ("train={a: 1, a: 2}", "twice"),
        ("about=!x y", "tag"),
        ("recipe.x.y=1", "no parts"),
    ],
)
def test_a_wrong_set_is_told_with_what_was_written(assignment, says):
    recipe = {**small("x.npz"), "name": ["a", "b"]}
    with pytest.raises(RecipeError, match=says) as caught:
        assign(recipe, [assignment])
    assert str(caught.value).startswith("--set ")
    assert repr(assignment) in str(caught.value)


def test_two_entries_of_one_name_are_told_apart_by_their_number():
    recipe = {"objective": [{"kd": {"temperature": 1}}, {"kd": {"temperature": 4}}]}
    with pytest.raises(RecipeError, match="2 entries are called 'kd': write their number from 0"):
        put(recipe, "objective.kd.temperature", 2)
    put(recipe, "objective.1.temperature", 2)
    assert recipe["objective"][1] == {"kd": {"temperature": 2}}
