import pytest
import torch
from text_samples import documents

from tutelage.core.errors import DataError
from tutelage.data import Loader, SentenceSet, TokenSet, labelled
from tutelage.data.text import ByteTokenizer, next_tokens, pack


def rows_of(count=30, together=False, **options):
    texts = [text for text in documents(count) if len(text) > 1]
    return TokenSet.of(pack(texts, 12, together=together), **options)


def answers():
    """Two questions with answers, filled up."""
    tokens = torch.tensor([[5, 6, 7, 2, 0], [5, 8, 9, 9, 2]])
    counted = torch.tensor([[0, 0, 1, 1, 0], [0, 0, 0, 1, 1]]).bool()
    return TokenSet(tokens, lengths=torch.tensor([4, 5]), counted=counted, ids=torch.tensor([7, 3]))


def sentences(**options):
    tokens = torch.tensor([[1, 5, 2, 0], [1, 5, 6, 2], [1, 2, 0, 0]])
    given = {"targets": torch.tensor([0, 1, -1]), "classes": ("bad", "good"), **options}
    return SentenceSet(tokens, torch.tensor([3, 4, 2]), **given)


def test_a_batch_of_answers_lines_up_and_counts_answers_alone():
    batch = answers().batch(torch.tensor([1, 0]))
    assert batch.ids.tolist() == [3, 7]
    assert batch.inputs["input_ids"].tolist() == [[5, 8, 9, 9], [5, 6, 7, 2]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert batch.targets.tolist() == [[8, 9, 9, 2], [6, 7, 2, -1]]
    assert batch.mask.tolist() == [[False, False, True, True], [False, True, True, False]]
    assert batch.count == answers().units == 4


def test_rows_without_filling_have_neither_mask_nor_positions():
    batch = TokenSet(torch.arange(10).view(2, 5)).batch(torch.arange(2))
    assert set(batch.inputs) == {"input_ids"}
    assert bool(batch.mask.all())


@pytest.mark.parametrize(
    ("size", "kind"), [(257, torch.uint16), (65_536, torch.uint16), (65_537, torch.int32)]
)
def test_tokens_are_kept_in_as_few_bytes_as_the_vocabulary_allows(size, kind):
    rows = TokenSet(torch.tensor([[0, size - 1, 3]]), vocabulary=size)
    assert rows.tokens.dtype == kind
    assert rows.batch(torch.tensor([0])).inputs["input_ids"].tolist() == [[0, size - 1]]
    assert rows.fetch(torch.tensor([0])).tolist() == [[0, size - 1, 3]]


@pytest.mark.parametrize("together", [True, False])
def test_cut_columns_change_nothing_but_the_width(together):
    rows = rows_of(together=together)
    chosen = rows.widths.argsort()[:4]
    width = int(rows.widths[chosen].max())
    narrow, wide = rows.batch(chosen, width), rows.batch(chosen)
    for name, value in narrow.inputs.items():
        assert torch.equal(value, wide.inputs[name][:, :width])
    assert torch.equal(narrow.targets, wide.targets[:, :width])
    assert torch.equal(narrow.mask, wide.mask[:, :width])
    assert narrow.count == wide.count


@pytest.mark.parametrize("made", [rows_of, answers, sentences])
def test_taking_rows_keeps_ids_and_content(made):
    whole = made()
    part = whole.take(torch.tensor([1, 0])).take(torch.tensor([1]))
    assert part.ids.tolist() == whole.ids[:1].tolist()
    one, other = part.batch(torch.tensor([0])), whole.batch(torch.tensor([0]))
    assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in other.inputs)
    assert torch.equal(one.targets, other.targets)
    assert part.example_shape == whole.example_shape
    assert part.vocabulary == whole.vocabulary


def test_all_targets_are_those_of_the_batches():
    rows = rows_of(together=True)
    assert torch.equal(rows.targets, rows.batch(torch.arange(len(rows))).targets)
    _, targets, _ = next_tokens(rows.tokens)
    assert torch.equal(rows.targets[rows.targets >= 0], targets[rows.targets >= 0])


def test_no_token_of_text_is_unlabelled_and_classes_are_not_asked_for():
    assert len(labelled(rows_of())) == len(rows_of())
    assert labelled(sentences()).ids.tolist() == [0, 1]


