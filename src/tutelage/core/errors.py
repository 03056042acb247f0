"""Every error this library raises on purpose.

TutelageError
├── RecipeError        a recipe, or an option given from Python, is wrong
├── DataError          data is missing, broken or of another kind than was said
├── ModelError         a model or its weights cannot be made or loaded
│   └── MissingFeature   an objective asks for a feature that the model does not have
├── ServerError        a server that is asked refuses, fails, or answers what cannot be used
├── ShapeMismatch      two tensors that should match do not, and no adapter was given
├── SparseAnswer       an objective needs all logits where the teacher keeps only its top k
├── Diverged           a loss became NaN or infinite, or a student collapsed to chance
├── TeacherChanged     a teacher's parameters or statistics moved while it taught
├── CheckpointError    a checkpoint cannot be written, read, or belongs to another run
├── ExportError        an exported file does not compute what the model computes
├── PackageError       a package is not whole, or not signed by whom it should be
├── NotInstalled       an extra is needed: the message names it
└── Interrupted        somebody stopped the run; it can be resumed

All messages are one line: what was received, what was expected, what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class TutelageError(Exception):
    """Base of all errors raised on purpose: catch this one at a program's edge."""


class RecipeError(TutelageError):
    """A recipe, or an option given from Python, is wrong."""


class DataError(TutelageError):
    """Data is missing, broken or of another kind than was said."""


class ModelError(TutelageError):
    """A model or its weights cannot be made or loaded."""


class MissingFeature(ModelError):
    """An objective asks for a feature that the model does not have."""


class ServerError(TutelageError):
    """A server that is asked refuses, fails, or answers what cannot be used."""


class ShapeMismatch(TutelageError):
    """Two tensors that should match do not, and no adapter was given."""


class SparseAnswer(TutelageError):
    """An objective needs all logits where the teacher keeps only its top k."""


class Diverged(TutelageError):
    """A loss became NaN or infinite, or a student collapsed to chance."""


class TeacherChanged(TutelageError):
    """A teacher's parameters or statistics moved while it taught."""


class CheckpointError(TutelageError):
    """A checkpoint cannot be written, read, or belongs to another run."""


class ExportError(TutelageError):
    """An exported file does not compute what the model computes."""


class PackageError(TutelageError):
    """A package is not whole, or not signed by whom it should be."""


class NotInstalled(TutelageError):
    """An extra is needed: the message names it."""


class Interrupted(TutelageError):
    """Somebody stopped the run; it can be resumed."""


def suggest(word: str, known: Iterable[str]) -> str:
    """End of an error message: the nearest known words, or all of them (at most twenty).

    >>> suggest("temprature", ["temperature", "weight"])
    "Did you mean 'temperature'?"
    >>> suggest("qqq", ["b", "a"])
    'Known: a, b.'
    >>> suggest("qqq", [])
    'Nothing is known here.'
    """
    known = sorted(known)
    near = get_close_matches(word, known, n=2, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(map(repr, near))}?"
    if not known:
        return "Nothing is known here."
    more = f" and {len(known) - 20} more" if len(known) > 20 else ""
    return f"Known: {', '.join(known[:20])}{more}."
