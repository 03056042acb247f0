"""Items: what their ids are made of, and files that are wrong."""

import json

import pytest

from tutelage.core.errors import DataError
from tutelage.synthesis.item import Dropped, Item, Step
from tutelage.synthesis.item_files import read_dropped, read_items, write_rows


def full():
    steps = (Step("expand", "2026-01-31", "w", "m", "k1", ("a", "b"), "CC0"), Step("judge"))
    return Item("Do it.", "with ü\u2028", "done", "first, so", 7.5, {"n": 1, "who": None}, steps)


def test_items_come_back_as_they_were(tmp_path):
    path = tmp_path / "items.jsonl"
    write_rows(path, [full().row(), Item("Other.").row()])
    assert read_items(path) == [full(), Item("Other.")]
    assert [item.id for item in read_items(path)] == [full().id, Item("Other.").id]
    write_rows(path, [])
    assert read_items(path) == []


def test_dropped_items_come_back_as_they_were(tmp_path):
    path = tmp_path / "dropped.jsonl"
    dropped = Dropped(full(), "filter", "too short", "1 word", "k2")
    write_rows(path, [dropped.row()])
    assert read_dropped(path) == [dropped]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"answer": "other"}, False),
        ({"score": 7.0}, False),
        ({"facts": {}}, False),
        (
            {"steps": (Step("expand", "2026-01-31", "w", "m", "k2", ("a", "b")), Step("judge"))},
            False,
        ),
        (
            {"steps": (Step("expand", "1999-01-01", "v", "n", "k1", ("a", "b")), Step("judge"))},
            True,
        ),
    ],
)
def test_an_id_follows_from_content_and_lineage_and_not_from_the_day_or_address(change, same):
    assert (Item(**{**vars(full()), **change}).id == full().id) is same


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2 of .* is no JSON"),
        ("[]", "line 2 of .* expected an object"),
        ('{"instuction": "x"}', "line 2 .*'instuction'. Did you mean 'instruction'"),
        ('{"input": "x"}', "line 2 .* has no 'instruction'"),
        ('{"instruction": " "}', "line 2 .* no words in 'instruction'"),
        ('{"instruction": 3}', "line 2 .*int, expected a text"),
        ('{"instruction": "x", "score": 11}', "line 2 .* the score 11, expected a number from 1"),
        ('{"instruction": "x", "score": true}', "line 2 .* the score True"),
        ('{"instruction": "x", "facts": {"a": []}}', "fact 'a' in line 2 .* is a list"),
        ('{"instruction": "x", "facts": 1}', "'facts' in line 2"),
        ('{"instruction": "x", "steps": [{}]}', "a step in line 2"),
        ('{"instruction": "x", "steps": [{"stage": "s", "dat": 1}]}', "Did you mean 'date'"),
        ('{"instruction": "x", "steps": [{"stage": "s", "parents": 1}]}', "parents in line 2"),
        ('{"instruction": "\\ud800"}', "line 2 .* half a character"),
        ('{"instruction": "x", "id": "0"}', "line 2 .* the id '0', and its content gives"),
    ],
)
def test_a_wrong_line_is_one_line_with_its_number(tmp_path, line, told):
    path = tmp_path / "seeds.jsonl"
    path.write_text(json.dumps({"instruction": "good"}) + "\n" + line + "\n")
    with pytest.raises(DataError, match=told) as caught:
        read_items(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_a_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_items(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_items(tmp_path)
