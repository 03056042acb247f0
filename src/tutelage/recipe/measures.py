"""By what networks are chosen on validation: accuracy, or what a text makes likely."""

import math

from tutelage.core.errors import Diverged
from tutelage.data.sets import Examples
from tutelage.evaluation import accuracy, predict
from tutelage.evaluation.collapse import collapsed
from tutelage.evaluation.language import read_tokens, reads_tokens
from tutelage.models import Observed
from tutelage.recipe.sections import Train


def measure(observed: Observed, validation: Examples, train: Train) -> float:
    """How good a network is on validation data, from 0 to 1, in the precision it is trained in.

    Of labelled examples that is accuracy; of text the geometric mean of the probabilities that it
    gave to the tokens that came: 1 / perplexity. More is better in both.
    """
    if reads_tokens(validation):
        return math.exp(-nats(observed, validation, train))
    answers = predict(observed, validation, precision=train.precision)
    return accuracy(answers.logits, answers.targets)


def nats(observed: Observed, text: object, train: Train) -> float:
    """Nats a token of a text."""
    tables, _ = read_tokens({"model": observed}, text, precision=train.precision)
    return tables["model"].nll.mean().item()


def shown(value: float, validation: Examples) -> str:
    """What `measure` found, for people.

    >>> import torch
    >>> from tutelage.data import TensorSet
    >>> shown(0.5, TensorSet(torch.zeros(1, 2), torch.tensor([0]), classes=("a", "b")))
    '50.00%'
    """
    if not reads_tokens(validation):
        return f"{value:.2%}"
    return f"perplexity {1 / value:.3f}" if value > 0 else "perplexity without bounds"


def refuse_collapse(
    label: str, observed: Observed, steps: int, validation: Examples, train: Train
) -> None:
    """A network that learnt nothing is an error, never a result.

    Raises:
        Diverged: It names the arm and says why.
    """
    why = _collapsed(observed, validation, train)
    if why:
        raise Diverged(
            f"{label} collapsed: {why}. Lower its learning_rate (now {train.learning_rate:g}), the "
            "temperature or the weights, set clip: 1, or let it learn longer (now "
            f"{steps} steps)."
        )


def _collapsed(observed: Observed, validation: Examples, train: Train) -> str | None:
    if not reads_tokens(validation):
        answers = predict(observed, validation, precision=train.precision)
        return collapsed(answers.logits, answers.targets, answers.classes)
    found, alike = nats(observed, validation, train), math.log(validation.vocabulary)
    if math.isfinite(found) and found < alike:
        return None
    return (
        f"it needs {found:.2f} nats a token, and {alike:.2f} would do without having read anything"
    )
