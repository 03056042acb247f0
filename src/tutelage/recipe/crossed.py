"""A teacher with a tokenizer of its own: one text, cut by both (``setting: cross_tokenizer``)."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, RecipeError, TutelageError
from tutelage.core.registry import get, names, options_of
from tutelage.core.text import TextTokenizer
from tutelage.data import Splits
from tutelage.data.text import (
    AlignedTexts,
    TokenLoader,
    TokenSet,
    aligned_batch,
    aligned_rows,
    tokenizer_of,
)
from tutelage.data.text.aligned import Row
from tutelage.objectives import token_map
from tutelage.recipe import schema
from tutelage.recipe.complaints import short
from tutelage.recipe.sections import Named, Recipe

NAME = "cross_tokenizer"
_MAPPED = "overlap"
_LOOKED_AT = 256  # rows, for how much shorter tokens are


def check_crossed(recipe: Recipe) -> None:
    """What can be told of two tokenizers from the recipe's words alone.

    Raises:
        RecipeError: One line naming the key.
    """
    own, crossed = recipe.teacher.tokenizer, recipe.setting.name == NAME
    if own is None and not crossed:
        return
    if own is None:
        raise RecipeError(
            f"teacher.tokenizer: the setting {NAME} is for a teacher that cuts text otherwise: "
            "write its tokenizer, such as {hf: {path: FOLDER}}."
        )
    if not crossed:
        raise RecipeError(
            f"teacher.tokenizer: got {short(own.name)}, and the setting {recipe.setting.name} "
            f"compares token with token: write setting: {NAME}, with alm, uld or overlap."
        )
    source = recipe.data.source
    known = _options(source.name)
    if not {"tokenizer", "pack"} <= set(known):
        raise RecipeError(
            f"teacher.tokenizer: got {short(own.name)}, and {source.name} is no source of text "
            "that both could cut: take text or chat."
        )
    if source.options.get("pack", known["pack"].default):
        raise RecipeError(
            f"data.source.{source.name}.pack: got true, and two tokenizers can be aligned where "
            "each row is of one document: write pack: false."
        )
    if recipe.teacher.cache is not None:
        raise RecipeError(
            "teacher.cache: a teacher with a tokenizer of its own is asked live: leave it out."
        )


def own_data(recipe: Recipe, whole: Splits) -> Splits | None:
    """The same texts in the same splits, cut by the teacher's tokenizer; None where it has none.

    Its rows are as much longer as its tokens are shorter, so that both read about as many bytes at
    once: a teacher that is trained here would else never have met what it is asked about.

    Raises:
        TutelageError: The tokenizer cannot be made, with its key.
    """
    own, source = recipe.teacher.tokenizer, recipe.data.source
    if own is None:
        return None
    written: Any = {own.name: own.options} if own.options else own.name
    try:
        length = _own_length(written, whole, conversations="long" in _options(source.name))
        options = {**source.options, "tokenizer": written, "length": length}
        named = Named(name=source.name, options=options)
        splits: Splits = schema.build("data", named, "data.source")
    except TutelageError as error:
        raise type(error)(f"teacher.tokenizer: got {short(written)}: {error}") from error
    return splits


def _options(source: str) -> Mapping[str, Any]:
    return options_of(get("data", source)) if source in names("data") else {}


def _own_length(written: Any, whole: Splits, *, conversations: bool) -> int:
    """Tokens of the teacher that are read at once, from the first rows of the student's."""
    rows = whole.train
    assert isinstance(rows, TokenSet)
    assert rows.tokenizer is not None
    texts = [_text_of(rows, row)[0] for row in range(min(len(rows), _LOOKED_AT))]
    theirs = tokenizer_of(written, texts)
    pairs = [[len(cutter.encode(text)) for text in texts] for cutter in (rows.tokenizer, theirs)]
    ratio = sum(pairs[1]) / max(sum(pairs[0]), 1)
    if conversations:  # which are not cut
        ratio = max(b / max(a, 1) for a, b in zip(*pairs, strict=True))
    return math.ceil(rows.example_shape[0] * ratio) + 2 * conversations


def cutter_of(splits: Splits) -> TextTokenizer:
    """What cut a text."""
    cutter = getattr(splits.train, "tokenizer", None)
    assert isinstance(cutter, TextTokenizer)
    return cutter