def test_fingerprints_change_with_tokens_marks_lengths_and_ids():
    base = answers()
    other = base.tokens.int()
    other[0, 0] = 6
    options = {"lengths": base.lengths, "counted": base.counted, "ids": base.ids}
    prints = [
        base.fingerprint(),
        TokenSet(other, **options).fingerprint(),
        TokenSet(base.tokens, **{**options, "counted": None}).fingerprint(),
        TokenSet(base.tokens, **{**options, "lengths": torch.tensor([5, 5])}).fingerprint(),
        TokenSet(base.tokens, **{**options, "ids": None}).fingerprint(),
    ]
    assert len(set(prints)) == 5
    assert answers().fingerprint() == prints[0]
    assert base.with_targets(None).fingerprint() == prints[2]


def test_fingerprints_of_sentences_change_with_labels_and_classes():
    named = sentences(classes=("bad", "fine"))
    bare = sentences(targets=None)
    assert len({each.fingerprint() for each in (sentences(), named, bare)}) == 3
    assert sentences().with_targets(None).fingerprint() == bare.fingerprint()


def test_sentences_have_class_numbers_and_a_mask_over_their_tokens():
    batch = sentences().batch(torch.tensor([2, 0]), 3)
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 0], [1, 5, 2]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.targets.tolist() == [-1, 0]
    assert batch.mask is None


def test_the_loader_of_images_refuses_tokens():
    for made in (rows_of(), sentences()):
        with pytest.raises(DataError, match=r"rows of tokens.*tutelage\.data\.TokenLoader"):
            Loader(made, 4)


def marks(*rows):
    return torch.tensor(rows).bool()


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        (torch.zeros(0, 4).long(), {}, r"shape \(0, 4\), expected rows"),
        (torch.zeros(2, 1).long(), {}, r"shape \(2, 1\)"),
        (torch.zeros(2, 4), {}, "are float32, expected their numbers"),
        (torch.tensor([[1, 9]]), {"vocabulary": 9}, r"token 9 in row 0 of text is outside 0\.\.8"),
        (torch.tensor([[1, 2], [1, -1]]), {}, "token -1 in row 1"),
        (torch.tensor([[1, 300]]), {"tokenizer": ByteTokenizer()}, r"outside 0\.\.256"),
        (
            torch.ones(2, 4).int(),
            {"lengths": torch.tensor([4, 1])},
            "row 1 of text is 1 tokens long, expected 2 to 4",
        ),
        (
            torch.ones(2, 4).int(),
            {"lengths": torch.tensor([4, 5])},
            "row 1 of text is 5 tokens long",
        ),
        (
            torch.ones(2, 4).int(),
            {"lengths": torch.tensor([4])},
            r"lengths of text have shape \(1,\)",
        ),
        (torch.ones(2, 4).int(), {"counted": torch.ones(2, 4)}, "counted of text are float32"),
        (
            torch.ones(2, 3).int(),
            {"counted": marks([0, 0, 1], [1, 0, 0])},
            "row 1 of text has nothing to predict",
        ),
        (torch.ones(1, 3).int(), {"begins": marks([0, 1, 0])}, "must hold in the first column"),
        (torch.ones(2, 3).int(), {"ids": torch.tensor([1, 1])}, "ids of text repeat"),
    ],
)
def test_rows_that_cannot_be_are_refused_in_one_line(tokens, options, message):
    with pytest.raises(DataError, match=message) as caught:
        TokenSet(tokens, **options)
    assert "\n" not in str(caught.value)


def test_what_a_set_of_tokens_cannot_do_is_refused():
    with pytest.raises(DataError, match="follow from its tokens"):
        rows_of().with_targets(torch.zeros(3))
    with pytest.raises(DataError, match="width is 2, and these rows of text need 3 to 4"):
        answers().batch(torch.tensor([0]), 2)
    with pytest.raises(DataError, match="width is 1, and these rows of sentences need 3 to 4"):
        sentences().batch(torch.tensor([0]), 1)
    for made in (answers(), sentences()):
        with pytest.raises(DataError, match="left without examples"):
            made.take(torch.tensor([], dtype=torch.long))
    with pytest.raises(DataError, match="label 2 in row 1"):
        sentences(targets=torch.tensor([0, 2, 1]))
