"""The sections of a recipe, with all their defaults. What each name offers is in its signature."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from tutelage.recipe.complaints import short
from tutelage.recipe.named import Asked as Asked
from tutelage.recipe.named import Name as Name
from tutelage.recipe.named import Named as Named
from tutelage.recipe.named import Parts as Parts
from tutelage.recipe.named import Section as Section
from tutelage.recipe.named import Share
from tutelage.recipe.tasked import TextEvaluation as TextEvaluation
from tutelage.recipe.teacher_words import Cache as Cache
from tutelage.recipe.teacher_words import Server as Server


def _all_different(seeds: list[int]) -> list[int]:
    twice = [seed for seed in dict.fromkeys(seeds) if seeds.count(seed) > 1]
    if twice:
        raise ValueError(
            f"got {short(seeds)}: {twice[0]} is there {seeds.count(twice[0])} times: each seed "
            "is one experiment, remove the others"
        )
    return seeds


class Train(Section):
    """How a network learns.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples a step.
        learning_rate: At its highest.
        optimizer: ``sgd``, ``adamw``, ``dot`` or ``deepkd``, with options.
        schedule: ``constant``, ``cosine``, ``one_cycle`` or ``multi_step``, with options.
        augment: Augmentations, in order.
        clip: Largest gradient norm.
        average: Decay of the weights' moving average.
        resolve: What terms that pull against each other become together: ``pcgrad``, ``cagrad``,
            ``mgda``, ``gradnorm`` or ``uncertainty``, with options; null adds them up.
        gradients_every: Steps between two lines of ``log.jsonl`` that say how hard, and how much
            against each other, the terms pull; null for none.
        keep: The ``last`` weights, or those that were ``best`` on validation.
        patience: Validations without a better one after which to stop.
        validate_every: Epochs between validations.
        precision: ``fp32``, ``bf16`` or ``fp16`` (mixed).
        accumulate: Parts a batch is cut into, to save memory.
        channels_last: Images channel-last in memory.
        compile: Run networks through torch.compile.
        workers: Processes that decode examples, for sets beyond memory; the result is the same.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        parallel: ``none``, ``ddp`` or ``fsdp`` (under torchrun).
    """

    epochs: Annotated[int, Field(gt=0, le=100_000)] = 10
    batch_size: Annotated[int, Field(gt=0, le=1_000_000)] = 128
    learning_rate: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    optimizer: Name = Named(name="sgd")
    schedule: Name = Named(name="one_cycle")
    augment: list[Name] = []
    clip: PositiveFloat | None = None
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    resolve: Name | None = None
    gradients_every: PositiveInt | None = None
    keep: Literal["last", "best"] = "last"
    patience: PositiveInt | None = None
    validate_every: PositiveInt = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    accumulate: PositiveInt = 1
    channels_last: bool = True
    compile: bool = False
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$")] = "auto"
    parallel: Literal["none", "ddp", "fsdp"] = "none"


class DataSection(Section):
    """What is learnt from.

    Attributes:
        source: A registered source with its options.
        labels: How many of its labels the student may see; null for all.
        variants: ``rotations``, with options: versions of each example that student and teacher
            see side by side. The teacher's own training and the baseline keep to the plain ones.
    """

    source: Name
    labels: PositiveInt | None = None
    variants: Name | None = None


class Intake(Section):
    """What a model expects of an image in [0, 1].

    Attributes:
        mean: Of each channel, or one for all; null for the training set's own.
        std: Likewise.
        size: Height and width it reads; null for the data's.
        channels: 1 or 3; null for the data's.
    """

    mean: list[float] | None = None
    std: list[PositiveFloat] | None = None
    size: Annotated[int, Field(gt=0, le=4096)] | None = None
    channels: Literal[1, 3] | None = None


class Teacher(Section):
    """Where the knowledge comes from: given weights, training as a stage, or one after the other.

    Attributes:
        model: A name of the zoo with options, ``timm:NAME`` or ``hf:NAME``; ``server`` where it
            is behind one.
        weights: A safetensors (or weights-only ``.pt``, ``.pth``, ``.th``) file.
        train: Trains it first; merged over the recipe's own ``train``.
        seed: Of that training: one teacher serves all seeds of the student.
        labels: ``all`` of the source's labels, or the ``same`` few that the student has.
        intake: Its own normalisation, resolution and channels.
        classes: Its class names in its own order, where it differs from the data's.
        expect: The accuracy it is known for; a run that finds another says so.
        cache: Keeps its answers; null for a live teacher.
        tokenizer: Its own, where it cuts text otherwise than the student; null for the data's.
        server: Where it is asked, in place of a model here.
    """

    model: Name = Named(name="server")
    weights: str | None = None
    train: Train | None = None
    seed: NonNegativeInt = 0
    labels: Literal["all", "same"] = "all"
    intake: Intake = Intake()
    classes: Annotated[list[str], Field(min_length=1)] | None = None
    expect: Share | None = None
    cache: Cache | None = None
    tokenizer: Name | None = None
    server: Server | None = None


class Graft(Section):
    """The teacher's own classifier behind the student's body: see `tutelage.models.Grafted`.

    Attributes:
        student_feature: Path of the student's module whose map is projected.
        teacher_feature: Path of the teacher's module whose map the projection is to equal.
        head: Paths of the teacher's modules behind that map, in order: ``[pool, linear]``.
        factor: How many times narrower than the teacher's feature the projector is inside.
    """

    student_feature: str
    teacher_feature: str
    head: Annotated[list[str], Field(min_length=1)]
    factor: PositiveInt = 2


class Student(Section):
    """The network that learns.

    Attributes:
        model: A name of the zoo with options, ``timm:NAME`` or ``hf:NAME``.
        weights: A file to start from; null for first weights drawn from the seed.
        intake: Its own normalisation, resolution and channels.
        graft: Puts the teacher's classifier behind its body; the baseline keeps its own.
    """

    model: Name
    weights: str | None = None
    intake: Intake = Intake()
    graft: Graft | None = None


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

    @property
    def arms(self) -> list[tuple[str, dict[str, list[Any]]]]:
        """Each arm with its candidates."""
        return [("student", self.student), ("baseline", self.baseline)]


class Budget(Section):
    """What the shipped file may cost at most.

    Attributes:
        bytes: Of the file.
        p99_ms: Of one example on one thread, the slow call, in milliseconds.
        accuracy_drop: Accuracy on validation that it may lose against the student, as a share.
    """

    bytes: PositiveInt | None = None
    p99_ms: PositiveFloat | None = None
    accuracy_drop: Share | None = None


class Compress(Section):
    """Smaller files made of the first seed's student; one of them is chosen on validation.

    Attributes:
        ways: By name, a chain of stages: names of ``tutelage methods compression`` with their
            options, and ``heal``, a ``train`` section merged over the recipe's.
        budget: Limits that the shipped file must keep.
        prefer: What decides among files within the budget; null for ``accuracy`` where the budget
            limits ``bytes`` or ``p99_ms``, and for ``bytes`` otherwise.
    """

    ways: dict[str, list[Name]]
    budget: Budget = Budget(accuracy_drop=0.01)
    prefer: Literal["accuracy", "bytes", "p99_ms"] | None = None


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
        objective: What the student should become: weighted terms; left out beside a setting that
            has a loss of its own.
        setting: Who learns from whom: ``classic`` (the student from its teacher), or another name
            of ``tutelage methods setting`` with options.
        baseline: How the same student learns alone, merged over ``train``; false for none.
        control: Whether one more student learns from a teacher that knows nothing: what it shares
            with the teacher's answers was not taught.
        tune: What to choose on validation first.
        compress: Ways to make the student smaller, and the budget it must keep; null for none.
        export: Whether to write ONNX.
        calibrate: Whether to fit a temperature on validation that ships with the student: its
            logits are divided by it, in the report and in the exported file.
        gates: What the student must reach, by name: a threshold, or ``{at_most: 0.02, by: shown}``
            (see `tutelage.evaluation.gates.judging`).
        report: Which parts the proof has: ``standard`` (all that are quick), ``full``, ``none``,
            or a list of names with options (``tutelage methods part`` lists them).
        evaluation: Tasks and speed of writing, where the data is text.
        outside: Sets the models were never meant for, by name: sources with options, whose test
            split is read, in the data's size and channels.
    """

    recipe: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    about: str = ""
    seeds: Annotated[
        list[NonNegativeInt], Field(min_length=1, max_length=100), AfterValidator(_all_different)
    ] = [0]
    train: Train = Train()
    data: DataSection
    teacher: Teacher
    student: Student
    objective: list[Name] = []
    setting: Name = Named(name="classic")
    baseline: Train | None = None
    control: bool = False
    tune: Tune | None = None
    compress: Compress | None = None
    export: bool = True
    calibrate: bool = False
    gates: dict[str, Asked] = {}
    report: Parts = [Named(name="standard")]
    evaluation: TextEvaluation = TextEvaluation()
    outside: dict[str, Name] = {}
