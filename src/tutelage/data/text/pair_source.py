"""Texts and what is answered to each: translations, summaries, questions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.core.text import TextTokenizer
from tutelage.data.splits import Sealed, Splits
from tutelage.data.text.building import (
    SPLITS,
    asked_for,
    check_word,
    given_files,
    source_of,
    stored,
)
from tutelage.data.text.dividing import by_documents
from tutelage.data.text.pair_set import PairSet
from tutelage.data.text.reading import files_of, json_rows
from tutelage.data.text.sentence_set import SentenceSet
from tutelage.data.text.stored import filled
from tutelage.data.text.token_set import TokenSet
from tutelage.data.text.tokenizing import LONG, Tokens, document, shortened, tokenizer_of, told

_STARTS = ("padding", "begin", "end")
_TREATMENT = (
    "Texts are cut into tokens by the tokenizer named here, with its own two ends; an answer is "
    "written from token {start} on."
)


@dataclass(frozen=True)
class Pair:
    """A text, its answer, and where they stand."""

    text: str
    answer: str
    place: str


@register("data", "seq2seq")
def seq2seq(
    path: str | list[str],
    tokenizer: str | dict[str, Any],
    length: int = 256,
    answer_length: int = 64,
    text: str = "input",
    answer: str = "output",
    start: str | int = "padding",
    long: str = "refuse",
    validation_path: str | list[str] | None = None,
    test_path: str | list[str] | None = None,
    validation: float | None = None,
    test: float | None = None,
    encoding: str = "utf-8",
    seed: int = 0,
) -> Splits:
    """Texts with an answer to each, for encoder-decoders: JSON Lines, one pair an object.

    Every token of an answer is predicted, and the one that ends it; nothing of the text is. Pairs
    of the same text stay together in one split.

    Args:
        path: Files, or folders whose ``.jsonl`` files are taken in the order of their names.
        tokenizer: ``{hf: {path: folder}}``, ``bytes`` or another; one for both sides.
        length: Tokens of a text at most, with its two ends.
        answer_length: Tokens of an answer at most, with its end.
        text: The key of the text.
        answer: That of the answer.
        start: The token that the decoder starts from: the tokenizer's ``padding`` (as T5), its
            ``end`` (as BART), its ``begin``, or a number; a model's configuration calls it
            ``decoder_start_token_id``.
        long: Texts or answers of more tokens: ``refuse`` them, or ``cut`` their end off.
        validation_path: Files of the validation split.
        test_path: Files of the test split.
        validation: A fraction of the different texts, or a count; None for 0.1. Not with
            ``validation_path``.
        test: Likewise, taken out first.
        encoding: Of all files.
        seed: Which ones are taken out.

    Returns:
        Splits of `PairSet`; ``origin`` says how many texts of validation and test are in train.

    Raises:
        DataError: A file is missing or broken, an answer empty, a text too long, or a word is none
            of those named here.
    """
    check_word("seq2seq", "long", long, LONG)
    paths = given_files(path, validation_path, test_path)
    missing = asked_for(paths, {"validation": validation, "test": test}, "seq2seq")
    read = {name: _read(files, name, text, answer, encoding) for name, files in paths.items()}
    if missing:
        whole = read["train"]
        chosen = by_documents([each.text for each in whole], missing, seed, "seq2seq")
        read |= {name: [whole[i] for i in rows] for name, rows in chosen.items()}
    learnt = [words for each in read["train"] for words in (each.text, each.answer)]
    cutter = tokenizer_of(tokenizer, learnt)
    first = _start(start, cutter)
    sets: dict[str, PairSet] = {}
    begun = 0
    for name in SPLITS:
        ids = torch.arange(begun, begun + len(read[name]))
        begun += len(ids)
        sets[name] = _set(read[name], cutter, first, (length, answer_length), long, ids, name)
    known = {each.text for each in read["train"]}
    origin = {
        "source": "seq2seq",
        "path": path,
        "validation_path": validation_path,
        "test_path": test_path,
        "tokenizer": told(cutter),
        "length": length,
        "answer_length": answer_length,
        "start": first,
        "shared_texts": {name: sum(e.text in known for e in read[name]) for name in SPLITS[1:]},
        "predicted_tokens": {name: sets[name].units for name in SPLITS},
        "seed": seed,
    }
    return Splits(
        sets["train"],
        sets["validation"],
        Sealed(sets["test"]),
        "seq2seq",
        (),
        origin,
        stored=stored(cutter, length, _TREATMENT.format(start=first)),
    )


def _read(paths: str | list[str], name: str, text: str, answer: str, encoding: str) -> list[Pair]:
    what = source_of("seq2seq", name)
    found = []
    for file in files_of(paths, what, (".jsonl",)):
        for row in json_rows(file, what, encoding):
            pair = Pair(row.text(text), row.text(answer), row.place)
            for key, words in ((text, pair.text), (answer, pair.answer)):
                if not words.strip():
                    raise DataError(f"{key!r} in {pair.place} is empty: mend it, or leave it out.")
            found.append(pair)
    return found


def _start(written: str | int, tokenizer: TextTokenizer) -> int:
    """The number of the token that a decoder starts from."""
    named = {key: getattr(tokenizer, key) for key in _STARTS}
    if isinstance(written, str):
        check_word("seq2seq", "start", written, _STARTS)
        if named[written] is None:
            raise DataError(f"seq2seq start is {written}, and {tokenizer.name} has no such token.")
        return int(named[written])
    if isinstance(written, bool) or not 0 <= written < tokenizer.size:
        raise DataError(
            f"seq2seq start is {written!r}, expected {', '.join(_STARTS)} or a token number from 0 "
            f"to {tokenizer.size - 1}."
        )
    return written


def _set(
    pairs: Sequence[Pair],
    tokenizer: TextTokenizer,
    start: int,
    lengths: tuple[int, int],
    long: str,
    ids: Tensor,
    split: str,
) -> PairSet:
    def cut(words: str, most: int, place: str) -> Tokens:
        return shortened(document(tokenizer, words), most, tokenizer, long, place)

    texts = [cut(each.text, lengths[0], f"the text in {each.place}") for each in pairs]
    answers = [cut(each.answer, lengths[1], f"the answer in {each.place}") for each in pairs]
    begun = [np.concatenate([np.asarray([start], np.int32), row]) for row in answers]
    said: dict[str, Any] = {"ids": ids, "name": f"seq2seq {split}", "tokenizer": tokenizer}
    read, written = filled(texts, tokenizer.padding), filled(begun, tokenizer.padding)
    return PairSet(SentenceSet(*read, **said), TokenSet(written[0], lengths=written[1], **said))
