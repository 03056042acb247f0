"""Raw rows of a table over HTTP's JSON: encoded as the data source did, or refused in one line."""

import json

import numpy as np
import pytest

from tutelage.deployment.raw_rows import encode
from tutelage.deployment.serving.decoding import read_json
from tutelage.deployment.serving.model import Stated
from tutelage.deployment.serving.refused import Refused

UNKNOWN = {"missing": "error", "missing_cells": ["?"]}
COLUMNS = [
    {"name": "age", "kind": "number", "mean": 40.0, "std": 10.0, "scaled": True, **UNKNOWN},
    {
        "name": "pet",
        "kind": "category",
        "categories": ["cat", "dog"],
        "mean": [0.5, 0.5],
        **UNKNOWN,
    },
]
INPUTS = {"inputs": Stated((3,), "float32", None)}
ROWS = [{"age": "50", "pet": "dog"}, {"age": 35, "pet": "cat"}]


def asked(columns=COLUMNS, **body):
    return read_json(json.dumps(body).encode(), INPUTS, columns)


def test_rows_become_what_the_data_source_makes_of_them():
    found = asked(rows=ROWS, logits=True)
    assert found.inputs["inputs"].tolist() == [[1.0, 0.0, 1.0], [-0.5, 1.0, 0.0]]
    assert np.array_equal(found.inputs["inputs"], encode(ROWS, COLUMNS))
    assert found.logits
    assert asked(inputs=[1, 2, 3]).inputs["inputs"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"rows": [{"age": 50}]}, "pet"),
        ({"rows": [{"age": "old", "pet": "cat"}]}, "age"),
        ({"rows": [{"age": "?", "pet": "cat"}]}, "age"),
        ({"rows": {"age": 50, "pet": "cat"}}, "rows is a list of objects"),
        ({"rows": [1]}, "rows is a list of objects"),
        ({"rows": ROWS, "inputs": [1, 2, 3]}, "'inputs' is not known"),
        ({}, '{"rows": [{column: cell}]}'),
    ],
)
def test_wrong_rows_are_refused_in_one_line(body, says):
    with pytest.raises(Refused) as caught:
        asked(**body)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_of_no_table_takes_no_rows():
    with pytest.raises(Refused, match=r'send \{"inputs"'):
        asked((), rows=ROWS)
