"""Sparse answers of texts on disk: packed, in 8 bits, of unlike lengths, by example number."""

import pytest
import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.teachers import Cached, Form, as_kept, sparse_answers
from tutelage.teachers.cache.records import Layout
from tutelage.teachers.cache.sight import sights_of

V = 300


class Texts:
    """Rows of 3 to 9 tokens, filled up to the longest of their batch."""

    def __init__(self, count=12, size=4, order=None):
        generator = torch.Generator().manual_seed(0)
        self.ids, self.views, self._size = torch.arange(count), 1, size
        self._rows = [torch.randint(8, V, (3 + i % 7,), generator=generator) for i in range(count)]
        self._order = list(range(count)) if order is None else order

    def identity(self):
        return {"data": "texts", "augment": [], "seed": None}

    def __len__(self):
        return -(-len(self._order) // self._size)

    def batch(self, numbers):
        rows = [self._rows[i] for i in numbers]
        most = max(map(len, rows))
        tokens = torch.full((len(rows), most), 7)
        there = torch.zeros(len(rows), most, dtype=torch.int64)
        for i, row in enumerate(rows):
            tokens[i, : len(row)], there[i, : len(row)] = row, 1
        mask = there.bool() & (torch.arange(most) > 0)  # behind one token of a question
        inputs = {"input_ids": tokens, "attention_mask": there}
        return Batch(inputs, mask=mask, ids=torch.tensor(numbers), view=0)

    def epoch(self, number, start=0):
        for i in range(start * self._size, len(self._order), self._size):
            yield self.batch(self._order[i : i + self._size])


class Teacher:
    """Logits by token, NaN where there is none; counts the units it was asked for."""

    def __init__(self):
        self.table = torch.randn(V, V, generator=torch.Generator().manual_seed(1)) * 3
        self.asked = 0

    def __call__(self, batch):
        self.asked += len(batch)
        logits = self.table[batch.inputs["input_ids"]]
        there = batch.inputs["attention_mask"].bool().unsqueeze(-1)
        return Outputs(torch.where(there, logits, torch.nan))


def kept(folder, who=None, source=None, **options):
    options = {"form": "top", "k": 5, "length": 9, "name": "table", **options}
    return Cached(Teacher() if who is None else who, folder, source or Texts(), **options)


# -- answers as they are kept --------------------------------------------------------------------


def by_class(answer):
    """Answers in the order of their class numbers."""
    order = answer.top.argsort(-1)
    return answer.top.gather(-1, order), answer.logits.gather(-1, order)


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-6), ("fp16", 0.01), ("int8", 0.06)])
def test_what_is_kept_comes_back_in_every_precision(precision, error):
    logits = torch.randn(4, 6, 1000, generator=torch.Generator().manual_seed(0)) * 3
    answer = sparse_answers(logits, 8)
    form = Form("top", 8, precision, draws=3)
    back = as_kept(Outputs(logits), form)
    for found, wanted in zip(by_class(back), by_class(answer), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=error)
    torch.testing.assert_close(back.log_tail, answer.log_tail, rtol=0, atol=min(error, 0.01))
    whole = back.logits.exp().sum(-1) + back.log_tail.exp()
    torch.testing.assert_close(whole, torch.ones(4, 6), rtol=0, atol=max(error, 1e-5))
    assert back.drawn.shape == (4, 6, 3)
    assert torch.equal(back.drawn.sort().values, as_kept(Outputs(logits), form).drawn.sort().values)


def test_32_bytes_hold_the_top_8_and_128_the_top_48_of_49152_classes():
    sizes = {k: Layout(Form("top", k, "int8"), (64, 49_152), {}).bytes / 64 for k in (8, 48)}
    assert sizes[8] <= 30
    assert sizes[48] <= 127


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_texts_of_unlike_lengths_are_kept_and_cut_again(tmp_path, precision):
    who, texts = Teacher(), Texts()
    with kept(tmp_path, who, texts, precision=precision, draws=2) as cache:
        filled = cache.fill(texts)
        assert (filled.answers, filled.asked) == (12, 12)
        for order in ([11, 0, 5], [3], [6, 7, 8, 9]):  # beside others, so filled up otherwise
            batch = texts.batch(order)
            found = cache(batch)
            live = sparse_answers(who.table[batch.inputs["input_ids"]], 5)
            assert found.top.shape == (*batch.mask.shape, 5)
            pairs = zip(by_class(found), by_class(live), strict=True)
            for ours, theirs in pairs:
                torch.testing.assert_close(ours[batch.mask], theirs[batch.mask], rtol=0, atol=0.06)
            for part in (found.logits, found.log_tail, found.tail_mean):
                assert part.isfinite().all()
        assert cache.counts.asked == 12
    with pytest.raises(DataError, match="for texts of another length"):
        kept(tmp_path, who, texts, precision=precision, draws=2, length=10)


def test_draws_are_by_example_and_position_not_by_batch(tmp_path):
    texts = Texts()
    with kept(tmp_path / "one", Teacher(), texts, draws=4) as one:
        first = {i: one(texts.batch([i, 6])).drawn[0] for i in (2, 9)}
    with kept(tmp_path / "two", Teacher(), texts, draws=4) as two:
        second = two(texts.batch([9, 6, 2]))
    for row, i in ((2, 2), (0, 9)):
        there = texts.batch([i]).mask[0]
        size = len(there)
        assert torch.equal(first[i][:size][there], second.drawn[row][:size][there])
    assert not torch.equal(first[2][1], first[2][2])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_only_positions_of_the_mask_are_asked_and_others_are_not_taken_for_answers(
    tmp_path, precision
):
    masked = Texts(count=7)
    who = Teacher()
    with kept(tmp_path, who, masked, precision=precision) as cache:
        cache.fill(masked)
        batch = masked.batch([6])
        more = Batch(batch.inputs, mask=torch.ones_like(batch.mask), ids=batch.ids, view=0)
        cache(more)  # the prompt's token was not kept: asked for again, and kept with it
        assert who.asked == 7 + 1
        cache(more)
        cache(batch)
        assert who.asked == 8
    alone = Cached(None, tmp_path, masked, form="top", k=5, length=9, precision=precision)
    with pytest.raises(DataError, match="lacks the answer to example 0 in view 0"):
        alone(Batch(masked.batch([0]).inputs, ids=torch.tensor([0]), view=0))


