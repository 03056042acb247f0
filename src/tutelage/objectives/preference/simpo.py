"""SimPO: the better answer is likelier per token, by a margin, and no reference is needed.

Meng, Xia, Chen: SimPO: Simple Preference Optimization with a Reference-Free Reward, 2024,
arXiv:2405.14734.
"""

import torch.nn.functional as F
from torch import Tensor

from tutelage.core.batch import Batch
from tutelage.core.outputs import Outputs
from tutelage.core.registry import register
from tutelage.objectives.base import AbstractLoss
from tutelage.objectives.preference.sequences import answers_of, mean_of
from tutelage.objectives.units import number


def simpo(chosen: Tensor, rejected: Tensor, beta: float = 2.0, gamma: float = 1.0) -> Tensor:
    r"""Logistic loss of the gap of mean log-probabilities, less a margin.

    .. math:: -\log \sigma\big(\beta (s_w - s_l) - \gamma\big)

    Args:
        chosen: Mean log-probability of a token of each chosen answer, ``(P,)``.
        rejected: Those of the rejected ones.
        beta: Scale of the gap, above 0.
        gamma: Margin, in units of beta times the gap.

    Returns:
        ``(P,)``, above 0.

    Example:
        >>> import torch
        >>> simpo(torch.tensor([-1.0]), torch.tensor([-1.5]), beta=2.0, gamma=1.0)
        tensor([0.6931])
    """
    return -F.logsigmoid(beta * (chosen - rejected) - gamma)


@register("objective", "simpo")
class SimPO(AbstractLoss):
    r"""SimPO: the chosen answer is likelier per token than the rejected one, by a margin.

    .. math:: -\log \sigma\left(\frac{\beta}{|y_w|} \log \pi(y_w | x) -
        \frac{\beta}{|y_l|} \log \pi(y_l | x) - \gamma\right) \quad (simpo),
        \quad \text{mean over pairs}

    Neighbours: `DPO` holds both answers against a reference, which keeps the student near it;
    here nothing does but a small learning rate.

    Suggested weight: 1 alone with beta = 2 to 2.5 and gamma = 0.1 to 0.8 times beta (the authors'
    runs, 7 and 8 billion parameters; they name 10 for beta too, and 0.5 times beta to begin with).

    Scale: mean over pairs; no pair, no loss.

    Traps: as of `DPO`; and without a reference a large step makes all answers unlikely: put
    `ChosenAnswer` beside it.

    Args:
        beta: Scale of the gap of mean log-probabilities, above 0.
        gamma: Margin, at least 0, after scaling by beta.

    Raises:
        RecipeError: An option is out of range.
    """

    name = "simpo"
    batchwise = True
    needs_targets = True
    needs_teacher = False
    needs_ids = True
    needs_variants = True

    def __init__(self, beta: float = 2.0, gamma: float = 1.0):
        super().__init__()
        self.beta = number(beta, "beta", self.name, above=0)
        self.gamma = number(gamma, "gamma", self.name, least=0)

    def loss(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        """Mean over pairs."""
        answers = answers_of(batch, student.logits, self.name)
        chosen, rejected = answers.pairs()
        said = answers.of(student.logits, self.name, per_token=True)
        return mean_of(simpo(said[chosen], said[rejected], self.beta, self.gamma))
