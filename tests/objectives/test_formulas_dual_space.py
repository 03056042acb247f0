"""DSKD equals its published equations, by plain loops, and teaches whom it is to teach."""

from typing import Any

import numpy as np
import pytest
import torch
from hidden_shared import ANSWERS, REAL, SEEN, N, T, mean_over_units, sees, text
from objectives_shared import Array, answer, kl, noise, softmax
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.objectives import DualSpace, projector_between
from tutelage.testing import Probe, objective_contracts

WIDTH, OTHER, CLASSES, OTHER_CLASSES, TOKENS = 3, 4, 11, 13, 6
LOGITS = noise(N, 4)


def heads(seed: int = 0) -> tuple[dict[str, nn.Module], dict[str, nn.Module]]:
    torch.manual_seed(seed)
    ours = {"head": nn.Linear(WIDTH, CLASSES), "embed": nn.Embedding(CLASSES, WIDTH)}
    theirs = {"head": nn.Linear(OTHER, OTHER_CLASSES), "embed": nn.Embedding(OTHER_CLASSES, OTHER)}
    with torch.no_grad():  # so that the projected teacher is right where the target is 5
        ours["head"].bias[5] += 2  # type: ignore[index]
    return (
        {path: each.double() for path, each in ours.items()},
        {path: each.double().requires_grad_(False) for path, each in theirs.items()},
    )


def bound(objective: DualSpace, s: Array, t: Array) -> tuple[Any, Any]:
    objective.borrow(*heads())
    ours, theirs = answer(LOGITS, {"h": s}), answer(LOGITS, {"h": t})
    torch.manual_seed(3)
    objective.bind(ours, theirs)
    return ours, theirs


def through(module: Any, x: Array) -> Array:
    weight, bias = module.weight.detach().numpy(), module.bias
    return weight @ x + (0 if bias is None else bias.detach().numpy())


def log_softmax(z: Array) -> Array:
    return z - max(z) - np.log(sum(np.exp(z - max(z))))


HEADS = heads()
TARGETS = np.array([[1, 5, 2, 0, 9], [10, 3, 3, -1, -1], [4, -1, 6, 7, 8]])


@pytest.mark.parametrize("case", SEEN)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_dskd_of_one_tokenizer(case: str, temperature: float) -> None:
    s, t = noise(N, T, WIDTH, seed=1), noise(N, T, OTHER, seed=2)
    objective = DualSpace("h", "h", "head", "head", temperature=temperature)
    ours, theirs = bound(objective, s, t)
    terms = objective(ours, theirs, text(*SEEN[case], targets=TARGETS))
    mine, other = (each["head"] for each in HEADS)
    wanted = {"dskd_student": np.zeros((N, T)), "dskd_teacher": np.zeros((N, T))}
    wanted["dskd_projector"] = np.zeros((N, T))
    for n in range(N):
        for i in range(T):
            read = through(mine, through(objective.projectors["to_student"], t[n, i]))
            own, square = through(mine, s[n, i]), temperature**2
            wanted["dskd_student"][n, i] = square * kl(
                softmax(read / temperature), softmax(own / temperature)
            )
            given = through(other, through(objective.projectors["to_teacher"], s[n, i]))
            wanted["dskd_teacher"][n, i] = square * kl(
                softmax(through(other, t[n, i]) / temperature), softmax(given / temperature)
            )
            if TARGETS[n, i] >= 0:
                wanted["dskd_projector"][n, i] = -log_softmax(read)[TARGETS[n, i]]
    for name, values in wanted.items():
        found = float(terms[name].detach())
        assert found == pytest.approx(mean_over_units(values, *SEEN[case]), rel=1e-8), name


THEIR_IDS = (7 * noise(N, TOKENS, seed=4)).astype(np.int64) % OTHER_CLASSES
THEIR_TARGETS = np.array([[1, -1, 12, 0, 9, 3], [2, 3, -1, -1, -1, -1], [4, 1, 6, 7, 8, 0]])


def unit(x: Array, counted: list[int]) -> Array:
    """A text's vectors over the standard deviation of all their numbers."""
    numbers = np.array([x[j] for j in counted]).flatten()
    mean = sum(numbers) / len(numbers)
    return x / np.sqrt(sum((numbers - mean) ** 2) / len(numbers))


