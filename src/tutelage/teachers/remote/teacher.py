"""A language model behind a server, as a teacher that tells its likeliest tokens."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.errors import RecipeError, ServerError
from tutelage.core.outputs import SparseOutputs
from tutelage.core.text import TextTokenizer
from tutelage.teachers.remote.abreast import abreast
from tutelage.teachers.remote.client import Client, Weight, usage_of
from tutelage.teachers.remote.costs import Bill, Budget, Estimate, Prices
from tutelage.teachers.remote.ledger import Ledger
from tutelage.teachers.remote.pace import Limits
from tutelage.teachers.remote.patience import Patience
from tutelage.teachers.remote.pieces import Piece, Positions, pieces_of
from tutelage.teachers.remote.probe import cut_for, try_out
from tutelage.teachers.remote.server import Server
from tutelage.teachers.remote.sparse import Sparse, sparse_of
from tutelage.teachers.remote.telling import (
    PromptLogprobs,
    Telling,
    Told,
    enough,
    followed,
    following,
)
from tutelage.teachers.remote.words import Words

_ROUTE = "/completions"


class RemoteTeacher:
    """Answers batches of language with the k likeliest next tokens of a model behind a server.

    At position t of a row stands the distribution of the token that follows, as everywhere in this
    library. A server tells at each token the distribution before it: what it says at token t + 1
    is the answer at position t, and the last token is followed by one more so that there is one to
    tell it at. Before the first answer this is tried out (`probe.try_out`), and in every answer the
    tokens that the server read are held against those that were sent.

    It is asked once for each document; keep its answers with `tutelage.teachers.Cached`, whose
    ``name`` is this one's. Positions that do not count are not asked for: there every token
    is said to be as likely as any other.

    A server chooses which tokens it tells: the teacher's likeliest. Forward divergences and those
    over the teacher's candidates and the tail can use them; a reverse divergence over the
    student's own candidates cannot, since what the teacher says of those is not among them.

    Args:
        server: Who is asked; a scored text may be two tokens shorter than what it can read.
        k: Candidates at each position; vLLM tells 20 unless ``--max-logprobs`` allows more.
        classes: How many tokens the student tells apart, ``V``; candidates beyond are in the tail.
        telling: How the server tells them: ``PromptLogprobs()``, ``Echo()``.
        tokenizer: The teacher's, to hold its spelling against the server's; needed by texts.
        positions: ``counted`` asks for those in the batch's mask, ``all`` for every token.
        limits: How much at once and in a minute.
        patience: How often and after how long again.
        prices: For money.
        budget: A bound on the whole.

    Raises:
        RecipeError: k is no number of candidates, or texts are to be sent without a tokenizer.

    Example:
        >>> teacher = RemoteTeacher(Server("http://127.0.0.1:8000", "large"), 32, 49_152)
        >>> teacher.name
        'large by prompt_logprobs, top 32 of 49152 at counted positions'
    """

    def __init__(
        self,
        server: Server,
        k: int,
        classes: int,
        *,
        telling: Telling | None = None,
        tokenizer: TextTokenizer | None = None,
        positions: Positions = "counted",
        limits: Limits | None = None,
        patience: Patience | None = None,
        prices: Prices | None = None,
        budget: Budget | None = None,
    ):
        telling = telling or PromptLogprobs()
        if not 1 <= k < classes:
            raise RecipeError(f"k is {k}, expected 1 or more, and fewer than {classes} tokens.")
        if telling.texts and tokenizer is None:
            raise RecipeError("a server that is sent texts needs tokenizer=, that of the teacher.")
        if positions not in ("counted", "all"):
            raise RecipeError(f"positions is {positions!r}, expected 'counted' or 'all'.")
        self.server, self.k, self.classes = server, k, classes
        self.telling, self.positions = telling, positions
        self._words, self._ledger = Words(tokenizer), Ledger(prices, budget)
        self._client = Client(server, limits or Limits(), patience or Patience(), self._ledger)
        self._tried = False

    @property
    def name(self) -> str:
        """Tells it from other teachers, as far as the server's own name for its model goes."""
        by = f"{self.telling.name}{' one late' if self.telling.late else ''}"
        what = f"top {self.k} of {self.classes} at {self.positions} positions"
        tokenizer = self._words.tokenizer
        mark = "" if tokenizer is None else f", tokenizer {tokenizer.fingerprint()[:12]}"
        return f"{self.server.model} by {by}, {what}{mark}"

    @property
    def spent(self) -> Bill:
        """What was asked and paid since this teacher was made."""
        return self._ledger.spent

    def estimate(self, batches: Iterable[Batch]) -> Estimate:
        """What answering these will cost: their tokens are known, and each text gets one more."""
        sent = [len(p.sent) for batch in batches for p in pieces_of(batch, self.positions)]
        prices = self._ledger.prices
        money = prices.of(sum(sent), len(sent))
        return Estimate(len(sent), 0, sum(sent), len(sent), money, prices.currency)

    def __call__(self, batch: Batch) -> SparseOutputs:
        """The answer: ``logits`` and ``top`` ``(N, T, k)``, ``log_tail`` ``(N, T)``, in fp32.

        Raises:
            DataError: The batch is no batch of language.
            ServerError: The server gives no answer, read other tokens, or tells them off by one.
        """
        pieces = list(pieces_of(batch, self.positions))
        assert not isinstance(batch.inputs, Tensor)
        ids = batch.inputs["input_ids"]
        rows, length = ids.shape
        # Nothing is known where nothing was asked: every token is as likely as any other.
        log_p = torch.full((rows, length, self.k), -math.log(self.classes))
        top = torch.arange(self.k).expand(rows, length, self.k).clone()
        log_tail = torch.full((rows, length), math.log1p(-self.k / self.classes))
        lanes = self._client.limits.lanes
        try:
            self._try_out(pieces)
            for piece, answers in abreast(self._answer, pieces, lanes, self._client.halt):
                places = [piece.start + place for place in piece.wanted]
                log_p[piece.row, places] = torch.tensor([one.log_p for one in answers])
                top[piece.row, places] = torch.tensor([one.top for one in answers])
                log_tail[piece.row, places] = torch.tensor([one.log_tail for one in answers])
        finally:
            self._client.go_on()
        home = ids.device
        return SparseOutputs(log_p.to(home), top=top.to(home), log_tail=log_tail.to(home))

    def close(self) -> None:
        """Let connections go."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, piece: Piece) -> tuple[Piece, list[Sparse]]:
        """What is told at the places wanted of a piece."""
        late = self.telling.late
        # Sent as text, a token that does not follow could run into the one before it.
        alone = late or (self.telling.texts and not piece.known)
        told = self._score(piece.tokens if alone else piece.sent)
        enough(told, self.k)
        told = told if late else told[1:]
        found = []
        for place in piece.wanted:
            one = told[place] if place < len(told) else None
            one = self._follow(piece.tokens[: place + 1]) if one is None else one
            if one is None:
                raise ServerError(
                    f"{self.server.name} tells nothing after token {place} of a text of "
                    f"{len(piece.tokens)}: leave that position out of the mask."
                )
            found.append(sparse_of(one, self.k, self.classes))
        return piece, found

    def _score(self, tokens: Sequence[int]) -> list[Told | None]:
        choice = self._ask(self.telling.body(tokens, self.k, self._words), len(tokens))
        with self._understood():
            return self.telling.read(choice, tokens, self._words)

    def _follow(self, tokens: Sequence[int]) -> Told | None:
        body = following(tokens, self.k, self._words, self.telling.texts)
        choice = self._ask(body, len(tokens))
        with self._understood():
            return followed(choice, self._words)

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as wrong:
            told = " ".join(f"{type(wrong).__name__}: {wrong}".split())[:200]
            raise ServerError(
                f"{self.server.name} tells candidates in a form that {self.telling.name} does not "
                f"have ({told}): look which server it is."
            ) from wrong

    def _ask(self, body: dict[str, Any], tokens: int) -> dict[str, Any]:
        answered = self._client.ask(_ROUTE, {"model": self.server.model} | body, Weight(tokens, 1))
        if answered.data is None:
            raise ServerError(f"{self.server.name} scored no text: {answered.error}.")
        told = usage_of(answered.data)
        if told is not None and told[0] != tokens:
            raise ServerError(
                f"{self.server.name} read {told[0]} tokens where {tokens} were sent: it adds some "
                "of its own (BOS) or cuts the text in another way, so that places do not match."
            )
        choices = answered.data.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise ServerError(f"{self.server.name} answered without choices: it is no such server.")
        return choices[0]

    def _try_out(self, pieces: Sequence[Piece]) -> None:
        """Once, on the longest text at hand."""
        if self._tried or not pieces:
            return
        sent = max((piece.tokens for piece in pieces), key=len)
        cut = cut_for(sent, self._words, self.telling.texts)
        if cut is not None:
            try_out(self.server.name, self.telling.late, self._score, self._follow, sent, cut)
            self._tried = True
