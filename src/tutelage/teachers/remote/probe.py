"""Does a server tell the distribution before a token, or the one after it? Tried out once."""

import math
from collections.abc import Callable, Sequence

from tutelage.core.errors import ServerError
from tutelage.teachers.remote.telling import Told
from tutelage.teachers.remote.words import Words

_FAR, _APART, _MOST = 0.25, 0.1, 64


def cut_for(tokens: Sequence[int], words: Words, texts: bool) -> int | None:
    """How many of the tokens to try it out with; None where there are too few.

    Texts are cut before a blank, where a tokenizer begins anew.
    """
    longest = min(len(tokens) - 1, _MOST)
    places = range(longest, 1, -1)
    tokenizer = words.tokenizer
    if not texts or tokenizer is None:
        return longest if longest >= 2 else None
    return next((n for n in places if tokenizer.token_bytes(tokens[n])[:1].isspace()), None)


def try_out(
    name: str,
    late: bool,
    score: Callable[[Sequence[int]], list[Told | None]],
    follow: Callable[[Sequence[int]], Told | None],
    tokens: Sequence[int],
    cut: int,
) -> None:
    """Hold what is told of a given token against what is told when the model writes it itself.

    After ``tokens[:cut]`` the server is asked for the next token and its candidates. The same
    distribution must stand at ``tokens[cut]`` when all are given: then places mean what they
    should. A distribution that stands one place too early is that of a server which tells at each
    token what comes after it, and a student taught so would learn nothing.

    Args:
        name: Of the server.
        late: Whether it is taken to tell what comes after.
        score: Gives what is told at each given token.
        follow: Gives what is told of the token that the model would write next.
        tokens: To try it with.
        cut: As told by `cut_for`.

    Raises:
        ServerError: It tells what comes after where it was taken to tell what comes before, or the
            other way round, or something else altogether.
    """
    written, given = follow(tokens[:cut]), score(tokens[: cut + 1])
    if written is None:
        return
    before, after = _distance(written, given[cut]), _distance(written, given[cut - 1])
    right, wrong = (after, before) if late else (before, after)
    if wrong < right - _APART and wrong <= _FAR:
        told, option = ("before", "late=False") if late else ("after", "Echo(late=True)")
        raise ServerError(
            f"{name} tells at each given token the candidates {told} it: all places would be off "
            f"by one. Ask with {option}."
        )
    if right > _FAR:
        raise ServerError(
            f"what {name} tells of given tokens is not what it writes by (total variation "
            f"{right:.2f}): it answers for another text, or at another temperature."
        )


def _distance(one: Told, other: Told | None) -> float:
    """Total variation of two distributions over what either names, as a share of that mass."""
    if other is None:
        return 1.0
    a, b = ({n: math.exp(p) for n, p in told if n is not None} for told in (one, other))
    # Who is not named may have all that is left, but no more than the least likely that is.
    most_a, most_b = (min([*told.values(), max(0.0, 1 - sum(told.values()))]) for told in (a, b))
    alone = [max(0.0, a[n] - most_b) for n in a.keys() - b.keys()]
    alone += [max(0.0, b[n] - most_a) for n in b.keys() - a.keys()]
    both = sum(abs(a[n] - b[n]) for n in a.keys() & b.keys())
    mass = max(sum(a.values()), sum(b.values()))
    return 0.5 * (sum(alone) + both) / mass if mass > 0 else 0.0