def mixed(shares: Array, values: list[Array]) -> Array:
    """A weighted sum of vectors."""
    return np.array(sum(w * v for w, v in zip(shares, values, strict=True)))


@pytest.mark.parametrize("case", ["answers", "answers, unpadded", "padded"])
def test_dskd_through_cross_model_attention(case: str) -> None:
    real, mask = SEEN[case]
    s, t = noise(N, T, WIDTH, seed=1), noise(N, TOKENS, OTHER, seed=2)
    objective = DualSpace("h", "h", "head", "head", embeddings=["embed", "embed"])
    ours, theirs = bound(objective, s, t)
    mine, other = (each["head"] for each in HEADS)
    embedded, their_embedded = (each["embed"].weight.detach().numpy() for each in HEADS)
    fields = {"teacher.input_ids": THEIR_IDS, "teacher.targets": THEIR_TARGETS}
    batch = text(real, mask, targets=TARGETS, **fields)
    ids = batch.inputs["input_ids"].numpy()  # type: ignore[call-overload]
    wanted = {name: np.zeros((N, T)) for name in ("student", "teacher", "projector")}
    for n in range(N):
        said = [i for i in sees(n, T, real) if TARGETS[n, i] >= 0]
        counted = [i for i in said if mask is None or mask[n, i]]
        taught = [j for j in range(TOKENS) if THEIR_TARGETS[n, j] >= 0]
        after = their_embedded[THEIR_TARGETS[n].clip(0)]
        keys = unit(np.concatenate([their_embedded[THEIR_IDS[n]], after], 1), taught)
        values = unit(t[n], taught) + unit(after, taught)
        scores = np.zeros((T, TOKENS))
        for i in counted:
            query = np.concatenate([embedded[ids[n, i]], embedded[TARGETS[n, i]]])
            query = through(objective.projectors["query"], query)
            for j in taught:
                scores[i, j] = sum(query * keys[j]) / np.sqrt(2 * OTHER)
        for i in counted:
            to_student = [through(objective.projectors["to_student"], values[j]) for j in taught]
            read = through(mine, mixed(softmax(scores[i, taught]), to_student))
            wanted["projector"][n, i] = -log_softmax(read)[TARGETS[n, i]]
            if int(np.argmax(read)) == TARGETS[n, i]:
                own = softmax(through(mine, s[n, i]) / 2)
                wanted["student"][n, i] = 4 * kl(softmax(read / 2), own)
        for j in taught if counted else []:
            to_teacher = [through(objective.projectors["to_teacher"], s[n, i]) for i in counted]
            given = through(other, mixed(softmax(scores[counted, j]), to_teacher))
            apart = 4 * kl(softmax(through(other, t[n, j]) / 2), softmax(given / 2))
            wanted["teacher"][n, counted] += apart / len(counted)
    assert wanted["student"].any()
    terms = objective(ours, theirs, batch)
    for name, values in wanted.items():
        found = float(terms[f"dskd_{name}"].detach())
        assert found == pytest.approx(mean_over_units(values, real, mask), rel=1e-8), name


def crossed() -> DualSpace:
    return DualSpace("h", "h", "head", "head", embeddings=["embed", "embed"])


def text_probe(make: Any, *, examples: int, classes: int, agree: bool) -> Probe:
    """Texts as two tokenizers cut them."""
    rows = np.arange(examples) % 7
    s, t = noise(7, T, WIDTH, seed=1)[rows], noise(7, TOKENS, OTHER, seed=2)[rows]
    ids = (7 * noise(7, T, seed=3)).astype(np.int64)[rows] % CLASSES
    theirs = (7 * noise(7, TOKENS, seed=4)).astype(np.int64)[rows] % OTHER_CLASSES
    fields = {"input_ids": ids, "teacher.input_ids": theirs, "teacher.targets": theirs[:, ::-1]}
    inputs = {name: torch.from_numpy(each.copy()) for name, each in fields.items()}
    targets = torch.from_numpy(ids[:, ::-1].copy())
    targets[:, :3] = 5
    batch = Batch(inputs, targets=targets, ids=torch.arange(examples))
    logits = noise(7, classes)[rows]
    return Probe(answer(logits, {"h": s}), answer(logits, {"h": t}), batch, HEADS)


