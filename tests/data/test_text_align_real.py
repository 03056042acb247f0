"""Alignment of published tokenizers: byte-level BPE against WordPiece that folds and drops."""

import os
from pathlib import Path

import pytest

from tutelage.core.text import Encoded
from tutelage.data.text.alignment import align

MODELS = Path(os.environ.get("TUTELAGE_MODELS", Path(__file__).parents[3] / "lm"))
FILES = [MODELS / name / "tokenizer.json" for name in ("smollm2", "minilm")]
TEXT = "Hello world, unbelievable Größe naïve 東京 — 12345\n\nnext  para 😀 ok"


def encoded(file, text):
    """Tokens with their bytes, where several of one character all have the whole of it."""
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(file))
    library.no_truncation()
    library.no_padding()
    found = library.encode(text, add_special_tokens=False)
    bytes_before = [len(text[:n].encode()) for n in range(len(text) + 1)]
    spans = tuple((bytes_before[a], bytes_before[b]) for a, b in found.offsets)
    return Encoded(tuple(found.ids), spans)


@pytest.mark.data
@pytest.mark.skipif(
    not all(file.is_file() for file in FILES), reason=f"no models at {MODELS} (TUTELAGE_MODELS)"
)
def test_smollm2_and_minilm_meet_in_words():
    ours, theirs = (encoded(file, TEXT) for file in FILES)
    found = align(ours, theirs)
    raw = TEXT.encode()

    def pieces(side, groups):
        spans = [
            [s for s, g in zip(side.spans, groups, strict=True) if g == n]
            for n in range(found.groups)
        ]
        return [raw[min(a for a, _ in s) : max(b for _, b in s)].decode() for s in spans]

    one, other = pieces(ours, found.student), pieces(theirs, found.teacher)
    assert [piece.strip() for piece in one] == [piece.strip() for piece in other]
    assert one[:4] == ["Hello", " world", ",", " unbelievable"]
    assert "東" in [piece.strip() for piece in one]
    # Line breaks and doubled spaces are the student's alone; nothing is the teacher's alone.
    alone = [raw[a:b] for (a, b), g in zip(ours.spans, found.student, strict=True) if g < 0]
    assert set(b"".join(alone).decode()) == {" ", "\n"}
    assert -1 not in found.teacher
