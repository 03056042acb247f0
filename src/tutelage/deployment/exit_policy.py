"""A model with several exits as one ONNX file, and beside it the policy of who leaves where."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch, Inputs
from tutelage.core.errors import DataError, ExportError
from tutelage.deployment.export import _about, _line, _make_way, _rows, _write
from tutelage.deployment.parity import Parity, parity_of, refuse_difference
from tutelage.evaluation.policy import ExitPolicy
from tutelage.evaluation.predict import evaluating
from tutelage.evaluation.report import write_whole
from tutelage.models.exits import WithExits, with_exits
from tutelage.models.observed import Frozen, Observed

_INSIDE = "tutelage.exits"


def export_exits(
    model: Observed | Frozen,
    policy: ExitPolicy,
    examples: Batch,
    path: str | Path,
    *,
    names: Sequence[str] = (),
    source: str = "",
    tolerance: float = 1e-4,
) -> Parity:
    """Write ``NAME.onnx``, which gives the logits of all exits, and ``NAME.exits.json``.

    The outputs are ``exit0``, ``exit1``, ... and ``logits``, the last exit's; the policy is in the
    ONNX file's metadata too, so that the two always belong together. One run computes
    them all: the file saves nothing by itself, and `ExitPolicy.apply` says which answer to take.
    What stops early is `tutelage.evaluation.early`, in torch. Nothing is kept unless ONNX Runtime
    gives the model's answers at every exit, and the policy takes the same exits by them.

    Args:
        model: A `tutelage.models.WithExits`, observed, with its intake and order of classes.
        policy: Of as many exits.
        examples: Real examples of the data, a few dozen.
        path: Of the ONNX file; older files are replaced only by good ones.
        names: Class names, written into the file.
        source: What this model is and where it came from, written into the file.
        tolerance: Largest difference allowed, as a share of an exit's largest logit.

    Returns:
        What the comparison found, over all exits: an example counts once for each.

    Raises:
        ExportError: The policy is for another number of exits; the model cannot be exported, the
            path cannot be written, or the file does not compute the same.
        ModelError: The model has one exit.
    """
    path, observed = Path(path), model.observed if isinstance(model, Frozen) else model
    inside = with_exits(observed)
    if len(policy.costs) != len(inside.names) + 1:
        raise ExportError(
            f"the policy is for {len(policy.costs)} exits, and the model has "
            f"{len(inside.names) + 1}: choose thresholds for this model."
        )
    if len(examples) == 0:
        raise ExportError("no examples were given: an export is checked on real ones.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside = policy_path(path)
    _make_way(path, temporary)
    try:
        shipped = _AllExits.of(observed)
        with evaluating(shipped), torch.no_grad():
            expected = [each.double() for each in shipped(_rows(examples.inputs, slice(None)))]
        if not all(bool(each.isfinite().all()) for each in expected):
            raise ExportError("the model answers with logits that are NaN or infinite.")
        if names and len(names) != expected[-1].shape[-1]:
            raise ExportError(
                f"{len(names)} class names were given, and the model has "
                f"{expected[-1].shape[-1]} classes."
            )
        about = _about(examples.inputs, names, source) | {_INSIDE: policy.to_json()}
        _write(shipped, examples.inputs, about, temporary, (*inside.names, "logits"))
        parity = _compare(temporary, examples.inputs, expected, policy, tolerance)
        temporary.replace(path)  # with its policy inside: never one file's with another's
        write_whole(beside, policy.to_json() + "\n")
    finally:
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}.data").unlink(missing_ok=True)
    return parity


def policy_path(path: str | Path) -> Path:
    """Where the policy of the ONNX file at ``path`` lies.

    >>> policy_path("out/student.onnx").name
    'student.exits.json'
    """
    return Path(path).with_suffix(".exits.json")


def read_policy(path: str | Path) -> ExitPolicy:
    """The policy inside the ONNX file at ``path``, or beside it, or in the JSON file itself.

    Raises:
        DataError: There is none that can be read.
    """
    inside = None if str(path).endswith(".json") else policy_inside(Path(path))
    if inside is not None:
        return ExitPolicy.from_json(inside)
    path = Path(path) if str(path).endswith(".json") else policy_path(path)
    try:
        return ExitPolicy.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def policy_inside(path: Path) -> str | None:
    """The policy that an ONNX file carries in itself, as text; None where it carries none."""
    import onnx

    try:
        found = onnx.load(str(path), load_external_data=False).metadata_props
    except Exception:  # protobuf's own classes differ by version; whoever runs the file will say
        return None
    return next((str(each.value) for each in found if each.key == _INSIDE), None)


class _AllExits(nn.Module):
    """Raw inputs in, logits of all exits in the data's order of classes out."""

    classes: Tensor | None

    def __init__(self, observed: Observed, exits: WithExits):
        super().__init__()
        self.intake, self.exits = observed.intake, exits
        self.register_buffer("classes", observed.classes)

    @staticmethod
    def of(observed: Observed) -> "_AllExits":
        """A copy on the CPU, in eval mode."""
        shipped = copy.deepcopy(_AllExits(observed, with_exits(observed)))
        return shipped.cpu().eval().requires_grad_(False)

    def forward(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """``(N, C)`` of each exit."""
        found = self.exits.answers(self.intake(inputs))
        if self.classes is None:
            return tuple(found)
        return tuple(logits.index_select(-1, self.classes) for logits in found)


def _compare(
    path: Path, inputs: Inputs, expected: list[Tensor], policy: ExitPolicy, tolerance: float
) -> Parity:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    total, worst = len(expected[-1]), Parity(0.0, 1.0, 0)
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        given = [each.name for each in session.get_inputs()]
        # One by one and all together: a batch size baked in shows itself.
        for rows in [*(slice(i, i + 1) for i in range(min(4, total))), slice(0, total)]:
            some = _rows(inputs, rows)
            tensors = {given[0]: some} if isinstance(some, Tensor) else some
            ran = session.run(None, {name: tensors[name].numpy() for name in given})
            found = [torch.from_numpy(each).double() for each in ran]
            ours = [each[rows] for each in expected]
            for theirs, mine in zip(found, ours, strict=True):
                parity = parity_of(theirs, mine, tolerance)
                refuse_difference(parity, tolerance)
                worst = Parity(
                    max(worst.max_difference, parity.max_difference),
                    min(worst.equal_top1, parity.equal_top1),
                    total * len(expected),
                )
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(
            f"ONNX Runtime cannot run the exported file on batches of 1 to {total} examples (is "
            f"the batch size fixed in the model?): {_line(error)}"
        ) from error
    moved = int((policy.apply(found)[1] != policy.apply(expected)[1]).sum())
    if moved:
        raise ExportError(
            f"{moved} of {total} examples leave at another exit by the ONNX file's answers: choose "
            "thresholds farther from these examples, or give others."
        )
    return worst
