"""Sentences for sentence encoders, and what a good encoder makes of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from tutelage.data.text import SentenceSet, TokenLoader
from tutelage.data.text.tokenizing import document, tokenizer_of
from tutelage.models import Observed

LENGTH, NEAREST = 64, 10


@dataclass(frozen=True)
class Texts:
    """Sentences; which article, or which class, each is of."""

    words: list[str]
    groups: list[int]

    def some(self, chosen: Sequence[int]) -> "Texts":
        """Those rows."""
        return Texts([self.words[i] for i in chosen], [self.groups[i] for i in chosen])


def spread(texts: Texts, most: int) -> Texts:
    """At most so many, evenly out of all."""
    count = len(texts.words)
    return texts.some([i * count // min(most, count) for i in range(min(most, count))])


def articles(path: Path) -> Texts:
    """WikiText as sentences of 6 words and more, in articles (a title stands between single =)."""
    words, groups, article = [], [], -1
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("="):
            article += bool(re.fullmatch(r"= [^=].*[^=] =", text))
            continue
        plain = re.sub(r" @(.)@ ", r"\1", text)
        for sentence in re.split(r"(?<= [.?!]) ", plain):
            if len(sentence.split()) >= 6:
                words.append(sentence)
                groups.append(article)
    return Texts(words, groups)


def labelled(path: Path) -> Texts:
    """SST-2: a label and a sentence a line."""
    lines = path.read_text(encoding="latin-1").splitlines()
    return Texts([line[2:] for line in lines], [int(line[0]) for line in lines])


def as_set(texts: Texts, folder: str, first: int = 0) -> SentenceSet:
    """As rows of tokens by the tokenizer in ``folder``, the ends of long ones cut off."""
    cutter = tokenizer_of({"hf": {"path": folder}})
    rows = [document(cutter, words) for words in texts.words]
    short = [
        np.concatenate([row[: LENGTH - 1], row[-1:]]) if len(row) > LENGTH else row for row in rows
    ]
    tokens = np.full((len(short), max(map(len, short))), cutter.padding, np.int32)
    for place, row in enumerate(short):
        tokens[place, : len(row)] = row
    return SentenceSet(
        torch.from_numpy(tokens),
        torch.tensor([len(row) for row in short]),
        ids=torch.arange(first, first + len(short)),
        tokenizer=cutter,
    )


def embedded(model: Observed, texts: SentenceSet) -> Tensor:
    """Embeddings of unit length ``(N, D)``, in the order of the texts."""
    numbers, found = [], []
    with torch.no_grad():
        for batch in TokenLoader(texts, 64, seed=0).in_order().epoch(0):
            numbers.append(batch.ids)
            found.append(functional.normalize(model(batch).logits.float(), dim=1))
    return torch.cat(found)[torch.cat(numbers).argsort()]


def same_article(vectors: Tensor, groups: Sequence[int]) -> float:
    """How often the nearest other sentence is of the same article."""
    said = torch.tensor(groups)
    nearest = _cosines(vectors).argmax(1)
    return (said[nearest] == said).double().mean().item()


def shared_neighbours(vectors: Tensor, teacher: Tensor) -> float:
    """Of the teacher's ten nearest sentences, the share that are the student's too."""
    ours, theirs = (_cosines(each).topk(NEAREST).indices for each in (vectors, teacher))
    same = (ours[:, :, None] == theirs[:, None]).any(2)
    return same.double().mean().item()


def alike(vectors: Tensor, teacher: Tensor) -> float:
    """Spearman's correlation of the cosines of all pairs, over at most 500 sentences."""
    from scipy.stats import spearmanr

    some = torch.linspace(0, len(vectors) - 1, min(len(vectors), 500)).long()
    pairs = torch.triu_indices(len(some), len(some), 1)
    ours, theirs = (_cosines(each[some])[pairs[0], pairs[1]] for each in (vectors, teacher))
    return float(spearmanr(ours.numpy(), theirs.numpy()).statistic)


def probed(
    train: Tensor, validation: Tensor, test: Tensor, labels: Sequence[Sequence[int]]
) -> float:
    """Test accuracy of a logistic regression on frozen embeddings, its penalty by validation."""
    from sklearn.linear_model import LogisticRegression

    made = [
        LogisticRegression(C=c, max_iter=2000).fit(train.numpy(), labels[0])
        for c in (0.3, 1.0, 3.0, 10.0, 30.0)
    ]
    best = max(made, key=lambda each: each.score(validation.numpy(), labels[1]))
    return float(best.score(test.numpy(), labels[2]))


def _cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors, dim=1)
    return (unit @ unit.T).fill_diagonal_(-torch.inf)
