"""Byte-level BPE: merges learnt from the training text."""

import json
from collections.abc import Sequence

from tutelage.core.errors import DataError
from tutelage.core.registry import register
from tutelage.data.paths import existing
from tutelage.data.text.library import LibraryTokenizer, needs_library

END = "<|end|>"
_LEAST = 257


@register("tokenizer", "bpe")
def bpe_tokenizer(
    texts: Sequence[str], size: int = 2048, path: str | None = None
) -> LibraryTokenizer:
    r"""Byte-level BPE: 256 bytes, one token that ends documents, and merges of frequent pairs.

    The merges are those of the pair that is met most often, again and again, within words: the
    same text gives the same file, and every text comes back whole. `LibraryTokenizer.save` keeps
    it as a ``tokenizer.json``.

    Args:
        texts: Of the train split.
        size: Tokens in all; fewer where the text has no more pairs that are met twice.
        path: A kept ``tokenizer.json``, instead of learning one.

    Raises:
        DataError: ``size`` is below 257, there is no text, or the file is broken.
        NotInstalled: The library is not there.

    Example:
        >>> tokenizer = bpe_tokenizer(["to be or not to be"] * 3, size=264)
        >>> tokenizer.size, tokenizer.decode(tokenizer.encode("to be ☃").tokens)
        (264, 'to be ☃')

    Sennrich, Haddow, Birch: Neural Machine Translation of Rare Words with Subword Units, 2015,
    arXiv:1508.07909.
    """
    if path is not None:
        return kept(existing(path, "bpe path").read_text(encoding="utf-8"), name=f"bpe {path}")
    if size < _LEAST:
        raise DataError(f"bpe size is {size}, expected at least {_LEAST}: the bytes and the end.")
    if not any(texts):
        raise DataError("bpe has no text to learn from: give a text, or the path of a kept file.")
    return kept(_learnt(texts, size))


def kept(written: str, name: str = "bpe") -> LibraryTokenizer:
    """The tokenizer of a kept file's content; documents end with its ``<|end|>``, if it has one.

    Special tokens that a text spells out are text: nobody can end a document by writing so.
    """
    try:
        added = json.loads(written).get("added_tokens") or []
        end = next((token["id"] for token in added if token["content"] == END), None)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(
            f"{name} is no tokenizer.json ({error}): give one that is whole."
        ) from error
    return LibraryTokenizer(written, name, end=end, literal=True)


def _learnt(texts: Sequence[str], size: int) -> str:
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError as error:
        raise needs_library(error) from error
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    written: str = tokenizer.to_str()
    return written
