"""Texts are known again by their tokens: one that changed is noticed, filling is not."""

import torch

from tutelage.core.batch import Batch
from tutelage.data.text import TokenLoader, TokenSet
from tutelage.teachers.cache.sight import sights_of

DICE = torch.Generator().manual_seed(0)


def text(tokens, lengths=None):
    found = {"input_ids": tokens}
    if lengths is not None:
        found["attention_mask"] = (torch.arange(tokens.shape[1]) < lengths[:, None]).long()
    return Batch(found)


def apart(one, other):
    (a, near), (b, _) = sights_of(one), sights_of(other)
    return (a - b).abs() > near


def test_one_token_that_is_the_next_number_is_noticed():
    tokens = torch.randint(49_000, (2000, 64), generator=DICE)
    place = torch.randint(64, (2000,), generator=DICE)
    other = tokens.clone()
    other[torch.arange(2000), place] += 1
    assert apart(text(tokens), text(other)).double().mean() > 0.99
    assert not apart(text(tokens), text(tokens.clone())).any()


def test_two_tokens_that_change_places_are_noticed():
    tokens = torch.randint(49_000, (500, 64), generator=DICE)
    other = tokens.clone()
    other[:, [3, 9]] = tokens[:, [9, 3]]
    assert apart(text(tokens), text(other)).double().mean() > 0.99


def test_filling_is_no_difference():
    lengths = torch.randint(5, 40, (100,), generator=DICE)
    tokens = torch.randint(49_000, (100, 64), generator=DICE)
    other = tokens.clone()
    other[:, 40:] = 49_151
    short = text(tokens[:, :40], lengths)
    assert not apart(text(tokens, lengths), text(other, lengths)).any()
    assert not apart(text(tokens, lengths), short).any()


def test_a_row_looks_the_same_however_its_batch_was_cut():
    lengths = torch.tensor([2, 4, 3, 2, 2, 4, 3, 3, 2, 3])
    rows = TokenSet(torch.arange(1, 41).view(10, 4), lengths=lengths)
    whole, near = sights_of(rows.batch(torch.arange(10)))
    for seed in range(3):
        for batch in TokenLoader(rows, 2, seed=seed).epoch(0):
            assert bool(((sights_of(batch)[0] - whole[batch.ids]).abs() < near).all())
