"""Divergences, class pairs, transport, exits and regions, as they are commonly written."""

import torch
import torch.nn.functional as F
from benchmarks.naive import Naive
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.objectives import (
    AdaptiveKL,
    AlphaBeta,
    DecoupledKL,
    GaussianTarget,
    ImprovedKL,
    JensenShannon,
    OneForAll,
    ReverseKL,
    ScaleDecoupled,
    SkewKL,
    Streamlined,
    TotalVariation,
    WassersteinFeatures,
    WassersteinLogits,
)


def _both(student: Outputs, teacher: Outputs, temperature: float) -> tuple[Tensor, Tensor]:
    return (student.logits / temperature).softmax(-1), (teacher.logits / temperature).softmax(-1)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum(-1).mean()


def _reverse_kl(s: Outputs, t: Outputs, batch: Batch, objective: ReverseKL) -> Tensor:
    q, p = _both(s, t, objective.temperature)
    return _kl(q, p) * objective.temperature**2


def _js(s: Outputs, t: Outputs, batch: Batch, objective: JensenShannon) -> Tensor:
    q, p = _both(s, t, objective.temperature)
    beta = objective.beta
    m = beta * p + (1 - beta) * q
    return (beta * _kl(p, m) + (1 - beta) * _kl(q, m)) * objective.temperature**2


def _skew_kl(s: Outputs, t: Outputs, batch: Batch, objective: SkewKL) -> Tensor:
    q, p = _both(s, t, objective.temperature)
    mixed = objective.alpha * p + (1 - objective.alpha) * q
    return _kl(p, mixed) * objective.temperature**2


def _skew_reverse_kl(s: Outputs, t: Outputs, batch: Batch, objective: SkewKL) -> Tensor:
    return _skew_kl(t, s, batch, objective)


def _tvd(s: Outputs, t: Outputs, batch: Batch, objective: TotalVariation) -> Tensor:
    q, p = _both(s, t, objective.temperature)
    return (p - q).abs().sum(-1).mean() / 2 * objective.temperature


def _alpha_beta(s: Outputs, t: Outputs, batch: Batch, objective: AlphaBeta) -> Tensor:
    # For alpha, beta and their sum other than 0, where the published limits lack a factor.
    q, p = _both(s, t, objective.temperature)
    a, b = objective.alpha, objective.beta
    inner = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
    return -inner.sum(-1).mean() / (a * b) * objective.temperature**2


def _adaptive_kl(s: Outputs, t: Outputs, batch: Batch, objective: AdaptiveKL) -> Tensor:
    q, p = _both(s, t, objective.temperature)
    order = p.argsort(dim=-1, descending=True)
    errors = (p - q).abs().gather(-1, order).detach()
    outside = p.gather(-1, order).cumsum(-1) > objective.head
    outside[..., 0] = False
    head, tail = (errors * ~outside).sum(-1), (errors * outside).sum(-1)
    forward, backward = (p * (p / q).log()).sum(-1), (q * (q / p).log()).sum(-1)
    both = (head * forward + tail * backward) / (head + tail)
    return both.mean() * objective.temperature**2


def _pairs(m: Tensor, n: Tensor, weights: Tensor) -> Tensor:
    """All pairs of classes: N x C x C numbers, three times."""
    ours = n.unsqueeze(-1) - n.unsqueeze(-2)
    theirs = m.unsqueeze(-1) - m.unsqueeze(-2)
    pairs = weights.unsqueeze(-1) @ weights.unsqueeze(-2)
    return 0.25 * ((theirs - ours) ** 2 * pairs).sum((-1, -2)).mean()


def _soft(s: Outputs, t: Outputs, temperature: float) -> Tensor:
    q, p = _both(s, t, temperature)
    return -(p * q.log()).sum(-1).mean()


def _dkl(s: Outputs, t: Outputs, batch: Batch, objective: DecoupledKL) -> Tensor:
    temperature = objective.temperature
    _, p = _both(s, t, temperature)
    spread = _pairs(t.logits / temperature, s.logits.detach() / temperature, p.detach())
    soft = _soft(s, t, temperature)
    return (objective.alpha * spread + objective.beta * soft) * temperature**2


def _ikl(s: Outputs, t: Outputs, batch: Batch, objective: ImprovedKL) -> Tensor:
    # The published code has no T squared on the cross entropy.
    assert batch.targets is not None
    weights = (objective.sums / objective.counts[:, None])[batch.targets]
    soft = _soft(s, t, objective.temperature) * objective.temperature**2
    return objective.alpha * _pairs(t.logits, s.logits, weights) + objective.beta * soft


def _wkd_l(s: Outputs, t: Outputs, batch: Batch, objective: WassersteinLogits) -> Tensor:
    # Published with 1e-8 in the denominators, which is no small number beside exp(-1 / 0.05).
    assert batch.targets is not None
    count, classes = s.logits.shape
    label = batch.targets[:, None]
    q, p = s.logits.softmax(-1), t.logits.softmax(-1)
    target = -(p.gather(1, label) * q.gather(1, label).log()).mean()
    weight = objective.lent.teacher(objective.head).weight
    unit = weight / weight.norm(dim=1, keepdim=True)
    cost = (1 - unit @ unit.T).clamp(min=0).repeat(count, 1, 1)
    kept = torch.ones_like(q, dtype=torch.bool).scatter(1, label, False)
    both = kept[:, :, None] & kept[:, None, :]
    cost = cost[both].reshape(count, classes - 1, classes - 1)
    q, p = (
        (each.logits[kept].reshape(count, -1) / objective.temperature).softmax(-1)[..., None]
        for each in (s, t)
    )
    kernel = (-cost / objective.strength).exp()
    u = torch.ones_like(q) / (classes - 1)
    v = u
    for _ in range(objective.iterations):
        v = p / (kernel.transpose(1, 2) @ u)
        u = q / (kernel @ v)
    flow = u * kernel * v.transpose(1, 2)
    return target + objective.gamma * (flow * cost).sum((1, 2)).mean()


