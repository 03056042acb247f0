"""The sections of a recipe, with all their defaults. What each name offers is in its signature."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_serializer,
)

from tutelage.core.errors import RecipeError, suggest
from tutelage.recipe.reading import Data

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Part of a recipe: no key but those declared, no type but the one declared."""

    model_config = _STRICT


class Named(Section):
    """A registered name with its options: ``kd`` or ``{kd: {temperature: 4}}``."""

    name: str
    options: dict[str, Any] = {}

    @model_serializer
    def _plain(self) -> Any:
        return {self.name: self.options} if self.options else self.name


def _named(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        if options is None or isinstance(options, dict):
            return {"name": name, "options": options or {}}
        raise ValueError(f"{name!r} takes options as a mapping, got {options!r}")
    raise ValueError(f"write a name, or one name with options ({{name: {{...}}}}), got {value!r}")


Name = Annotated[Named, BeforeValidator(_named)]


class Train(Section):
    """How a network learns.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples a step.
        learning_rate: At its highest.
        optimizer: ``sgd`` or ``adamw``, with options.
        schedule: ``constant``, ``cosine``, ``one_cycle`` or ``multi_step``, with options.
        augment: Augmentations, in order.
        clip: Largest gradient norm.
        average: Decay of the weights' moving average.
        keep: The ``last`` weights, or those that were ``best`` on validation.
        patience: Validations without a better one after which to stop.
        validate_every: Epochs between validations.
        precision: ``fp32``, ``bf16`` or ``fp16`` (mixed).
        accumulate: Parts a batch is cut into, to save memory.
        channels_last: Images channel-last in memory.
        compile: Run networks through torch.compile.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        parallel: ``none``, ``ddp`` or ``fsdp`` (under torchrun).
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 0.1
    optimizer: Name = Named(name="sgd")
    schedule: Name = Named(name="one_cycle")
    augment: list[Name] = []
    clip: PositiveFloat | None = None
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    keep: Literal["last", "best"] = "last"
    patience: PositiveInt | None = None
    validate_every: PositiveInt = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: PositiveInt = 1
    channels_last: bool = True
    compile: bool = False
    device: str = "auto"
    parallel: Literal["none", "ddp", "fsdp"] = "none"


class DataSection(Section):
    """What is learnt from: a source, and how many of its labels the student may see."""

    source: Name
    labels: PositiveInt | None = None


class Intake(Section):
    """What a model expects of an image in [0, 1]; by default the training set's own statistics."""

    mean: list[float] | None = None
    std: list[PositiveFloat] | None = None
    size: PositiveInt | None = None
    channels: Literal[1, 3] | None = None


class Teacher(Section):
    """Where the knowledge comes from: given weights, training as a stage, or one after the other.

    Attributes:
        model: A name of the zoo with options, ``timm:NAME`` or ``hf:NAME``.
        weights: A safetensors (or weights-only ``.pt``, ``.pth``, ``.th``) file.
        train: Trains it first; merged over the recipe's own ``train``.
        seed: Of that training: one teacher serves all seeds of the student.
        labels: ``all`` of the source's labels, or the ``same`` few that the student has.
        intake: Its own normalisation, resolution and channels.
        classes: Its class names in its own order, where it differs from the data's.
        expect: The accuracy it is known for; a run that finds another says so.
    """

    model: Name
    weights: str | None = None
    train: Train | None = None
    seed: NonNegativeInt = 0
    labels: Literal["all", "same"] = "all"
    intake: Intake = Intake()
    classes: list[str] | None = None
    expect: Share | None = None


class Student(Section):
    """The network that learns."""

    model: Name
    weights: str | None = None
    intake: Intake = Intake()


class Tune(Section):
    """Values to try on validation before the run; every combination is trained once.

    Attributes:
        seed: Of these trials; not one of the run's own.
        student: Dotted key to candidate values: ``{train.learning_rate: [0.05, 0.1]}``.
        baseline: The same for the baseline's ``train``.
    """

    seed: NonNegativeInt = 1000
    student: dict[str, list[Any]] = {}
    baseline: dict[str, list[Any]] = {}


class Recipe(Section):
    """A whole run as data.

    Attributes:
        recipe: Version of this form.
        name: Of the run; its folder is called so.
        about: For people.
        seeds: One student (and one baseline) each; the first one's student is shipped.
        train: How the student learns.
        data: What from.
        teacher: Who teaches.
        student: Who learns.
        objective: What the student should become: weighted terms.
        baseline: How the same student learns alone, merged over ``train``; false for none.
        tune: What to choose on validation first.
        export: Whether to write ONNX.
        gates: What the student must reach (see `tutelage.evaluation.gates`).
    """

    recipe: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    about: str = ""
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, max_length=100)] = [0]
    train: Train = Train()
    data: DataSection
    teacher: Teacher
    student: Student
    objective: Annotated[list[Name], Field(min_length=1)]
    baseline: Train | None = None
    tune: Tune | None = None
    export: bool = True
    gates: dict[str, float] = {}


def recipe_from(data: Data) -> Recipe:
    """A recipe from plain data; partial ``train`` sections are merged over the recipe's own.

    Raises:
        RecipeError: One line with key, value and remedy.
    """
    whole = dict(data)
    if "recipe" not in whole:
        raise RecipeError("the first line of a recipe is 'recipe: 1': its version is missing.")
    common = whole.get("train")
    if isinstance(common, dict):
        teacher = whole.get("teacher")
        if isinstance(teacher, dict) and isinstance(teacher.get("train"), dict):
            whole["teacher"] = {**teacher, "train": {**common, **teacher["train"]}}
    base = common if isinstance(common, dict) else {}
    if whole.get("baseline", True) is True:
        whole["baseline"] = base
    elif whole["baseline"] is False:
        whole["baseline"] = None
    elif isinstance(whole["baseline"], dict):
        whole["baseline"] = {**base, **whole["baseline"]}
    try:
        text = json.dumps(whole, allow_nan=True)
        return Recipe.model_validate_json(text)
    except TypeError as error:
        raise RecipeError(f"a recipe holds plain values only: {error}.") from error
    except ValidationError as error:
        raise RecipeError(one_line(error, Recipe)) from error


def one_line(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first of pydantic's complaints in one line: key, value, what to do."""
    first = error.errors()[0]
    steps = [str(s) for s in first["loc"]]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{'.'.join([prefix, *steps]).strip('.')}: {_complaint(first, steps, model)}{more}"


def _complaint(first: Any, steps: list[str], model: type[BaseModel]) -> str:
    shown = repr(first["input"])
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    match first["type"]:
        case "extra_forbidden":
            near = suggest(steps[-1], _keys(model, steps))
            return f"there is no such key (its value: {shown}). {near}"
        case "missing":
            return "this key is needed and is not there: add it."
        case "value_error":
            return f"{first['ctx']['error']}."
        case "string_pattern_mismatch":
            return f"got {shown}: use letters, digits, '.', '_' and '-' only."
        case "model_type" | "dict_type":
            return f"got {shown}: write a mapping of keys and values here."
        case _:
            expected = first["msg"][0].lower() + first["msg"][1:]
            return f"got {shown}: {expected.replace('input ', 'this ')}."


def _keys(model: type[BaseModel], steps: list[str]) -> list[str]:
    for step in steps[:-1]:
        field = model.model_fields.get(step)
        if field is None:
            break
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        found = [a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)]
        if not found:
            break
        model = found[0]
    return list(model.model_fields)
