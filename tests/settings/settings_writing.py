"""Tiny models that read and write numbers for words, and batches of them."""

import torch
from torch import nn

from tutelage.core.batch import Batch
from tutelage.engine import Learner, adamw, sgd
from tutelage.models.observed import Observed
from tutelage.models.readers import plain

WORDS, END = 9, 1


class Reader(nn.Module):
    """Causal: each position sees its own word, and the mean of all words up to it."""

    def __init__(self, words=WORDS, width=12, seed=0, dropout=0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.out = nn.Embedding(words, width), nn.Linear(width, words)
        self.here, self.before = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs):
        ids = inputs["input_ids"]
        there = inputs.get("attention_mask", torch.ones_like(ids))[..., None].float()
        words = self.words(ids) * there
        mean = words.cumsum(1) / there.cumsum(1).clamp(min=1)
        return self.out(self.dropout(torch.tanh(self.here(words) + self.before(mean))))


def observed(seed=0, **options):
    return Observed(Reader(seed=seed, **options), read=plain)


def learner(seed=0, rate=0.1, adam=False, **options):
    how = (
        adamw(learning_rate=rate, weight_decay=0.0)
        if adam
        else sgd(learning_rate=rate, momentum=0.0, weight_decay=0.0)
    )
    return Learner(observed(seed, **options), how)


def questions(count=3, rows=4, length=7, seed=3, ids=True):
    """Right-padded rows of several lengths; the answer begins after two to four words."""
    source = torch.Generator().manual_seed(seed)
    found = []
    for k in range(count):
        tokens = torch.randint(2, WORDS, (rows, length), generator=source)
        starts = torch.tensor([2, 4, 3, 2] * rows)[:rows]
        stops = torch.tensor([7, 6, 5, 7] * rows)[:rows].clamp(max=length)
        place = torch.arange(length)
        real = place < stops[:, None]
        tokens = tokens.masked_fill(~real, 0)
        counted = (place >= starts[:, None]) & real
        mask = counted[:, 1:]
        inputs = {"input_ids": tokens[:, :-1], "attention_mask": real[:, :-1].long()}
        numbers = torch.arange(rows) + rows * k if ids else None
        found.append(Batch(inputs, tokens[:, 1:].masked_fill(~mask, -1), mask, numbers))
    return found
