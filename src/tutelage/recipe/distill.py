"""The whole of it from Python, in one call."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from tutelage.core.errors import RecipeError, suggest
from tutelage.core.seeds import derive
from tutelage.data import Splits, from_tensors, load
from tutelage.models import Observed, weights_hash
from tutelage.objectives.base import AbstractObjective
from tutelage.recipe.networks import Make
from tutelage.recipe.plan import Given
from tutelage.recipe.reading import Data
from tutelage.recipe.run import Result, carry_out
from tutelage.recipe.sections import Recipe
from tutelage.recipe.validated import recipe_from

Network = nn.Module | Callable[[], nn.Module] | str | Mapping[str, Any]
_OWN = "python"
_DEFAULT = [{"ce": {"weight": 0.5}}, {"kd": {"weight": 0.5, "temperature": 2}}]
_OF_DATA = ("labels", "variants")
_OTHERWISE = {"recipe", "data", "teacher", "student"}
_OPTIONS = sorted({*Recipe.model_fields, *_OF_DATA} - _OTHERWISE)


def distill(
    teacher: Network,
    student: Network,
    data: Splits | tuple[Tensor, Tensor] | str | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Teach ``student`` what ``teacher`` knows, and measure what was kept.

    The same as ``tutelage run``: one loop, validation for every choice, the test split opened
    once for the report.

    Args:
        teacher: A trained network, or the ``teacher`` section of a recipe as a mapping. It is
            not changed. A network that expects normalised images comes as
            ``Observed(net, intake=Intake(mean, std))``.
        student: A network (copied, not changed), a function that makes one (needed for several
            seeds), or a name of the zoo with options.
        data: Splits, ``(inputs, targets)`` to be split here, or a registered source.
        out: The run's folder; None keeps nothing on disk.
        resume: Go on with the run in ``out``.
        quiet: Print nothing.
        **options: Sections of a recipe: ``objective`` (an objective, or a list as in a recipe),
            ``setting``, ``train``, ``baseline``, ``seeds``, ``tune``, ``labels``, ``variants``,
            ``gates``, ``report``, ``export``,
            ``name``, ``about``.

    Returns:
        The trained student (`Result.student`, an `Observed`), the baseline, and the report.

    Raises:
        RecipeError: An option is unknown or wrong; one line.

    Example:
        >>> import torch, tutelage
        >>> from torch import nn
        >>> inputs = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
        >>> teacher = nn.Linear(8, 2)
        >>> _ = teacher.weight.data.copy_(torch.tensor([[1.0] * 8, [-1.0] * 8]))
        >>> result = tutelage.distill(
        ...     teacher, {"mlp": {"hidden": [8]}}, (inputs, teacher(inputs).argmax(1)),
        ...     objective=["kd"], train={"epochs": 20}, export=False, quiet=True,
        ... )
        >>> result.report["comparison"]["agreement"] > 0.8
        True
    """
    for name in options:
        if name not in _OPTIONS:
            raise RecipeError(f"distill has no option {name!r}. {suggest(name, _OPTIONS)}")
    written = dict(options)
    objective = written.pop("objective", None)
    own = objective if isinstance(objective, AbstractObjective) else None
    if own is None and callable(objective):
        raise RecipeError(
            f"objective: got a {type(objective).__name__}: give one of tutelage.objectives, or a "
            "subclass of AbstractLoss of your own, or a list as in a recipe."
        )
    if own is not None and not own.needs_teacher:
        raise RecipeError(
            f"objective: {type(own).__name__} does not look at the teacher: add SoftTarget(), say."
        )
    recipe: Data = {
        "recipe": 1,
        "name": written.pop("name", "distill"),
        "data": {"source": _OWN, **{key: written.pop(key, None) for key in _OF_DATA}},
        "objective": [_OWN] if own is not None else _DEFAULT if objective is None else objective,
        **written,
    }
    recipe["teacher"], make_teacher = _section("teacher", teacher)
    recipe["student"], make_student = _section("student", student)
    parsed = recipe_from(recipe)
    if isinstance(student, nn.Module) and len(parsed.seeds) > 1:
        raise RecipeError(
            f"seeds: got {parsed.seeds}, and one network has one set of first weights: give a "
            "function that makes the student, like lambda: Net(), to train several."
        )
    given = Given(
        _splits(data),
        make_teacher,
        make_student,
        None if own is None else lambda: copy.deepcopy(own),
        [
            make_teacher and weights_hash(make_teacher(parsed.teacher.seed)),
            make_student and [weights_hash(make_student(seed)) for seed in parsed.seeds],
            own and [own.taps, sorted(type(part).__name__ for part in own.modules())],
        ],
    )
    folder = None if out is None else Path(out)
    return carry_out(parsed, given, folder, console=Console(quiet=quiet), resume=resume)


def _splits(data: Any) -> Splits:
    if isinstance(data, Splits):
        return data
    if isinstance(data, tuple | list) and len(data) == 2:
        return from_tensors(*data)
    if isinstance(data, str | Mapping):
        return load(data)
    raise RecipeError(
        f"data is a {type(data).__name__}: give Splits, (inputs, targets), or a source's name."
    )


def _section(role: str, network: Any) -> tuple[Any, Make | None]:
    """The recipe's section for a network, and how to make it where it is an object."""
    if isinstance(network, str):
        return {"model": network}, None
    if isinstance(network, Mapping):
        section = dict(network)
        return (section, None) if "model" in section else ({"model": section}, None)
    if isinstance(network, nn.Module):
        return {"model": _OWN}, lambda seed: _observed(copy.deepcopy(network))
    if callable(network):
        return {"model": _OWN}, lambda seed: _made(role, network, seed)
    raise RecipeError(
        f"{role} is a {type(network).__name__}: give a torch module, a function that makes one, "
        "or a name of the zoo."
    )


def _made(role: str, network: Callable[[], Any], seed: int) -> Observed:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        made = network()
    if not isinstance(made, nn.Module):
        raise RecipeError(f"{role}: the function made a {type(made).__name__}, not a torch module.")
    return _observed(made)


def _observed(network: nn.Module) -> Observed:
    return network if isinstance(network, Observed) else Observed(network)