@pytest.mark.parametrize("form", ["top", "dense"])
def test_padding_of_nan_poisons_nothing_and_nan_of_an_answer_is_refused(tmp_path, form):
    who, texts = Teacher(), Texts()
    with kept(tmp_path, who, texts, form=form) as cache:
        found = cache(texts.batch([0, 6]))
        assert found.logits.isfinite().all()
        batch = texts.batch([0, 6])
        with pytest.raises(ModelError, match="NaN or infinite logits"):
            cache(Batch(batch.inputs, ids=batch.ids + 1, view=0))  # without a mask all count


def test_a_text_beyond_the_length_is_told(tmp_path):
    with (
        kept(tmp_path, length=8) as cache,
        pytest.raises(DataError, match="room for 8: set length"),
    ):
        cache(Texts().batch([6]))
    with kept(tmp_path / "none", length=None) as cache:
        cache(Texts().batch([0]))
        with pytest.raises(ShapeMismatch, match="set length to the longest"):
            cache(Texts().batch([1]))
    with pytest.raises(RecipeError, match="leave it out"):
        as_kept(Outputs(torch.zeros(2, 3)), Form("top", 2, length=4))


def test_another_text_under_the_same_number_is_found_however_it_is_filled_up(tmp_path):
    texts = Texts()
    with kept(tmp_path, Teacher(), texts) as cache:
        cache.fill(texts)
        batch = texts.batch([0, 6])
        other = {**batch.inputs, "input_ids": batch.inputs["input_ids"].flip(0)}
        with pytest.raises(DataError, match="example 0 in view 0 does not look as it did"):
            cache(Batch(other, mask=batch.mask, ids=batch.ids, view=0))


@pytest.mark.parametrize("named", ["", "student."])
def test_how_far_a_text_is_filled_up_does_not_change_its_looks(named):
    text = torch.tensor([[11, 12, 13, 14]])
    looks = []
    for more in (0, 3):
        tokens = torch.nn.functional.pad(text, (0, more), value=299)
        there = torch.nn.functional.pad(torch.ones_like(text), (0, more))
        masked = Batch({f"{named}input_ids": tokens, f"{named}attention_mask": there})
        shared = {
            "input_ids": tokens,
            "position_ids": torch.tensor([[0, 1, 0, 1, 0, 1, 2]])[:, : 4 + more],
        }
        targets = torch.nn.functional.pad(torch.tensor([[12, -1, 14, 9]]), (0, more), value=-1)
        looks.append([sights_of(each)[0].item() for each in (masked, Batch(shared, targets))])
    assert looks[0] == pytest.approx(looks[1], rel=1e-6)
    other, near = sights_of(Batch({"input_ids": text + 100, "attention_mask": text > 0}))
    assert abs(other.item() - looks[0][0]) > near


# -- teachers whose answers are sparse already -----------------------------------------------------


def served(batch):
    """A server's answers: its top 6, and nothing where there is no token."""
    logits = torch.randn(V, V, generator=torch.Generator().manual_seed(1))
    found = sparse_answers(logits[batch.inputs["input_ids"]], 6)
    there = batch.inputs["attention_mask"].bool()
    found.logits[~there] = torch.nan
    return found


def test_sparse_answers_of_a_server_are_kept(tmp_path):
    texts = Texts()
    options = {"classes": V, "precision": "int8"}
    with kept(tmp_path, served, texts, **options) as cache:
        cache.fill(texts)
        batch = texts.batch([4, 5])
        found, wanted = cache(batch), sparse_answers(torch.zeros(1, V), 5)
        assert isinstance(found, SparseOutputs)
        assert found.top.shape[-1] == wanted.top.shape[-1]
        whole = found.logits.exp().sum(-1) + found.log_tail.exp()
        torch.testing.assert_close(whole, torch.ones_like(whole), rtol=0, atol=0.05)
    for wrong, said in (
        ({"classes": None}, "needs the logits of all classes"),
        ({"form": "dense", "classes": V}, "needs the logits of all classes"),
        ({"k": 7, "classes": V}, "keep 6 classes, and 7 are asked for"),
        ({"draws": 2, "classes": V}, "sparse with 0 draws, and 2 are to be kept"),
    ):
        with (
            kept(tmp_path / said[:9], served, texts, **wrong) as cache,
            pytest.raises(SparseAnswer, match=said),
        ):
            cache(texts.batch([0]))
    batch = texts.batch([0, 6])
    bare = Batch(batch.inputs, ids=batch.ids, view=0)
    with kept(tmp_path / "nan", served, texts, classes=V) as cache, pytest.raises(ModelError):
        cache(bare)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"precision": "int4"}, "expected 'dense' or 'top', 'fp16', 'fp32' or 'int8'"),
        ({"form": "dense", "precision": "int8"}, "belong to form 'top'"),
        ({"draws": -1}, "draws is -1, expected at least 0"),
        ({"length": 0}, "length is 0, expected at least 1"),
    ],
)
def test_forms_that_do_not_exist_are_one_line(wrong, said):
    with pytest.raises(RecipeError, match=said) as refused:
        Form(**{"form": "top", "k": 2, **wrong})
    assert "\n" not in str(refused.value)
