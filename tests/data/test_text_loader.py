import pytest
import torch
from text_samples import documents

from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.core.source import Source
from tutelage.data import SentenceSet, TokenLoader, TokenSet
from tutelage.data.text import pack
from tutelage.teachers import Cached

WAYS = [{"batch_size": 7}, {"tokens_per_batch": 64}]


def rows_of(seed=0, together=False):
    texts = [text for text in documents(60, seed) if len(text) > 1]
    return TokenSet.of(pack(texts, 20, together=together))


def sentences():
    lengths = torch.tensor([len(text) for text in documents(50)])
    tokens = torch.zeros(50, 30).long()
    for row, text in enumerate(documents(50)):
        tokens[row, : len(text)] = torch.from_numpy(text)
    return SentenceSet(tokens, lengths, torch.arange(50) % 2, classes=("a", "b"))


def same(one, other):
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a.ids, b.ids)
        and torch.equal(a.targets, b.targets)
        and all(torch.equal(a.inputs[name], b.inputs[name]) for name in b.inputs)
        for a, b in zip(one, other, strict=True)
    )


def ids(batches):
    return torch.cat([batch.ids for batch in batches])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made", [rows_of, sentences])
class TestEveryWay:
    def test_it_is_a_source_with_every_example_once(self, made, way):
        loader = TokenLoader(made(), **way)
        assert isinstance(loader, Source)
        batches = list(loader.epoch(3))
        assert len(batches) == len(loader)
        assert ids(batches).sort().values.tolist() == loader.ids.tolist()
        assert torch.equal(ids(batches), loader.ids[loader.order(3)])

    def test_any_batch_can_be_started_from(self, made, way):
        loader = TokenLoader(made(), **way)
        whole = list(loader.epoch(2))
        for start in (0, 1, len(whole) - 1, len(whole)):
            assert same(loader.epoch(2, start), whole[start:])

    def test_epochs_have_orders_of_their_own_that_come_again(self, made, way):
        loader = TokenLoader(made(), seed=1, **way)
        assert same(loader.epoch(0), TokenLoader(made(), seed=1, **way).epoch(0))
        assert not torch.equal(loader.order(0), loader.order(1))
        assert not torch.equal(loader.order(0), TokenLoader(made(), seed=2, **way).order(0))
        assert len(list(loader.epoch(0))) == len(list(loader.epoch(1))) == len(loader)

    def test_the_view_is_one_and_its_inputs_do_not_depend_on_order_or_labels(self, made, way):
        loader = TokenLoader(made(), seed=1, **way)
        assert (loader.views, loader.view(5)) == (1, 0)
        assert all(batch.view == 0 for batch in loader.epoch(0))
        bare = TokenLoader(made().with_targets(None), seed=9, **way)
        assert loader.identity() == bare.identity() == loader.in_order().identity()

    def test_no_column_is_left_that_no_row_needs(self, made, way):
        examples = made()
        for batch in TokenLoader(examples, **way).epoch(0):
            needed = examples.widths[torch.searchsorted(examples.ids, batch.ids)]
            assert batch.inputs["input_ids"].shape[1] == int(needed.max())
        full = {
            b.inputs["input_ids"].shape[1]
            for b in TokenLoader(examples, trim=False, **way).epoch(0)
        }
        assert full == {examples.example_shape[0]}


def test_no_batch_has_more_tokens_than_the_budget_and_little_is_filling():
    examples = sentences()
    loader = TokenLoader(examples, tokens_per_batch=90)
    sizes = [batch.inputs["input_ids"].numel() for batch in loader.epoch(0)]
    assert max(sizes) <= 90
    assert int(examples.lengths.sum()) > 0.85 * sum(sizes)
    by_rows = sum(b.inputs["input_ids"].numel() for b in TokenLoader(examples, 5).epoch(0))
    assert sum(sizes) < 0.8 * by_rows


def test_rows_of_one_length_meet_other_rows_in_another_epoch():
    loader = TokenLoader(rows_of(), tokens_per_batch=64)
    one, other = ({frozenset(b.ids.tolist()) for b in loader.epoch(e)} for e in (0, 1))
    assert one != other


def test_in_order_is_the_sets_order_or_short_rows_first():
    examples = rows_of()
    plain = TokenLoader(examples, 7, seed=3, drop_last=True).in_order()
    assert plain.order(4).tolist() == list(range(len(examples)))
    widths = examples.widths[TokenLoader(examples, tokens_per_batch=64).in_order().order(0)]
    assert bool((widths.diff() >= -1).all())  # up to the rounding
    assert len(widths) == len(examples)


def test_drop_last_leaves_the_small_batch_out():
    loader = TokenLoader(rows_of(), 7, drop_last=True)
    assert {len(batch) for batch in loader.epoch(0)} == {7}
    assert len(loader) == len(rows_of()) // 7


def test_filling_counts_nowhere_whatever_the_batches():
    examples = rows_of()
    for way in WAYS:
        assert sum(batch.count for batch in TokenLoader(examples, **way).epoch(0)) == examples.units


@pytest.mark.parametrize("together", [True, False])
def test_a_teachers_answers_are_kept_by_example_and_found_in_any_order(tmp_path, together):
    table = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))

    def teacher(batch):
        return Outputs(table[batch.inputs["input_ids"]])

    loader = TokenLoader(rows_of(together=together), 7, trim=False)
    with Cached(teacher, tmp_path, loader, name="table", precision="fp32") as cached:
        cached.fill(loader.in_order())
        asked = cached.counts.asked
        for batch in loader.epoch(5):
            assert torch.equal(cached(batch).logits, teacher(batch).logits)
        assert cached.counts.asked == asked == len(loader.examples)
        foreign = next(TokenLoader(rows_of(1, together), 7, trim=False).epoch(0))
        with pytest.raises(DataError, match=r"does not look as it did|is none of"):
            cached(foreign)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "batch_size is None and tokens_per_batch None: give one"),
        ({"batch_size": 2, "tokens_per_batch": 99}, "batch_size is 2 and tokens_per_batch 99"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"tokens_per_batch": 0}, "tokens_per_batch is 0"),
        ({"tokens_per_batch": 19}, "tokens_per_batch is 19, and the longest row of text has 20"),
        ({"batch_size": 999, "drop_last": True}, "drop_last leaves rows of text"),
        ({"tokens_per_batch": 99, "drop_last": True}, "no tokens_per_batch"),
    ],
)
def test_a_loader_that_cannot_be_is_refused(options, message):
    with pytest.raises(DataError, match=message):
        TokenLoader(rows_of(), **options)


@pytest.mark.parametrize(("number", "start"), [(-1, 0), (0, -1), (0, 99)])
def test_an_epoch_that_cannot_be_is_refused_at_once(number, start):
    with pytest.raises(DataError, match=f"epoch {number} from batch {start}"):
        TokenLoader(rows_of(), 7).epoch(number, start)