CONTRACTS = dict(objective_contracts(crossed, probe=text_probe))
# The embeddings are looked at, and not taught.
del CONTRACTS["the student learns"]


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=list(CONTRACTS))
def test_cross_model_attention_keeps_the_contracts(contract: Any) -> None:
    contract()


def test_nothing_is_learned_through_embeddings_or_the_teachers_head() -> None:
    objective, probe = crossed(), text_probe(None, examples=7, classes=4, agree=False)
    probe.lend(objective)
    objective.bind(probe.student, probe.teacher)
    student = probe.student.map(lambda t: t.clone().requires_grad_())
    sum(objective(student, probe.teacher, probe.batch).values()).backward()  # type: ignore[union-attr]
    lent = objective.lent
    assert lent.student("head").weight.grad.abs().sum() > 0  # type: ignore[union-attr, operator]
    assert student["h"].grad.abs().sum() > 0  # type: ignore[union-attr]
    assert all(p.grad is not None for p in objective.parameters())
    others = [lent.student("embed"), lent.teacher("embed"), lent.teacher("head")]
    assert all(p.grad is None for module in others for p in module.parameters())


def test_the_projector_is_taught_by_labels_and_not_by_the_student() -> None:
    """In the student's space the target is fixed: the teacher is not pulled to the student."""
    objective = DualSpace("h", "h", "head", "head")
    ours, theirs = bound(objective, noise(N, T, WIDTH, seed=1), noise(N, T, OTHER, seed=2))
    terms = objective(ours, theirs, text(None, ANSWERS, targets=TARGETS))
    to_student = list(objective.projectors["to_student"].parameters())
    found = torch.autograd.grad(terms["dskd_student"], to_student, allow_unused=True)
    assert found == (None, None)
    head = list(objective.lent.student("head").parameters())
    assert torch.autograd.grad(terms["dskd_projector"], head, allow_unused=True) == (None, None)


def test_a_start_by_logits_keeps_what_the_head_reads() -> None:
    """A wider student can read all that the teacher's head reads, from the first step."""
    torch.manual_seed(0)
    teacher, student = torch.randn(9, 3).double(), torch.randn(9, 7).double()
    teacher = student @ torch.randn(7, 3).double()  # what the student's head can say
    matrix = projector_between(teacher, student)
    torch.testing.assert_close(student @ matrix, teacher)
    objective = DualSpace("h", "h", "head", "head", start="logits")
    bound(objective, noise(N, T, WIDTH), noise(N, T, OTHER))
    mine, other = (each["head"].weight.detach() for each in HEADS)
    wanted = torch.linalg.lstsq(mine, other[:CLASSES]).solution  # type: ignore[index]
    made = objective.projectors["to_student"]
    torch.testing.assert_close(made.weight.detach(), wanted)
    assert not made.bias.any()


def test_batches_of_two_tokenizers_name_both_sides_and_what_counts() -> None:
    """As the source of aligned texts makes them; a masked token of the teacher's is left out."""
    s, t = noise(N, T, WIDTH, seed=1), noise(N, TOKENS, OTHER, seed=2)
    objective = crossed()
    ours, theirs = bound(objective, s, t)
    fields = {"teacher.input_ids": THEIR_IDS, "teacher.targets": THEIR_TARGETS}
    wanted = objective(ours, theirs, text(REAL, ANSWERS, targets=TARGETS, **fields))
    first = text(REAL, ANSWERS, targets=TARGETS).inputs
    named = {f"student.{name}": each for name, each in first.items()}  # type: ignore[union-attr]
    named["teacher.input_ids"] = torch.from_numpy(THEIR_IDS)
    named["teacher.targets"] = torch.from_numpy(THEIR_TARGETS).clamp(min=0)
    named["teacher.mask"] = torch.from_numpy(THEIR_TARGETS >= 0)
    targets, mask = torch.from_numpy(TARGETS), torch.from_numpy(ANSWERS)
    found = objective(ours, theirs, Batch(named, targets=targets, mask=mask))
    torch.testing.assert_close(found, wanted)
    del named["teacher.targets"]
    with pytest.raises(
        DataError, match=r"this batch has no teacher\.targets: cut each text by both"
    ):
        objective(ours, theirs, Batch(named, targets=targets, mask=mask))
