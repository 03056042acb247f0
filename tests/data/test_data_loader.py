import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.core.source import Source
from tutelage.data import Augment, LazySet, Loader, TensorSet

STEPS = [{"shift": {"pixels": 1}}, "flip", "mixup"]

workers_warn = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:This process .* is multi-threaded"
)


def examples(count=23):
    pixels = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    return TensorSet((pixels * 255).byte(), torch.arange(count) % 3, classes=tuple("abc"))


class Stack:
    def __init__(self, tensor, broken=-1):
        self.tensor, self.reads, self.broken = tensor, [], broken

    def __len__(self):
        return len(self.tensor)

    def read(self, position):
        if position == self.broken:
            raise DataError(f"image {position} is broken")
        self.reads.append(position)
        return self.tensor[position]

    def digest(self, positions):
        return str(positions)


def lazy(count=23, broken=-1):
    held = examples(count)
    return LazySet(Stack(held.inputs, broken), held.targets, classes=held.classes)


def same(one, other):
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs)
        and torch.equal(a.targets, b.targets)
        and torch.equal(a.ids, b.ids)
        and a.view == b.view
        for a, b in zip(one, other, strict=True)
    )


def ids(batches):
    return torch.cat([batch.ids for batch in batches])


def test_a_loader_is_a_source():
    assert isinstance(Loader(examples(), 4), Source)


def test_every_example_comes_once_in_an_epoch():
    loader = Loader(examples(), 4)
    batches = list(loader.epoch(3))
    assert len(batches) == len(loader) == 6
    assert [len(b) for b in batches] == [4, 4, 4, 4, 4, 3]
    assert ids(batches).sort().values.tolist() == list(range(23))


def test_drop_last_leaves_the_small_batch_out():
    loader = Loader(examples(), 4, drop_last=True)
    assert [len(b) for b in loader.epoch(0)] == [4] * 5 == [4] * len(loader)


def test_epochs_have_orders_of_their_own_that_come_again():
    loader = Loader(examples(), 4, seed=1)
    first = ids(loader.epoch(0))
    assert torch.equal(first, ids(loader.epoch(0)))
    assert not torch.equal(first, ids(loader.epoch(1)))
    assert not torch.equal(first, ids(Loader(examples(), 4, seed=2).epoch(0)))


def test_without_shuffling_the_order_is_the_sets():
    assert ids(Loader(examples(), 4, shuffle=False).epoch(5)).tolist() == list(range(23))


@pytest.mark.parametrize("start", [0, 1, 4, 5, 6])
def test_starting_in_the_middle_gives_the_tail(start):
    loader = Loader(examples(), 4, augment=Augment(STEPS))
    assert same(loader.epoch(2, start=start), list(loader.epoch(2))[start:])


def test_nothing_that_is_skipped_is_decoded():
    source = lazy()
    loader = Loader(source, 4)
    source.decoder.reads.clear()
    batch = next(loader.epoch(0, start=3))
    assert source.decoder.reads == batch.ids.tolist()


def test_views_come_again_and_carry_their_number():
    loader = Loader(examples(), 23, augment=Augment(STEPS), views=2, shuffle=False)
    zero, one, two = (next(loader.epoch(e)) for e in range(3))
    assert (zero.view, one.view, two.view) == (0, 1, 0)
    assert torch.equal(zero.inputs, two.inputs)
    assert not torch.equal(zero.inputs, one.inputs)


def test_views_come_again_in_new_orders():
    loader = Loader(examples(), 23, augment=Augment(STEPS), views=1)
    one, two = next(loader.epoch(0)), next(loader.epoch(1))
    assert not torch.equal(one.ids, two.ids)
    assert torch.equal(one.inputs[one.ids.argsort()], two.inputs[two.ids.argsort()])


def test_every_epoch_is_a_new_view_unless_told_otherwise():
    loader = Loader(examples(), 23, augment=Augment(STEPS))
    assert next(loader.epoch(7)).view == 7


def test_without_augmentation_there_is_one_view():
    batch = next(Loader(examples(), 5).epoch(7))
    assert batch.view == 0
    assert torch.equal(batch.inputs, examples().batch(batch.ids).inputs)


def test_the_stored_data_is_never_changed():
    held = examples()
    before = held.fingerprint()
    for _ in Loader(held, 4, augment=Augment([*STEPS[:2], "cutmix"])).epoch(0):
        pass
    for batch in Loader(held, 4).epoch(0):
        batch.inputs.zero_()
        batch.targets.zero_()
    assert held.fingerprint() == before


def test_lazy_and_held_sets_give_the_same_batches():
    for augment in (None, Augment(STEPS)):
        held, read = (Loader(s, 4, augment=augment, seed=4) for s in (examples(), lazy()))
        assert same(held.epoch(1), read.epoch(1))


@workers_warn
@pytest.mark.parametrize("augment", [None, Augment(STEPS)], ids=["plain", "augmented"])
def test_workers_change_nothing(augment):
    alone, many = (Loader(lazy(), 4, augment=augment, seed=4, workers=w) for w in (0, 2))
    assert same(alone.epoch(1), many.epoch(1))
    assert same(alone.epoch(1, start=3), many.epoch(1, start=3))
    assert list(many.epoch(1, start=6)) == []


@workers_warn
def test_workers_leave_the_global_random_stream_alone():
    state = torch.get_rng_state()
    assert len(list(Loader(lazy(), 8, workers=1).epoch(0))) == 3
    assert torch.equal(torch.get_rng_state(), state)


@workers_warn
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_example_is_one_line_from_a_worker_too(workers):
    with pytest.raises(DataError, match=r"^image 7 is broken$"):
        list(Loader(lazy(broken=7), 4, workers=workers).epoch(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"batch_size": 4, "views": 0}, "views is 0"),
        ({"batch_size": 4, "workers": -1}, "workers is -1, expected at least 0"),
        ({"batch_size": 24, "drop_last": True}, "drop_last leaves no batch: set has 23 examples"),
        ({"batch_size": 4, "augment": Augment([{"shift": {"pixels": 6}}])}, "shift of 6 pixels"),
    ],
)
def test_a_loader_that_cannot_be_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        Loader(examples(), **options)


@pytest.mark.parametrize(("number", "start"), [(-1, 0), (0, -1), (0, 7)])
def test_an_epoch_that_cannot_be_is_refused_at_once(number, start):
    with pytest.raises(DataError, match=f"epoch {number} from batch {start}"):
        Loader(examples(), 4).epoch(number, start)
