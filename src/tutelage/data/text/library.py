"""A tokenizer of the `tokenizers` library, with places in bytes."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tutelage.core.errors import DataError, NotInstalled
from tutelage.core.text import Encoded
from tutelage.data.text.pieces import contents
from tutelage.data.text.spans import byte_spans

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Render = Callable[[Sequence[tuple[str, str]], bool], str]
"""Makes one text of messages (role, text), with or without the words that ask for an answer."""


class LibraryTokenizer:
    """A tokenizer that its JSON file says everything of.

    Whatever the file says of truncation and padding is left out: no text is cut in silence.

    Args:
        written: The content of a ``tokenizer.json``.
        name: What messages call it.
        begin: Number of the token that begins a document; None for that which the file's own
            post-processing puts in front, if any.
        end: Number of the token that ends a document; None likewise.
        padding: Number of the token that fills rows up; None for ``end``, else 0.
        literal: Whether special tokens that a text spells out are text like any other.
        render: Writes a conversation as the model knows it; None where there is no template.
        origin: Plain data that makes it again; None for the file's content.
        keep: Writes all files of its model's tokenizer into a folder; None where there is no more
            than is known here.

    Raises:
        DataError: That is no such file.
        NotInstalled: The library is not there.
    """

    def __init__(
        self,
        written: str,
        name: str,
        *,
        begin: int | None = None,
        end: int | None = None,
        padding: int | None = None,
        literal: bool = False,
        render: Render | None = None,
        origin: Mapping[str, Any] | None = None,
        keep: Callable[[Path], object] | None = None,
    ):
        self._library = _read(written, name)
        self.name, self.render, self.literal = name, render, literal
        self._library.no_truncation()
        self._library.no_padding()
        self._library.encode_special_tokens = literal
        self._spec = json.loads(self._library.to_str())
        first, last = self._own_ends()
        self.begin = first if begin is None else begin
        self.end = last if end is None else end
        self.padding = padding if padding is not None else (self.end or 0)
        unknown = self._spec["model"].get("unk_token")
        added = self._spec.get("added_tokens") or []
        special = [each for each in added if each["special"] and each["content"] != unknown]
        self.special = frozenset(each["id"] for each in special)
        self.markers = tuple(each["content"] for each in special)
        vocabulary = self._library.get_vocab(with_added_tokens=True)
        self.size = max(vocabulary.values()) + 1
        self._contents = contents(self._spec, vocabulary)
        self._silent = (
            self.special | {vocabulary[unknown]} if unknown in vocabulary else self.special
        )
        self._origin, self._keep = origin, keep

    def encode(self, text: str) -> Encoded:
        """A text as tokens, without tokens that begin or end it."""
        found = self._library.encode(_checked(text), add_special_tokens=False)
        tokens = tuple(found.ids)
        spelt = [self._contents[token] for token in tokens]
        return Encoded(tokens, tuple(byte_spans(text, spelt, found.offsets)))

    def numbers(self, text: str) -> NDArray[np.int32]:
        """The tokens alone ``(L,)``, fast."""
        found = self._library.encode(_checked(text), add_special_tokens=False)
        return np.asarray(found.ids, np.int32)

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text; special ones are left out."""
        kept = [int(token) for token in tokens if int(token) not in self.special]
        text: str = self._library.decode(kept, skip_special_tokens=False)
        return text

    def token_bytes(self, token: int) -> bytes:
        """The bytes of text that a token stands for, empty for special and unknown ones."""
        return b"" if token in self._silent else self._contents.get(token, b"")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole file and of the tokens that begin, end and fill up."""
        total = hashlib.sha256(self._library.to_str().encode())
        total.update(f"{self.begin} {self.end} {self.padding} {self.literal}".encode())
        return total.hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write it as a ``tokenizer.json`` that the library, and every tool on it, reads."""
        Path(path).write_text(self._library.to_str(pretty=True), encoding="utf-8")
        return Path(path)

    def save_folder(self, folder: str | Path) -> Path:
        """Write the files by which transformers knows it, roles of tokens and template too."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        if self._keep is not None:
            self._keep(place)
            return place
        self.save(place / "tokenizer.json")
        roles = {"bos_token": self.begin, "eos_token": self.end, "pad_token": self.padding}
        said = {
            role: self._library.id_to_token(token)
            for role, token in roles.items()
            if token is not None
        }
        facts = {"tokenizer_class": "PreTrainedTokenizerFast", **said}
        (place / "tokenizer_config.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
        return place

    def stated(self) -> dict[str, Any]:
        """Plain data that `restored` makes it of again."""
        return dict(self._origin or {"bpe": {"written": self._library.to_str()}})

    def _own_ends(self) -> tuple[int | None, int | None]:
        """What the post-processor puts before and after a text."""
        whole = self._library.encode("a", add_special_tokens=True).ids
        bare = self._library.encode("a", add_special_tokens=False).ids
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                before, after = whole[:start], whole[start + len(bare) :]
                return (before[0] if before else None), (after[-1] if after else None)
        return None, None


def needs_library(error: ImportError) -> NotInstalled:
    """The one line where the extra is missing."""
    return NotInstalled(f'this tokenizer needs the extra hf ({error}): pip install "tutelage[hf]".')


def _read(written: str, name: str) -> "Tokenizer":
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise needs_library(error) from error
    try:
        return Tokenizer.from_str(written)
    except Exception as error:  # the library raises bare Exceptions
        said = " ".join(str(error).split())[:120]
        raise DataError(f"{name} is no tokenizer.json ({said}): give one that is whole.") from error


def _checked(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"a text has a lone surrogate at character {error.start}, which is no Unicode text: "
            "read its file as UTF-8."
        ) from error
    return text
