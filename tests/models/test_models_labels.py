import pytest

from tutelage.core.errors import ModelError
from tutelage.models import class_order


def test_the_order_maps_every_class_of_the_data():
    teacher, data = ("emu", "cat", "dog", "ant"), ("ant", "cat", "dog")
    order = class_order(teacher, data)
    assert order == [3, 1, 2]
    assert [teacher[i] for i in order] == list(data)


def test_equal_names_give_the_same_order():
    assert class_order("abc", "abc") == [0, 1, 2]


def test_a_missing_class_names_the_nearest():
    with pytest.raises(ModelError, match=r"no class 'T-shirt/top' of the data.*'t-shirt/top'"):
        class_order(["t-shirt/top", "bag"], ["T-shirt/top", "bag"])


def test_many_missing_classes_are_listed_shortly():
    with pytest.raises(ModelError, match=r"no class 'a', 'b', 'c' \(and 2 more\) of") as caught:
        class_order(["z"], list("abcde"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("teacher", "data", "whose"), [("aab", "ab", "teacher"), ("ab", "aba", "data")]
)
def test_a_name_that_comes_twice_is_refused(teacher, data, whose):
    with pytest.raises(ModelError, match=f"the {whose}'s classes name 'a' twice"):
        class_order(teacher, data)
