"""Pairs of answers for ``setting: {preference: {pairs: preferences.jsonl}}``."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError
from tutelage.core.seeds import derive, uniform
from tutelage.core.text import TextTokenizer
from tutelage.data.text import TokenLoader, TokenSet, pack
from tutelage.data.text.conversations import Conversation
from tutelage.data.text.packing import Marks
from tutelage.data.text.reading import files_of, json_rows
from tutelage.data.text.templates import Templated, marked, plain, refuse_markers, rendered
from tutelage.data.text.tokenizing import Tokens

_KEY = "setting.preference.pairs"
_COLUMNS = ("chosen", "rejected")


class Pairs:
    """A source of questions with a better and a worse answer each, side by side in one batch.

    A line is ``{"prompt": ..., "chosen": ..., "rejected": ...}``, as ``tutelage synthesize`` writes
    ``preferences.jsonl``. Both answers are written by the data's template. Rows of one id are one
    question's: variant 0 is the chosen answer, 1 the rejected one.

    Args:
        path: The file.
        loader: Of the data: its tokenizer, length, batch size and order's seed are taken over.
        template: ``tokenizer`` or ``plain``.

    Raises:
        TutelageError: The file is missing or broken, or a pair is longer than the data's rows.
    """

    views = 1

    def __init__(self, path: str, loader: TokenLoader, template: str):
        rows = loader.examples
        assert isinstance(rows, TokenSet)
        assert rows.tokenizer is not None
        assert loader.batch_size is not None
        self.rows = _rows_of(path, rows.tokenizer, rows.example_shape[0], template)
        self.batch_size, self.seed, self.shuffle = loader.batch_size, loader.seed, loader.shuffle

    def __len__(self) -> int:
        return -(-len(self.rows) // (2 * self.batch_size))

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``number`` from the one numbered ``start`` on."""
        pairs = torch.arange(len(self.rows) // 2)
        if self.shuffle:
            pairs = uniform(derive(self.seed, "order", number), pairs)[:, 0].argsort(stable=True)
        for some in torch.split(pairs, self.batch_size)[start:]:
            both = torch.stack([2 * some, 2 * some + 1], 1).flatten()
            made = self.rows.batch(both, int(self.rows.widths[both].max()))
            assert made.targets is not None
            assert made.mask is not None
            yield replace(
                made,
                targets=made.targets.masked_fill(~made.mask, -1),
                mask=None,
                ids=both // 2,
                variant=both % 2,
            )


def check_pairs(path: object) -> str:
    """The file that a recipe names.

    Raises:
        RecipeError: It names none.
    """
    if not isinstance(path, str) or not path:
        raise RecipeError(
            f"{_KEY}: got {path!r}: name a file of pairs, JSON Lines with prompt, chosen and "
            "rejected, as tutelage synthesize writes preferences.jsonl."
        )
    if not Path(path).is_file():
        raise RecipeError(f"{_KEY}: there is no file {path!r}: check the path.")
    return path


def _rows_of(path: str, cutter: TextTokenizer, length: int, template: str) -> TokenSet:
    documents, counted = [], []
    for file in files_of(check_pairs(path), _KEY, (".jsonl",)):
        for row in json_rows(file, _KEY):
            if row.text("chosen") == row.text("rejected"):
                raise RecipeError(f"{_KEY}: {row.place} has one answer twice: leave it out.")
            for column in _COLUMNS:
                said = Conversation(
                    (("user", row.text("prompt")), ("assistant", row.text(column))), row.place
                )
                tokens, marks = _written(said, cutter, template)
                if len(tokens) > length + 1:
                    raise RecipeError(
                        f"{_KEY}: {row.place} has {len(tokens)} tokens with its {column} answer, "
                        f"more than the data's length {length} and one: leave it out, or give a "
                        "greater length."
                    )
                documents.append(tokens)
                counted.append(marks)
    packed = pack(documents, length, counted=counted, together=False, padding=cutter.padding)
    return TokenSet.of(packed, name="pairs", tokenizer=cutter)


def _written(said: Conversation, cutter: TextTokenizer, template: str) -> tuple[Tokens, Marks]:
    if isinstance(cutter, Templated):
        refuse_markers(said, cutter)
        if template == "tokenizer":
            return marked(rendered(said, cutter, [1]), cutter)
    return marked(plain(said, [1]), cutter, begin=True)
