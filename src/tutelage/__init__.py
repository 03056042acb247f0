"""Neural network distillation: one engine, every way of teaching, and proof of what was kept.

Names are loaded when they are asked for, so that ``import tutelage`` (and ``tutelage --help``)
does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.core.batch import Batch as Batch
    from tutelage.core.outputs import Outputs as Outputs
    from tutelage.engine.fit import fit as fit
    from tutelage.engine.learner import Learner as Learner
    from tutelage.models.observed import Frozen as Frozen
    from tutelage.models.observed import Observed as Observed
    from tutelage.recipe.distill import distill as distill

_PLACES = {
    "Batch": "tutelage.core.batch",
    "Frozen": "tutelage.models.observed",
    "Learner": "tutelage.engine.learner",
    "Observed": "tutelage.models.observed",
    "Outputs": "tutelage.core.outputs",
    "distill": "tutelage.recipe.distill",
    "fit": "tutelage.engine.fit",
}

__all__ = sorted(_PLACES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tutelage' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