def mapped(written: list[Named], whole: Splits, own: Splits | None) -> list[Named]:
    """The objectives with the map of tokens that ``overlap`` needs: ``tokens`` by its way.

    ``{overlap: {tokens: first}}`` names a way of `tutelage.objectives.token_map`; it is ``same``
    where nothing is written.
    """
    if own is None:
        return written
    ours, theirs, found = cutter_of(whole), cutter_of(own), list[Named]()
    for index, named in enumerate(written):
        way = named.options.get("tokens", "same")
        if named.name == _MAPPED and isinstance(way, str):
            try:
                numbers = token_map(ours, theirs, way).tolist()
            except TutelageError as error:
                raise type(error)(f"objective.{index}.{_MAPPED}.tokens: {error}") from error
            named = Named(name=named.name, options={**named.options, "tokens": numbers})
        found.append(named)
    return found


class AlignedRows(AlignedTexts):
    """The rows of a set of tokens as texts that a teacher cuts with its own tokenizer.

    A row that is a part of a document brings no token that begins or ends one: what stands at its
    cut ends is not learnt as an end. A character that a cut tears apart is left out.

    Args:
        loader: Of the student's rows, one document or a part of one each.
        teacher: The teacher's tokenizer.

    Raises:
        DataError: A row has several parts that count, or tokens that stand for no text.
    """

    def __init__(self, loader: TokenLoader, teacher: TextTokenizer):
        rows = loader.examples
        assert isinstance(rows, TokenSet)
        assert rows.tokenizer is not None
        assert loader.batch_size is not None
        found = [_text_of(rows, row) for row in range(len(rows))]
        super().__init__(
            [text for text, _, _ in found],
            rows.tokenizer,
            teacher,
            loader.batch_size,
            answers=[answer for _, answer, _ in found],
            ids=rows.ids,
            seed=loader.seed,
            shuffle=loader.shuffle,
        )
        self.ended = [ended for _, _, ended in found]

    def batch(self, rows: Tensor) -> Batch:
        """The texts of ``rows``."""
        made = []
        for row in rows.tolist():
            assert self.answers is not None
            answer = self.answers[row]
            pair = aligned_rows(self.texts[row], self.student, self.teacher, answer=answer)
            if not self.ended[row]:
                pair = _open(pair[0], self.student), _open(pair[1], self.teacher)
            made.append(pair)
        return aligned_batch(made, self.student, self.teacher, ids=self.ids[rows])


def _open(row: Row, cutter: TextTokenizer) -> Row:
    """A row without the token that ends it, where its tokenizer has such."""
    if cutter.end is None:
        return row
    return Row(row.tokens[:-1], row.groups[:-1], row.counted[:-1])


def _text_of(rows: TokenSet, row: int) -> tuple[str, tuple[int, int], bool]:
    """A row's text, the bytes of it that count, and whether its document ends with it."""
    cutter = rows.tokenizer
    assert cutter is not None
    length = len(rows.tokens[row]) if rows.lengths is None else int(rows.lengths[row])
    tokens = rows.tokens[row, :length].tolist()
    counted = [True] * length if rows.counted is None else rows.counted[row, :length].tolist()
    begun = cutter.begin is not None and tokens[0] == cutter.begin
    ended = cutter.end is not None and tokens[-1] == cutter.end
    # A row that goes on begins with a token that the row before it has predicted.
    first = 1 if begun or cutter.begin is not None else 0
    inner = slice(1 if begun else 0, length - 1 if ended else length)
    tokens, counted = tokens[inner], counted[inner]
    if any(token in cutter.special for token in tokens):
        raise DataError(
            f"row {row} of {rows.name} holds tokens of {cutter.name} that stand for no text, and "
            "the teacher's tokenizer has others: take plain text, or template: plain."
        )
    if first and not begun:
        counted[0] = False
    pieces = [cutter.token_bytes(token) for token in tokens]
    text, cut = _whole(b"".join(pieces))
    places = [place for place, one in enumerate(counted) if one]
    if not places or not all(counted[places[0] : places[-1] + 1]):
        raise DataError(
            f"row {row} of {rows.name} has several answers, and two tokenizers can be aligned "
            "where one counts: write learn: last."
        )
    start = max(sum(map(len, pieces[: places[0]])) - cut, 0)
    stop = sum(map(len, pieces[: places[-1] + 1])) - cut
    return text, (start, min(stop, len(text.encode()))), ended


def _whole(raw: bytes) -> tuple[str, int]:
    """The characters that are whole, and how many bytes were left out before them.

    >>> _whole("né".encode()[:-1]), _whole("én".encode()[1:])
    (('n', 0), ('n', 1))
    """
    cut = 0
    while cut < min(3, len(raw)) and raw[cut] & 0xC0 == 0x80:
        cut += 1
    return raw[cut:].decode("utf-8", "ignore"), cut