def _wkd_f(s: Outputs, t: Outputs, batch: Batch, objective: WassersteinFeatures) -> Tensor:
    total = torch.zeros((), dtype=s.logits.dtype)
    for (ours, theirs), adapter in zip(objective.pairs, objective.adapters.values(), strict=True):
        a, b = adapter(s[ours]).flatten(2), t[theirs].flatten(2)
        if t[theirs].ndim == 3:
            a, b = a.transpose(1, 2), b.transpose(1, 2)
        means = ((a.mean(-1) - b.mean(-1)) ** 2).sum() / len(a)
        deviations = [(x.var(-1) + objective.eps).sqrt() for x in (a, b)]
        spreads = ((deviations[0] - deviations[1]) ** 2).sum() / len(a)
        total = total + objective.mean_weight * means + spreads
    return total


def _ofa(s: Outputs, t: Outputs, batch: Batch, objective: OneForAll) -> Tensor:
    assert batch.targets is not None
    p = (t.logits / objective.temperature).softmax(-1)
    hot = F.one_hot(batch.targets, p.shape[-1])

    def term(logits: Tensor) -> Tensor:
        q = (logits / objective.temperature).softmax(-1)
        return (-((p + hot) ** objective.eps - hot) * q.log()).sum(-1).mean()

    total = term(s.logits)
    for path, head in zip(objective.exits, objective.heads.values(), strict=True):
        total = total + objective.exit_weight * term(head(s[path]))
    return total


def _skd(s: Outputs, t: Outputs, batch: Batch, objective: Streamlined) -> Tensor:
    # Published without the gradient at agreement: the square root is of 0 there.
    q, p = _both(s, t, objective.temperature)
    ours, theirs = F.normalize(s.logits, dim=1), F.normalize(t.logits, dim=1)
    d = ours @ ours.T - theirs @ theirs.T
    inverse = torch.linalg.inv(torch.cov(d.T) + objective.ridge * torch.eye(len(d), dtype=d.dtype))
    lengths = torch.einsum("bi,ij,bj->b", d, inverse, d).sqrt()
    return _kl(p, q) + objective.beta * lengths.mean()


def _sdd(s: Outputs, t: Outputs, batch: Batch, objective: ScaleDecoupled) -> Tensor:
    assert batch.targets is not None
    heads = (
        objective.lent.student(objective.student_head),
        objective.lent.teacher(objective.teacher_head),
    )
    features = (s[objective.student], t[objective.teacher])
    whole = heads[1](features[1].mean((2, 3))).argmax(-1) == batch.targets
    losses = []
    for scale in objective.scales:
        pooled = [F.adaptive_avg_pool2d(feature, scale) for feature in features]
        for row in range(scale):
            for column in range(scale):
                a, b = (
                    head(each[:, :, row, column]) for head, each in zip(heads, pooled, strict=True)
                )
                right = b.argmax(-1) == batch.targets
                weight = torch.where(right == whole, 1.0, objective.disagreement)
                q, p = _both(Outputs(a), Outputs(b), objective.temperature)
                kl = (p * (p / q).log()).sum(-1) * objective.temperature**2
                losses.append((weight * kl).mean())
    return torch.stack(losses).mean()


def _kd_binary(s: Outputs, t: Outputs, batch: Batch, objective: ReverseKL) -> Tensor:
    q = (s.logits / objective.temperature).sigmoid()
    p = (t.logits / objective.temperature).sigmoid()
    both = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    return both.sum(-1).mean() * objective.temperature**2


def _bce(s: Outputs, t: Outputs, batch: Batch, objective: object) -> Tensor:
    assert batch.targets is not None
    labels = batch.targets
    if not labels.is_floating_point():
        labels = F.one_hot(labels, s.logits.shape[-1])
    q = s.logits.sigmoid()
    return -(labels * q.log() + (1 - labels) * (1 - q).log()).sum(-1).mean()


def _kd_regression(s: Outputs, t: Outputs, batch: Batch, objective: object) -> Tensor:
    return F.mse_loss(s.logits, t.logits) * s.logits.shape[-1]


def _kd_gaussian(s: Outputs, t: Outputs, batch: Batch, objective: GaussianTarget) -> Tensor:
    # Of means alone, the usual case: the variance is the option's.
    variance = torch.tensor(objective.log_variance).exp()
    return ((s.logits - t.logits) ** 2 / (2 * variance)).sum(-1).mean()


def _logit_mse(s: Outputs, t: Outputs, batch: Batch, objective: object) -> Tensor:
    return ((s.logits - t.logits) ** 2).sum(-1).mean() / 2


NAIVE: dict[str, Naive] = {
    "adaptive_kl": _adaptive_kl,
    "alpha_beta": _alpha_beta,
    "bce": _bce,
    "dkl": _dkl,
    "ikl": _ikl,
    "js": _js,
    "kd_binary": _kd_binary,
    "kd_gaussian": _kd_gaussian,
    "kd_regression": _kd_regression,
    "logit_mse": _logit_mse,
    "ofa": _ofa,
    "reverse_kl": _reverse_kl,
    "sdd": _sdd,
    "skd": _skd,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
    "tvd": _tvd,
    "wkd_f": _wkd_f,
    "wkd_l": _wkd_l,
}
