"""Between the texts that servers call tokens by, and the tokens' numbers."""

from collections.abc import Sequence
from functools import cached_property

from tutelage.core.errors import DataError
from tutelage.core.text import TextTokenizer

_MARK = "token_id:"
_STRAY = 0.1


class Words:
    """Reads a server's words for tokens.

    Args:
        tokenizer: That of the teacher; None where the server tells numbers and nothing is checked.
    """

    def __init__(self, tokenizer: TextTokenizer | None):
        self.tokenizer = tokenizer

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Tokens by their text; where two have the same, neither is told by it."""
        tokenizer, found, twice = self.tokenizer, dict[str, int](), set[str]()
        if tokenizer is None:
            return found
        for number in range(tokenizer.size):
            text = self._text(number)
            if text is None:
                continue
            if text in found:
                twice.add(text)
            found[text] = number
        return {text: number for text, number in found.items() if text not in twice}

    def number(self, told: str) -> int | None:
        """The number of a token: ``token_id:17``, or a text that only one token stands for."""
        if told.startswith(_MARK) and told[len(_MARK) :].isdecimal():
            return int(told[len(_MARK) :])
        return self._numbers.get(told)

    def same(self, token: int, told: str) -> bool:
        """Whether a server's word may be this token.

        Blanks around it do not count, since many servers drop or add them; nor do tokens that are
        part of a character, which have no text of their own.
        """
        if told.startswith(_MARK):
            return self.number(told) == token
        ours = self._text(token)
        return ours is None or not told or "�" in told or ours.strip() == told.strip()

    def strange(self, tokens: Sequence[int], told: Sequence[str]) -> bool:
        """Whether so many words are others that the server must have another tokenizer.

        A word or two may be spelled in another way; numbers were sent, so no place is lost.
        """
        if self.tokenizer is None or not tokens:
            return False
        pairs = zip(tokens, told, strict=True)
        others = sum(not self.same(token, word) for token, word in pairs)
        return others > max(1.0, _STRAY * len(tokens))

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text that a server reads as these tokens.

        A first token that begins a document is left out: such servers put it there themselves.

        Raises:
            DataError: Some stand for no text, or the text is not theirs alone.
        """
        tokenizer = self.tokenizer
        assert tokenizer is not None
        rest = tuple(tokens[1:] if tokens and tokens[0] == tokenizer.begin else tokens)
        special = next((one for one in rest if one in tokenizer.special), None)
        if special is not None:
            raise DataError(
                f"token {special} of {tokenizer.name} stands for no text, and this server is sent "
                "texts: ask one that takes numbers, or leave such tokens out."
            )
        text = tokenizer.decode(rest)
        if tokenizer.encode(text).tokens != rest:
            raise DataError(
                f"{tokenizer.name} cuts {text[:60]!r} into other tokens than the row holds, and so "
                "would a server that is sent texts: ask one that takes numbers."
            )
        return text

    def _text(self, token: int) -> str | None:
        tokenizer = self.tokenizer
        if tokenizer is None or not 0 <= token < tokenizer.size:
            return None
        try:
            return tokenizer.token_bytes(token).decode("utf-8") or None
        except UnicodeDecodeError:
            return None
