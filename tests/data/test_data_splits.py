import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data import Sealed, Splits, TensorSet, from_tensors, labelled
from tutelage.data.splits import divide
from tutelage.data.stratify import even, proportional


def some(count, classes=4, first=0):
    ids = torch.arange(first, first + count)
    names = tuple(map(str, range(classes)))
    return TensorSet(ids[:, None].float(), ids % classes, classes=names, ids=ids)


def test_the_test_set_opens_once():
    test = Sealed(some(8))
    assert test.opened is None
    assert len(test.open("the report")) == 8
    assert test.opened == "the report"
    with pytest.raises(DataError, match="already opened for 'the report', and now 'a second look'"):
        test.open("a second look")


def test_looking_at_length_and_fingerprint_does_not_open_the_test_set():
    test = Sealed(some(8))
    assert len(test) == 8
    assert test.fingerprint() == some(8).fingerprint()
    assert repr(test) == "Sealed(8 examples, opened=None)"
    assert test.opened is None


def test_an_example_in_two_splits_is_refused():
    with pytest.raises(DataError, match="train and test of mine share 2 example ids"):
        Splits(some(8), some(4, first=20), Sealed(some(4, first=6)), "mine", ("a",))


def test_dividing_is_stratified_exact_and_loses_nobody():
    targets = torch.cat([torch.full((n,), i) for i, n in enumerate((500, 300, 150, 50))])
    whole = TensorSet(torch.rand(1000, 2), targets, classes=tuple("abcd"))
    taken, rest = divide(whole, 100, "validation", 0)
    assert torch.bincount(taken.targets).tolist() == [50, 30, 15, 5]
    assert sorted(taken.ids.tolist() + rest.ids.tolist()) == list(range(1000))


def test_dividing_depends_on_the_seed_and_on_nothing_else():
    whole = some(400)
    first = divide(whole, 0.25, "validation", 0)[0].ids
    assert first.equal(divide(whole, 0.25, "validation", 0)[0].ids)
    assert not first.equal(divide(whole, 0.25, "validation", 1)[0].ids)
    mixed = whole.take(torch.randperm(400, generator=torch.Generator().manual_seed(3)))
    assert first.equal(divide(mixed, 0.25, "validation", 0)[0].ids.sort().values)


def test_unlabelled_examples_stay_in_train():
    targets = torch.arange(100) % 2
    targets[50:] = -1
    splits = from_tensors(torch.rand(100, 2), targets, validation=10, test=10)
    assert int((splits.train.targets < 0).sum()) == 50
    assert bool((splits.validation.targets >= 0).all())


def test_fractional_remainders_go_to_the_largest_and_leave_one_of_each_class():
    assert proportional(torch.tensor([10, 10, 10]), 4, "v").sum() == 4
    assert proportional(torch.tensor([97, 2, 1]), 50, "v").tolist() == [49, 1, 0]
    assert proportional(torch.tensor([0, 6, 2]), 4, "v").tolist() == [0, 3, 1]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (0, "is 0, expected a count of at least 1 or a fraction"),
        (-0.5, "is -0.5, expected a count"),
        (1.5, "is 1.5, expected a count"),
        (True, "is True, expected a count"),
        (40, "asks for 40 examples, and there are 40 in all"),
        (3, "of 3 examples is too small for 4 classes"),
        (38, "would empty a class"),
    ],
)
def test_a_split_that_cannot_be_is_refused(asked, message):
    with pytest.raises(DataError, match=message):
        divide(some(40), asked, "validation", 0)


def test_few_labels_are_shared_out_evenly_and_the_rest_is_minus_one():
    splits = from_tensors(torch.rand(400, 3), torch.arange(400) % 4, validation=40, test=40)
    few = splits.unlabelled(labels=42, seed=5)
    counts = torch.bincount(few.train.targets[few.train.targets >= 0])
    assert counts.sum() == 42
    assert sorted(counts.tolist()) == [10, 10, 11, 11]
    assert int((few.train.targets == -1).sum()) == 320 - 42
    kept = few.train.targets >= 0
    assert torch.equal(few.train.targets[kept], splits.train.targets[kept])
    assert torch.equal(few.train.ids, splits.train.ids)
    assert few.validation is splits.validation
    assert few.test is splits.test
    assert few.origin["labels"] == 42
    assert not torch.equal(few.train.targets, splits.unlabelled(42, seed=6).train.targets)
    assert torch.equal(few.train.targets, splits.unlabelled(42, seed=5).train.targets)
    assert int((splits.train.targets < 0).sum()) == 0


def test_more_labels_keep_the_fewer_where_classes_are_even():
    splits = from_tensors(torch.rand(400, 3), torch.arange(400) % 4)
    few, more = (splits.unlabelled(n).train.targets >= 0 for n in (20, 40))
    assert bool((more | ~few).all())


def test_a_small_class_gives_all_it_has():
    numbers = torch.tensor([0.3, 0.1, 0.2])
    assert even(torch.tensor([100, 2, 100]), 50, numbers).tolist() == [24, 2, 24]
    assert even(torch.tensor([1, 2, 3]), 6, numbers).tolist() == [1, 2, 3]


def test_labelled_is_the_part_with_labels():
    splits = from_tensors(torch.rand(100, 3), torch.arange(100) % 2).unlabelled(10)
    part = labelled(splits.train)
    assert len(part) == 10
    assert bool((part.targets >= 0).all())
    with pytest.raises(DataError, match="no labelled example"):
        labelled(part.with_targets(torch.full((10,), -1)))


@pytest.mark.parametrize("labels", [0, 3, 10_000])
def test_too_few_or_too_many_labels_are_refused(labels):
    splits = from_tensors(torch.rand(100, 3), torch.arange(100) % 4)
    with pytest.raises(DataError, match=rf"labels is {labels}, expected 4 \(one a class\) to 81"):
        splits.unlabelled(labels)


def test_examples_without_any_label_cannot_be_split():
    from tutelage.data import from_tensors

    with pytest.raises(DataError, match="without any label"):
        from_tensors(torch.rand(40, 3), torch.full((40,), -1))
