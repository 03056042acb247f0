"""The one-pass head in the one loop: heads by path, a reader that stops before them."""

import pytest
import torch
from torch import Tensor, nn

from tutelage.core.batch import Batch
from tutelage.engine import Learner, Machine, fit, sgd
from tutelage.models import Frozen, Observed
from tutelage.objectives import AbstractObjective, CrossEntropy, LinearHead, ReverseKL
from tutelage.settings import Classic


class Small(nn.Module):
    """A language model of one word's memory."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.embed, self.norm = nn.Embedding(classes, width), nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, classes, bias=False)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.norm(self.embed(words)))
        return logits


def before_the_head(model: nn.Module, words: Tensor) -> Tensor:
    assert isinstance(model, Small)
    hidden: Tensor = model.norm(model.embed(words))
    return hidden


def taught(objective: AbstractObjective, *, accumulate: int = 1, stops: bool = True) -> Tensor:
    """The student's head after eight updates."""
    torch.manual_seed(0)
    student, teacher = Small(40, 8), Small(40, 12)
    read = {"read": before_the_head} if stops else {}
    learner = Learner(Observed(student, **read), sgd(learning_rate=0.5))
    words = torch.randint(0, 40, (6, 10))
    batch = Batch(words, words.roll(-1, 1), torch.rand(6, 10) > 0.3, torch.arange(6))
    setting = Classic(learner, Frozen(Observed(teacher, **read)), objective)
    fit(setting, [batch], steps=8, machine=Machine(accumulate=accumulate))
    return student.lm_head.weight.detach()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_student_learns_as_through_its_logits(accumulate: int) -> None:
    """Six sequences in parts of two and one, with unlike numbers of counted tokens."""
    head = LinearHead("norm", "norm", "lm_head", "lm_head", divergence="reverse", cross_entropy=0.5)
    wanted = taught(ReverseKL(temperature=1.0) + 0.5 * CrossEntropy(), stops=False)
    found = taught(head, accumulate=accumulate)
    assert float((wanted - taught(0.0 * CrossEntropy(), stops=False)).abs().max()) > 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
