"""Two tokenizers of one text, for tests of alignment and of what is compared across them."""

import hashlib

import torch

from tutelage.core.batch import Batch
from tutelage.core.text import Encoded


class Pieces:
    """Cuts text by the longest piece it knows, byte by byte where it knows none."""

    def __init__(self, *pieces, begin=None, end=None, name="pieces", unknown=None):
        self.pieces = [p if isinstance(p, bytes) else p.encode() for p in pieces]
        self.name, self.begin, self.end = name, begin, end
        self.unknown = unknown
        self.padding = 0
        self.special = frozenset(x for x in (begin, end, unknown) if x is not None)
        self.numbers = {p: n for n, p in enumerate(self.pieces) if n not in self.special}

    @property
    def size(self):
        return len(self.pieces)

    def encode(self, text):
        data, tokens, spans, at = text.encode(), [], [], 0
        while at < len(data):
            for length in range(len(data) - at, 0, -1):
                number = self.numbers.get(data[at : at + length])
                if number is not None:
                    break
            else:
                assert self.unknown is not None, f"{self.name} cannot cut {data[at:]!r}"
                number = self.unknown
            tokens.append(number)
            spans.append((at, at + length))
            at += length
        return Encoded(tuple(tokens), tuple(spans))

    def decode(self, tokens):
        return b"".join(map(self.token_bytes, tokens)).decode()

    def token_bytes(self, token):
        return b"" if token in self.special else self.pieces[token]

    def fingerprint(self):
        return hashlib.sha256(repr((self.pieces, self.begin, self.end)).encode()).hexdigest()


class ByteBPE:
    """A byte-level BPE trained on some texts, by the tokenizers library."""

    padding, begin = 0, None

    def __init__(self, texts, size, *, begin=False, end=True, name="bpe"):
        from tokenizers import ByteLevelBPETokenizer

        marks = (["<s>"] if begin else []) + (["</s>"] if end else [])
        self.library = ByteLevelBPETokenizer()
        self.library.train_from_iterator(texts, size, show_progress=False, special_tokens=marks)
        self.name, self.size = name, self.library.get_vocab_size()
        self.begin = 0 if begin else None
        self.end = len(marks) - 1 if end else None
        self.special = frozenset(range(len(marks)))
        back = _byte_of_character()
        self.bytes = [
            b"" if n in self.special else bytes(back[c] for c in self.library.id_to_token(n))
            for n in range(self.size)
        ]

    def encode(self, text):
        tokens, spans, at = self.library.encode(text).ids, [], 0
        for token in tokens:
            spans.append((at, at + len(self.bytes[token])))
            at = spans[-1][1]
        return Encoded(tuple(tokens), tuple(spans))

    def decode(self, tokens):
        return b"".join(self.bytes[t] for t in tokens).decode()

    def token_bytes(self, token):
        return self.bytes[token]

    def fingerprint(self):
        return hashlib.sha256(repr(self.bytes).encode()).hexdigest()


def _byte_of_character():
    """GPT-2's alphabet of bytes: printable ones are themselves, the others lie from 256 on."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    found = {chr(b): b for b in kept}
    rest = [b for b in range(256) if b not in kept]
    return found | {chr(256 + n): b for n, b in enumerate(rest)}


def crossed(student, teacher, *, targets=None, teacher_targets=None, mask=None, more=None):
    """A batch of groups by hand: lists of rows of numbers."""
    inputs = {"student.group": torch.tensor(student), "teacher.group": torch.tensor(teacher)}
    if teacher_targets is not None:
        inputs["teacher.targets"] = torch.tensor(teacher_targets)
    return Batch(
        {**inputs, **(more or {})},
        None if targets is None else torch.tensor(targets),
        None if mask is None else torch.tensor(mask),
    )
