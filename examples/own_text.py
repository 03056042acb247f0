"""Language models in four stages: answers, the teacher on one's own text, a reward, preferences.

The language has ten words. A question is a word; its answer counts up from it to 8, and ends.
"""

import torch
from torch import Tensor

from tutelage import Batch, Frozen, Learner, Observed, fit
from tutelage.data.text import next_tokens
from tutelage.engine import Record, adamw
from tutelage.models import build_model
from tutelage.objectives import DPO, ChosenAnswer, CrossEntropy, ReverseKL
from tutelage.settings import Alone, OnPolicy, PolicyGradient, Preference

WORDS, END, MOST = 10, 9, 8


def row(question: int, answer: list[int]) -> tuple[list[int], list[bool]]:
    """Tokens, and which of them belong to the answer, filled up to nine."""
    tokens = [question, *answer, END]
    filled = tokens + [END] * (9 - len(tokens))
    return filled, [0 < place < len(tokens) for place in range(9)]


def batch(rows: list[tuple[list[int], list[bool]]], **more: Tensor) -> Batch:
    tokens, counted = (torch.tensor(part) for part in zip(*rows, strict=True))
    inputs, targets, mask = next_tokens(tokens, counted)  # the only shift by one
    return Batch({"input_ids": inputs}, targets, mask, **more)


def learner(layers: int, rate: float = 0.01) -> Learner:
    made = build_model({"gpt": {"layers": layers, "width": 32}}, classes=WORDS, shape=(8,))
    return Learner(Observed(made), adamw(learning_rate=rate))


def right(prompt: list[int], answer: list[int]) -> float:
    """The check: 1 for the whole answer."""
    return float(list(answer) == [*range(prompt[0] + 1, 9), END])


def losses(record: Record, name: str) -> str:
    found = [terms[name] for _, _, terms in record.updates]
    return f"{name} {found[0]:.3f} -> {found[-1]:.3f}"


torch.manual_seed(0)
questions = list(range(1, 8))
truth = batch([row(q, list(range(q + 1, 9))) for q in questions], ids=torch.arange(7))

# 1. Answers of the data: cross entropy, on the tokens of the answers alone.
teacher, record = learner(2), Record()
fit(Alone(teacher, CrossEntropy()), [truth], steps=150, hooks=[record])
print("answers:", losses(record, "ce"))

# 2. The student writes, and the teacher says of every token what it would have written.
student, record = learner(1), Record()
taught = OnPolicy(
    student, Frozen(teacher.model), ReverseKL(), share=0.7, by="row", most=MOST, end=END
)
fit(taught, [truth], steps=15, hooks=[record])
print("own text:", losses(record, "reverse_kl"), "|", taught.history.windows[-1])

# 3. A check that a program can make, and several tries at each question.
careful = Learner(student.model, adamw(learning_rate=0.003))
tried = PolicyGradient(careful, right, group=8, kl=0.0, most=MOST, end=END)
fit(tried, [truth], steps=40)
print(f"reward: {tried.rewards.means[0]:.2f} -> {tried.rewards.means[-1]:.2f}")
assert tried.rewards.means[-1] > tried.rewards.means[0] + 0.1

# 4. Of two answers the shorter is worse: rows of one id, variant 0 is the better one.
pairs = [row(q, list(range(q + 1, stop))) for q in questions for stop in (9, max(q + 1, 7))]
both = batch(pairs, ids=torch.arange(14) // 2, variant=torch.arange(14) % 2)
record = Record()
preferred = Preference(student, DPO(beta=0.5) + 0.5 * ChosenAnswer())
fit(preferred, [both], steps=40, hooks=[record])
print("preferences:", losses(record, "dpo"))
