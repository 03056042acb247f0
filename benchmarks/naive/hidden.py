"""Objectives on states of transformers as they are commonly published: one layer after another.

Masks and padding are not looked at: every token counts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.naive import Naive
from benchmarks.naive.attention import attention_kl
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs


def _adapted(student: Outputs, objective: Any, ours: str, theirs: str) -> Tensor:
    adapted: Tensor = objective.adapters[objective._keys[ours, theirs]](student[ours])
    return adapted


def tinybert_states(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for weight, (ours, theirs) in zip(objective.weights, objective.pairs, strict=True):
        projected = _adapted(student, objective, ours, theirs)
        total = total + weight * F.mse_loss(projected, teacher[theirs])
    return total


def _scores(outputs: Outputs, objective: Any, layer: int, side: int) -> Tensor:
    """Scores head by head, with keys repeated."""
    queries, keys = (outputs[pairs[layer][side]] for pairs in objective.states)
    heads, groups = objective.heads[side], objective.key_heads[side]
    n, t, width = queries.shape
    q = queries.view(n, t, heads, width // heads)
    k = keys.view(n, t, groups, width // heads).repeat_interleave(heads // groups, dim=2)
    found = [q[:, :, h] @ k[:, :, h].transpose(1, 2) for h in range(heads)]
    return torch.stack(found, dim=1) / (width // heads) ** 0.5


def tinybert_attention(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for layer, weight in enumerate(objective.layer_weights):
        ours, theirs = (_scores(x, objective, layer, i) for i, x in enumerate((student, teacher)))
        # What published code does with hidden pairs: zeros, which then count.
        ours = torch.where(ours <= -1e9, torch.zeros_like(ours), ours)
        theirs = torch.where(theirs <= -1e9, torch.zeros_like(theirs), theirs)
        total = total + weight * F.mse_loss(ours, theirs)
    return total


def tinybert(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    states, attention, answers = objective.inner.parts
    temperature = answers.temperature
    log_q = F.log_softmax(student.logits / temperature, -1)
    p = F.softmax(teacher.logits / temperature, -1)
    total = (p * (p.log() - log_q)).sum(-1).mean() * temperature**2
    total = total + tinybert_states(student, teacher, batch, states)
    return total + tinybert_attention(student, teacher, batch, attention)


def mobilebert(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    states, attention = objective.inner.parts
    total = tinybert_states(student, teacher, batch, states)
    return total + attention_kl(student, teacher, batch, attention)


def distilbert_cosine(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for weight, (ours, theirs) in zip(objective.weights, objective.pairs, strict=True):
        s, t = _adapted(student, objective, ours, theirs), teacher[theirs]
        s, t = s.reshape(-1, s.shape[-1]), t.reshape(-1, t.shape[-1])
        total = total + weight * F.cosine_embedding_loss(s, t, s.new_ones(len(s)))
    return total


def patient_kd(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for weight, (ours, theirs) in zip(objective.weights, objective.pairs, strict=True):
        s, t = _adapted(student, objective, ours, theirs), teacher[theirs]
        s, t = (x[:, 0] if x.ndim == 3 else x for x in (s, t))
        s, t = (x / x.norm(dim=-1, keepdim=True) for x in (s, t))
        total = total + weight * (s - t).pow(2).sum(-1).mean()
    return total


def bert_emd(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    """Every distance with a graph, and the plan of a solver on the CPU."""
    import ot

    ours, theirs = objective.paths["states"]
    rows = []
    for path in ours:
        states = objective.adapters[objective._key(path)](student[path])
        rows.append(torch.stack([F.mse_loss(states, teacher[other]) for other in theirs]))
    costs = torch.stack(rows)
    weights = [each.double() / each.double().sum() for each in objective._weights("states")]
    solved = ot.emd(*(each.numpy() for each in weights), costs.detach().double().numpy())
    return (torch.from_numpy(solved) * costs).sum()


def dskd(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    """All logits of both heads at once."""
    s, t = student[objective.taps[0][0]], teacher[objective.taps[1][0]]
    ours, theirs = objective._head(0), objective._head(1)
    temperature = objective.temperature

    def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
        log_q = F.log_softmax(logits / temperature, -1)
        p = F.softmax(wanted / temperature, -1)
        return (p * (p.log() - log_q)).sum(-1).mean() * temperature**2

    projected = objective.projectors["to_student"](t)
    read = F.linear(projected, ours.weight.detach(), ours.bias.detach())
    targets = batch.targets
    assert targets is not None
    first = divergence(ours(s), read.detach())
    second = divergence(theirs(objective.projectors["to_teacher"](s)), theirs(t))
    return first + second + F.cross_entropy(read.flatten(0, -2), targets.flatten())


def embed_distill(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    s, t = objective.adapters["embedding"](student.logits), teacher.logits
    return torch.stack([(a - b).norm() for a, b in zip(s, t, strict=True)]).mean()


def margin_mse(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for other in range(1, student.logits.shape[1]):
        ours, theirs = (x.logits[:, 0] - x.logits[:, other] for x in (student, teacher))
        total = total + F.mse_loss(ours, theirs)
    return total / (student.logits.shape[1] - 1)


def margin_mse_embeddings(
    student: Outputs, teacher: Outputs, batch: Batch, objective: Any
) -> Tensor:
    ids, variant = batch.ids, batch.variant
    assert ids is not None
    assert variant is not None
    s, t = (F.normalize(x.logits, dim=1) for x in (student, teacher))
    found = []
    for q in (variant == 0).nonzero()[:, 0].tolist():
        rows = (ids == ids[q]).nonzero()[:, 0].tolist()
        for p in (row for row in rows if variant[row] == 1):
            for n in (row for row in rows if variant[row] > 1):
                ours, theirs = (x[q] @ x[p] - x[q] @ x[n] for x in (s, t))
                found.append((ours - theirs) ** 2)
    return torch.stack(found).mean() if found else (s * 0).sum()


def pairwise_cosines(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    return _cosine_error(student.logits, teacher.logits)


def _cosine_error(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.cosine_similarity(x[:, None], x[None], dim=-1) for x in (student, teacher))
    return F.mse_loss(s, t)


def matryoshka(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    total = torch.zeros(())
    for size in objective.sizes:
        total = total + _cosine_error(student.logits[:, :size], teacher.logits)
    return total


def rank_cse(student: Outputs, teacher: Outputs, batch: Batch, objective: Any) -> Tensor:
    s, t = (
        F.cosine_similarity(x.logits[:, None], x.logits[None], dim=-1) for x in (student, teacher)
    )
    total = torch.zeros(())
    for i in range(len(s)):
        others = [j for j in range(len(s)) if j != i]
        q = F.softmax(s[i, others] / objective.temperature, 0)
        p = F.softmax(t[i, others] / objective.teacher_temperature, 0)
        total = total + (p * (p.log() - q.log())).sum()
    return total / len(s)


NAIVE: dict[str, Naive] = {
    "bert_emd": bert_emd,
    "distilbert_cosine": distilbert_cosine,
    "dskd": dskd,
    "embed_distill": embed_distill,
    "margin_mse": margin_mse,
    "margin_mse_embeddings": margin_mse_embeddings,
    "matryoshka": matryoshka,
    "mobilebert": mobilebert,
    "pairwise_cosines": pairwise_cosines,
    "patient_kd": patient_kd,
    "rank_cse": rank_cse,
    "tinybert": tinybert,
    "tinybert_attention": tinybert_attention,
    "tinybert_states": tinybert_states,
}
"""By registered name."""
