"""Language models that stop before their head while they learn.

What the head reads is far smaller than what it makes: 1,024 tokens of 49,152 classes are 192 MiB
of logits. The objective ``linear_head`` multiplies the head itself, a few rows at a time, from what
it taps at ``head:in``; for it the logits need never be there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from tutelage.core.batch import Inputs
from tutelage.core.errors import ModelError
from tutelage.models.observed import Observed
from tutelage.models.points import path_at
from tutelage.models.readers import Read


class BeforeHead:
    """Read a model as another reader does, but leave out its head while it is in training.

    The head is called, so that ``head:in`` can be tapped, and hands on what it was given without
    a multiplication. What comes back in place of the logits has their shape and no numbers: whoever
    reads it is told so.

    Args:
        read: How the model takes its inputs.
        head: Path of the head, a linear module.
        always: In eval mode as well: for a teacher, which is never in training.
    """

    def __init__(self, read: Read, head: str, *, always: bool = False):
        self.read, self.head, self.always = read, head, always

    def __call__(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """Logits ``(N, T, V)``, which were not made where the head was left out."""
        if not (model.training or self.always):
            return self.read(model, inputs)
        with _passing_on(model.get_submodule(self.head)) as seen:
            self.read(model, inputs)
        if not seen:
            raise ModelError(f"the model's forward pass never reached its head {self.head!r}.")
        classes = int(model.get_submodule(self.head).out_features)  # type: ignore[arg-type]
        return UnmadeLogits.like(seen[-1], (*seen[-1].shape[:-1], classes))


def without_head(observed: Observed, *, head: str = "head", always: bool = False) -> Observed:
    """The same model, which makes no logits in training; its weights are shared.

    With the objective ``linear_head`` of ``head:in`` and ``head`` on both sides, memory does not
    grow with the vocabulary. In eval mode it answers as before.

    Args:
        observed: A language model of the transformers library or the zoo's ``gpt``; or any with
            a linear head that is the last thing it runs.
        head: Path of the head.
        always: In eval mode as well, as a teacher needs it; `with_head` undoes it for evaluation.

    Raises:
        MissingFeature: There is no such module.
        ModelError: It is no linear module, or the model's classes are put in another order.

    Example:
        >>> from tutelage.core.batch import Batch
        >>> from tutelage.models import build_model
        >>> net = build_model({"gpt": {"layers": 1, "width": 16}}, classes=9, shape=(4,))
        >>> student = without_head(Observed(net)).tap(["head:in"]).train()
        >>> answer = student(Batch({"input_ids": torch.tensor([[1, 2, 3]])}))
        >>> answer.logits.shape, answer["head:in"].shape
        (torch.Size([1, 3, 9]), torch.Size([1, 3, 16]))
        >>> answer.logits.sum()
        Traceback (most recent call last):
        tutelage.core.errors.ModelError: these logits were never made: ...
    """
    observed = with_head(observed)
    path = path_at(observed.model, head)
    module = observed.model.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"the head {path!r} is a {type(module).__name__}, and only a linear one can be left to "
            "the objective linear_head."
        )
    if observed.classes is not None:
        raise ModelError("a model whose classes are put in another order needs its own logits.")
    return _reading(observed, BeforeHead(observed.read, path, always=always))


def with_head(observed: Observed) -> Observed:
    """The same model, which makes its logits: undoes `without_head`."""
    if isinstance(observed.read, BeforeHead):
        return _reading(observed, observed.read.read)
    return observed


class UnmadeLogits(Tensor):
    """Logits that were not made: a shape and a type, and a message for whoever reads them."""

    @classmethod
    def like(cls, one: Tensor, shape: tuple[int, ...]) -> Self:
        """Such logits of that shape, of the type and at the place of ``one``: a single number."""
        made: Self = one.detach().new_full((), torch.nan).expand(shape).as_subclass(cls)
        return made

    @classmethod
    def __torch_function__(  # torch's own protocol
        cls, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Only what asks for no number is allowed."""
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in _CASTS:  # of the single number: a cast would make room for all
            first = args[0]
            with torch._C.DisableTorchFunctionSubclass():
                number = func(first.as_strided((), ()), *args[1:], **kwargs)
                return cls.like(number, tuple(first.shape))
        if name in _HARMLESS:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        raise ModelError(
            "these logits were never made: the model stops before its head (without_head), for "
            f"the objective linear_head alone, and {name!r} wants their numbers. Leave other terms "
            "out, or the head in (with_head)."
        )


_CASTS = frozenset({"to", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda"})
_HARMLESS = frozenset(
    {
        *("__get__", "__len__", "__repr__", "__format__", "size", "dim", "ndimension", "stride"),
        *("numel", "element_size", "is_contiguous", "is_floating_point", "is_complex"),
        *("is_inference", "detach", "as_subclass", "requires_grad_"),
    }
)


@contextmanager
def _passing_on(head: nn.Module) -> Iterator[list[Tensor]]:
    """The head hands on what it is given inside; that is put into the list."""
    seen: list[Tensor] = []

    def forward(states: Tensor) -> Tensor:
        seen.append(states)
        return states

    before = head.__dict__.get("forward")
    head.forward = forward
    try:
        yield seen
    finally:
        if before is None:
            del head.forward
        else:
            head.forward = before


def _reading(observed: Observed, read: Read) -> Observed:
    order = None if observed.classes is None else observed.classes.tolist()
    made = Observed(observed.model, intake=observed.intake, read=read, classes=order)
    made.channels_last, made.training = observed.channels_last, observed.training
    return made
