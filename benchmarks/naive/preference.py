"""Preferences and rankings, as they are commonly written: example by example."""

from collections import defaultdict
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from benchmarks.naive import Naive
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.objectives import DPO, ChosenAnswer, ContrastiveSkew, RankedAnswers, SimPO


def _scores(outputs: Outputs, batch: Batch, per_token: bool) -> Iterator[tuple[int, int, Tensor]]:
    """Question, variant, and log-probability of each answer."""
    logits = outputs.logits if outputs.logits.ndim == 3 else outputs.logits[:, None]
    assert batch.targets is not None
    assert batch.ids is not None
    assert batch.variant is not None
    targets = batch.targets.reshape(len(logits), -1)
    for row in range(len(logits)):
        kept = targets[row] >= 0
        log_q = logits[row].softmax(-1).log()
        said = log_q[kept].gather(-1, targets[row][kept][:, None]).sum()
        count = int(kept.sum())
        yield int(batch.ids[row]), int(batch.variant[row]), said / count if per_token else said


def _pairs(outputs: Outputs, batch: Batch, per_token: bool) -> list[tuple[Tensor, Tensor]]:
    by_question = defaultdict(list)
    for question, variant, said in _scores(outputs, batch, per_token):
        by_question[question].append((variant, said))
    return [
        (chosen, rejected)
        for answers in by_question.values()
        for v, chosen in answers
        for w, rejected in answers
        if v == 0 and w > 0
    ]


def _dpo(s: Outputs, t: Outputs, batch: Batch, objective: DPO) -> Tensor:
    now, before = (_pairs(each, batch, objective.per_token) for each in (s, t))
    values = []
    for (w, l), (w0, l0) in zip(now, before, strict=True):  # noqa: E741
        gap = (w - w0) - (l - l0)
        values.append(
            {
                "sigmoid": lambda gap=gap: -torch.sigmoid(objective.beta * gap).log(),
                "ipo": lambda gap=gap: (gap - 1 / (2 * objective.beta)) ** 2,
                "hinge": lambda gap=gap: (1 - objective.beta * gap).clamp(min=0),
            }[objective.form]()
        )
    return torch.stack(values).mean()


def _simpo(s: Outputs, t: Outputs, batch: Batch, objective: SimPO) -> Tensor:
    gaps = torch.stack([chosen - rejected for chosen, rejected in _pairs(s, batch, True)])
    return -torch.sigmoid(objective.beta * gaps - objective.gamma).log().mean()


def _chosen(s: Outputs, t: Outputs, batch: Batch, objective: ChosenAnswer) -> Tensor:
    return -torch.stack([said for _, v, said in _scores(s, batch, True) if v == 0]).mean()


def _ranked(s: Outputs, t: Outputs, batch: Batch, objective: RankedAnswers) -> Tensor:
    groups = defaultdict(list)
    for (question, _, ours), (_, _, theirs) in zip(
        _scores(s, batch, True), _scores(t, batch, True), strict=True
    ):
        groups[question].append((objective.beta * ours, objective.beta * theirs))
    values = []
    for answers in groups.values():
        ours, theirs = (torch.stack(each) for each in zip(*answers, strict=True))
        if objective.by == "soft":
            kl = F.kl_div(
                ours.log_softmax(0), theirs.log_softmax(0), reduction="sum", log_target=True
            )
            values += [kl] * len(answers)
            continue
        ranked = ours[theirs.argsort(descending=True)]
        for i in range(len(ranked) - 1):
            if objective.by == "list":
                values.append(-torch.log(ranked[i].exp() / ranked[i:].exp().sum()))
            else:
                values += [-torch.sigmoid(ranked[i] - r).log() for r in ranked[i + 1 :]]
    return torch.stack(values).mean()


def _contrastive_skew(s: Outputs, t: Outputs, batch: Batch, objective: ContrastiveSkew) -> Tensor:
    q, p = s.logits.softmax(-1), t.logits.softmax(-1)
    alpha, beta = objective.alpha, objective.beta
    forward = (p * (p / (alpha * p + (1 - alpha) * q)).log()).sum(-1)
    reverse = (q * (q / (alpha * q + (1 - alpha) * p)).log()).sum(-1)
    assert batch.variant is not None
    values = [
        2 * (beta * reverse[row] if v else (1 - beta) * forward[row])
        for row, v in enumerate(batch.variant.tolist())
    ]
    return torch.stack(values).mean()


NAIVE: dict[str, Naive] = {
    "chosen_answer": _chosen,
    "contrastive_skew": _contrastive_skew,
    "dpo": _dpo,
    "ranked_answers": _ranked,
    "simpo": _simpo,
}
"""The naive form of each objective here."""
