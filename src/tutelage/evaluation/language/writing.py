"""Models that go on with a text: which do, how much they read, and what they write."""

from collections.abc import Sequence

from tutelage.core.errors import ModelError
from tutelage.core.text import TextTokenizer
from tutelage.core.writing import Request
from tutelage.evaluation.language.tasks import Write
from tutelage.models import Observed, causal_lm, encoder, seq2seq
from tutelage.models.text_readers import model_can_write
from tutelage.models.zoo.gpt import GPT
from tutelage.synthesis import LocalWriter

_UNKNOWN = 1024  # tokens read by a model that does not say how many it can


def why_silent(model: Observed) -> str | None:
    """Why a model does not go on with a text, in a clause; None where it does.

    >>> import torch
    >>> why_silent(Observed(torch.nn.Linear(2, 2), read=encoder))
    'Linear sees a whole text at once and goes on with none'
    """
    name = type(model.model).__name__
    if model.read is encoder:
        return f"{name} sees a whole text at once and goes on with none"
    if model.read is seq2seq:
        return f"{name} is an encoder-decoder: it answers one text with another"
    if model.read is causal_lm and not model_can_write(model.model):
        return f"{name} has no head that writes the next token"
    return None


def reads_at_most(model: Observed) -> int:
    """Tokens that a model reads at once: its positions.

    >>> from tutelage.models import build_model
    >>> gpt = build_model({"gpt": {"width": 16, "length": 99}}, classes=9, shape=(4,))
    >>> reads_at_most(Observed(gpt))
    99
    """
    if isinstance(model.model, GPT):
        return model.model.sizes.length
    config = getattr(model.model, "config", None)
    for name in ("max_position_embeddings", "n_positions"):
        found = getattr(config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return _UNKNOWN


def greedy(model: Observed, tokenizer: TextTokenizer, *, most: int) -> Write:
    """Writes the likeliest token each time, until a stop, the end, or ``most`` tokens.

    A prompt that is too long for the model loses its beginning.

    Args:
        model: One that goes on with a text.
        tokenizer: Its own.
        most: Tokens of an answer.

    Raises:
        ModelError: The model writes none, or has no room for so many tokens; when it is asked, that
            a prompt cannot be answered.
    """
    why = why_silent(model)
    if why is not None:
        raise ModelError(f"{why}.")
    room = reads_at_most(model) - most - 1  # and a token that begins the text
    if room < 1:
        raise ModelError(
            f"{type(model.model).__name__} has {reads_at_most(model)} positions, and an answer of "
            f"{most} tokens leaves no room for the question: set most lower."
        )
    writer = LocalWriter(model, tokenizer, template=lambda said: said[0][1], name="model")

    def write(prompts: Sequence[str], stop: tuple[str, ...]) -> list[str]:
        asked = [
            Request(str(i), (("user", _last(text, tokenizer, room)),), most, stop=stop)
            for i, text in enumerate(prompts)
        ]
        found = {each.key: each for each in writer.write(asked)}
        failed = next((each for each in found.values() if each.finish == "error"), None)
        if failed is not None:
            raise ModelError(failed.error)
        return [found[each.key].text for each in asked]

    return write


def _last(text: str, tokenizer: TextTokenizer, room: int) -> str:
    """The end of a text that is no more than so many tokens."""
    spans = tokenizer.encode(text).spans
    if len(spans) <= room:
        return text
    return text.encode()[spans[-room][0] :].decode("utf-8", "ignore")
