import pickle

import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data import LazySet, TensorSet


def images(count=6, channels=1, side=4):
    return (
        torch.arange(count * channels * side * side)
        .remainder(256)
        .to(torch.uint8)
        .view(count, channels, side, side)
    )


class Stack:
    """A decoder over a tensor; counts what it reads."""

    def __init__(self, tensor):
        self.tensor, self.reads = tensor, []

    def __len__(self):
        return len(self.tensor)

    def read(self, position):
        self.reads.append(position)
        return self.tensor[position]

    def digest(self, positions):
        return str([self.tensor[p].tolist() for p in positions])


def test_a_batch_of_bytes_is_float_in_zero_to_one_and_the_store_stays():
    stored = images()
    before = stored.clone()
    batch = TensorSet(stored, torch.arange(6) % 2, classes=("a", "b")).batch(torch.tensor([5, 1]))
    assert batch.inputs.dtype == torch.float32
    assert torch.equal(batch.inputs, stored[[5, 1]].float() / 255)
    assert batch.targets.tolist() == [1, 1]
    assert batch.ids.tolist() == [5, 1]
    batch.inputs.zero_()
    assert torch.equal(stored, before)


def test_taking_rows_keeps_ids_targets_and_classes():
    whole = TensorSet(images(), torch.arange(6) % 3, classes=tuple("abc"), ids=torch.arange(6) + 10)
    part = whole.take(torch.tensor([4, 0])).take(torch.tensor([0]))
    assert part.ids.tolist() == [14]
    assert part.targets.tolist() == [1]
    assert part.classes == ("a", "b", "c")
    assert part.example_shape == (1, 4, 4)


def test_a_lazy_set_has_the_face_of_the_set_in_memory():
    stored, targets = images(), torch.arange(6) % 2
    lazy = LazySet(Stack(stored), targets, classes=("a", "b")).take(torch.tensor([5, 2, 3]))
    held = TensorSet(stored, targets, classes=("a", "b")).take(torch.tensor([5, 2, 3]))
    rows = torch.tensor([2, 0])
    one, other = lazy.batch(rows), held.batch(rows)
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.ids, other.ids)
    assert lazy.example_shape == held.example_shape
    assert len(lazy) == len(held) == 3
    again = pickle.loads(pickle.dumps(lazy))  # noqa: S301
    assert again.fetch(rows).equal(lazy.fetch(rows))


def test_a_lazy_set_reads_only_what_it_is_asked_for():
    decoder = Stack(images())
    LazySet(decoder).take(torch.tensor([1, 3, 5])).fetch(torch.tensor([2]))
    assert decoder.reads == [5]


@pytest.mark.parametrize("kind", ["held", "lazy"])
def test_a_fingerprint_changes_with_content_targets_ids_and_classes(kind):
    def made(pixels, targets=(0, 1, 0), ids=(0, 1, 2), classes=("a", "b")):
        options = {"classes": classes, "ids": torch.tensor(ids)}
        if kind == "held":
            return TensorSet(pixels, torch.tensor(targets), **options).fingerprint()
        return LazySet(Stack(pixels), torch.tensor(targets), **options).fingerprint()

    pixels = images(3)
    other = pixels.clone()
    other[2, 0, 3, 3] += 1
    prints = [
        made(pixels),
        made(other),
        made(pixels, targets=(0, 0, 1)),
        made(pixels, ids=(0, 1, 3)),
        made(pixels, classes=("a", "c")),
    ]
    assert len(set(prints)) == 5
    assert made(pixels.clone()) == prints[0]
    assert len(prints[0]) == 64


@pytest.mark.parametrize(
    ("inputs", "targets", "options", "message"),
    [
        (torch.zeros(0, 3), None, {}, r"shape \(0, 3\), expected images"),
        (torch.zeros(4), None, {}, r"shape \(4,\)"),
        (torch.zeros(4, 2).long(), None, {}, "are int64, expected uint8 images or floats"),
        (torch.zeros(4, 2).byte(), None, {}, "bytes are read as images"),
        (torch.tensor([[0.0], [float("nan")]]), None, {}, "NaN or infinite values, first in row 1"),
        (torch.full((2, 1, 2, 2), 3.0), None, {}, "reach from 3 to 3, expected 0 to 1"),
        (torch.zeros(2, 3), torch.zeros(2), {}, "are float32, expected class numbers"),
        (torch.zeros(2, 3), torch.zeros(3).long(), {}, r"shape \(3,\), expected \(2,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 7]), {"classes": "ab"}, r"label 7 in row 1 .* 0\.\.1"),
        (torch.zeros(2, 3), None, {"ids": torch.tensor([4, 4])}, "ids of set repeat"),
        (torch.zeros(2, 3), None, {"ids": torch.tensor([4])}, r"expected \(2,\) of int64"),
    ],
)
def test_what_is_no_set_is_refused_in_one_line(inputs, targets, options, message):
    with pytest.raises(DataError, match=message) as caught:
        TensorSet(inputs, targets, **options)
    assert "\n" not in str(caught.value)


def test_lazy_images_of_two_sizes_are_refused():
    class Odd(Stack):
        def read(self, position):
            return torch.zeros(1, 2 + position, 2, dtype=torch.uint8)

    with pytest.raises(DataError, match=r"differ in shape: \(1, 2, 2\) and \(1, 3, 2\); give size"):
        LazySet(Odd(images())).fetch(torch.tensor([0, 1]))


def test_an_empty_lazy_set_is_refused():
    with pytest.raises(DataError, match="holds no examples"):
        LazySet(Stack(images(0)))
