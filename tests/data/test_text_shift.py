import numpy as np
import pytest
import torch

from tutelage.core.errors import DataError
from tutelage.data.text import next_tokens


def written_out(tokens, counted, documents):
    """The equation, position by position, in plain loops."""
    count, length = tokens.shape
    targets, mask = np.full((count, length - 1), -1), np.zeros((count, length - 1), bool)
    for n in range(count):
        for t in range(length - 1):
            if documents[n, t] >= 0 and documents[n, t] == documents[n, t + 1]:
                targets[n, t] = tokens[n, t + 1]
                mask[n, t] = counted[n, t + 1]
    return targets, mask


def test_distillkit_mask_off_by_one_the_first_answer_token_counts_and_what_follows_the_end_does_not():
    # question 5 6, answer 7 8, end 2, then filling: DistillKit's (labels >= 0) without the shift
    # would drop 7 (predicted at 6) and train on what stands after 2.
    tokens = torch.tensor([[5, 6, 7, 8, 2, 0, 0]])
    counted = torch.tensor([[0, 0, 1, 1, 1, 0, 0]]).bool()
    inputs, targets, mask = next_tokens(tokens, counted)
    pairs = [(inputs[0, t].item(), targets[0, t].item()) for t in mask[0].nonzero().flatten()]
    assert pairs == [(6, 7), (7, 8), (8, 2)]
    unshifted = counted[:, :-1]
    assert not torch.equal(mask, unshifted)


def test_every_row_is_as_the_equation_says():
    dice = np.random.default_rng(0)
    tokens = dice.integers(0, 9, (20, 12))
    counted = dice.random((20, 12)) < 0.6
    documents = np.sort(dice.integers(0, 4, (20, 12)), 1)
    documents[:, 9:] = np.where(dice.random((20, 1)) < 0.5, -1, documents[:, 9:])
    inputs, targets, mask = next_tokens(*map(torch.from_numpy, (tokens, counted, documents)))
    wanted, counts = written_out(tokens, counted, documents)
    assert np.array_equal(inputs, tokens[:, :-1])
    assert np.array_equal(targets, wanted)
    assert np.array_equal(mask, counts)


def test_no_document_is_predicted_from_the_one_before_it_though_its_end_token_stands_between():
    tokens = torch.tensor([[5, 6, 2, 7, 8, 2]])  # 2 ends a document
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]])
    _, targets, mask = next_tokens(tokens, None, documents)
    assert targets.tolist() == [[6, 2, -1, 8, 2]]
    assert mask.tolist() == [[True, True, False, True, True]]


def test_filling_is_neither_predicted_nor_predicts():
    tokens, documents = torch.tensor([[5, 2, 0, 0]]), torch.tensor([[0, 0, -1, -1]])
    _, targets, mask = next_tokens(tokens, None, documents)
    assert targets.tolist() == [[2, -1, -1]]
    assert mask.tolist() == [[True, False, False]]


def test_questions_have_targets_and_do_not_count():
    _, targets, mask = next_tokens(torch.tensor([[5, 6, 7]]), torch.tensor([[0, 0, 1]]).bool())
    assert targets.tolist() == [[6, 7]]
    assert mask.tolist() == [[False, True]]


@pytest.mark.parametrize("kind", [torch.uint16, torch.int32, torch.int64])
def test_tokens_of_any_integer_type_leave_as_int64(kind):
    inputs, targets, mask = next_tokens(torch.tensor([[40_000, 65_000, 1]]).to(kind))
    assert (inputs.dtype, targets.dtype, mask.dtype) == (torch.int64, torch.int64, torch.bool)
    assert targets.tolist() == [[65_000, 1]]


@pytest.mark.parametrize(
    ("tokens", "counted", "documents", "message"),
    [
        (torch.zeros(3, 1).long(), None, None, r"shape \(3, 1\), expected rows \(N, L\) of at"),
        (torch.zeros(3).long(), None, None, r"shape \(3,\)"),
        (torch.zeros(3, 4).long(), torch.ones(3, 3).bool(), None, r"counted has shape \(3, 3\)"),
        (torch.zeros(3, 4).long(), None, torch.ones(4).long(), r"documents has shape \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tokens, counted, documents, message):
    with pytest.raises(DataError, match=message):
        next_tokens(tokens, counted, documents)
