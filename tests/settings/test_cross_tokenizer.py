"""CrossTokenizer: a student that cuts text otherwise than its teacher learns from it."""

import pytest
import torch
from settings_online import descend, learner, near, resumes
from torch import nn

from crossed_samples import ByteBPE
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError
from tutelage.core.outputs import Outputs
from tutelage.core.registry import build
from tutelage.data.text.aligned import AlignedTexts
from tutelage.engine import Learner, Machine, adamw, fit
from tutelage.models.observed import Frozen, Observed
from tutelage.objectives import (
    CrossEntropy,
    LikelihoodMatching,
    UniversalLogit,
    VocabularyOverlap,
    text_answers,
    token_map,
)
from tutelage.settings import Alone, CrossTokenizer

TEXTS = [
    "the weather over there is better than the weather here",
    "nowhere is the weather better than over there",
    "here and there, over and over, the other weather",
    "there is better weather nowhere than here",
]


@pytest.fixture(scope="module")
def tokenizers():
    student = ByteBPE(TEXTS * 4, 275, name="student")
    return student, ByteBPE(TEXTS * 4, 300, begin=True, name="teacher")


class Bigram(nn.Module):
    """Says what follows from the last token alone."""

    def __init__(self, size, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(size, size)

    def forward(self, inputs):
        assert set(inputs) == {"input_ids", "attention_mask"}
        return self.table(inputs["input_ids"])


def llama(size, seed):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def as_teachers_own(batch):
    """The teacher's side as a batch of its one tokenizer."""
    inputs = {name: batch.inputs[f"teacher.{name}"] for name in ("input_ids", "attention_mask")}
    return Batch(inputs, batch.inputs["teacher.targets"], batch.inputs["teacher.mask"])


@torch.no_grad()
def surprisal(setting, batch):
    """Mean over the student's counted tokens."""
    answer = setting.student.model(setting.both(batch)[0])
    return sum(CrossEntropy()(answer, answer, batch).values()).item()


def test_likelihood_matching_teaches_across_tokenizers(tokenizers):
    """Thirty steps on a teacher's likelihoods alone: the gap falls, and the surprisal of the text."""
    ours, theirs = tokenizers
    source = AlignedTexts(TEXTS, ours, theirs, 2)
    whole = AlignedTexts(TEXTS, ours, theirs, 4, shuffle=False).batch(torch.arange(4))
    student = Learner(Observed(llama(ours.size, 0)), adamw(learning_rate=1e-2))
    teacher = Learner(Observed(llama(theirs.size, 1)), adamw(learning_rate=1e-2))
    lessons = [as_teachers_own(batch) for batch in source.epoch(0)]
    fit(Alone(teacher, CrossEntropy()), lessons, steps=40)
    setting = CrossTokenizer(student, teacher.model, LikelihoodMatching())

    def gap():
        with torch.no_grad():
            return sum(setting.compare(whole).values()).item()

    before, surprised = gap(), surprisal(setting, whole)
    fit(setting, source, steps=30)
    student.model.eval()
    assert gap() < 0.25 * before
    assert surprisal(setting, whole) < 0.7 * surprised


@pytest.mark.parametrize("parts", [1, 2])
def test_each_reads_its_own_tokens_and_parts_add_up(tokenizers, parts):
    ours, theirs = tokenizers
    objective = CrossEntropy() + LikelihoodMatching()
    source = AlignedTexts(TEXTS, ours, theirs, 4)
    student = learner(Bigram(ours.size, 0))
    setting = CrossTokenizer(student, Observed(Bigram(theirs.size, 1)), objective)
    fit(setting, source, steps=2, machine=Machine("cpu", accumulate=parts))
    model, teacher = Bigram(ours.size, 0), Bigram(theirs.size, 1)
    for step in range(2):
        (batch,) = source.epoch(step)
        answers = [
            Outputs(each({"input_ids": batch.inputs[f"{whose}.input_ids"], "attention_mask": 0}))
            for whose, each in (("student", model), ("teacher", teacher))
        ]
        loss = sum(objective(answers[0], answers[1].detach(), batch).values())
        descend(loss, model.parameters())
    near(student.model.model, model)


def test_the_overlap_and_likelihoods_of_the_rest_together(tokenizers):
    """Where groups begin, whole distributions; where they are long, their likelihoods."""
    ours, theirs = tokenizers
    # The student has no token of its own alone: forward KL would be refused.
    overlap = VocabularyOverlap(token_map(ours, theirs), "js")
    objective = overlap + LikelihoodMatching(groups="many")
    whole = AlignedTexts(TEXTS, ours, theirs, 4, shuffle=False).batch(torch.arange(4))
    student = Learner(Observed(Bigram(ours.size, 0)), adamw(learning_rate=0.1))
    setting = CrossTokenizer(student, Observed(Bigram(theirs.size, 1)), objective)
    before = {name: term.item() for name, term in setting.compare(whole).items()}
    fit(setting, AlignedTexts(TEXTS, ours, theirs, 2), steps=40)
    after = {name: term.item() for name, term in setting.compare(whole).items()}
    assert set(after) == {"overlap", "alm"}
    assert all(after[name] < 0.6 * before[name] for name in before)


def test_a_text_server_is_teacher_enough(tokenizers):
    """Log-probabilities of the text's own tokens by example number: nothing of a vocabulary."""
    ours, theirs = tokenizers
    teacher = Observed(Bigram(theirs.size, 1))
    source = AlignedTexts(TEXTS, ours, theirs, 2)
    asked = []

    def server(batch):
        asked.append(batch.ids.tolist())
        assert set(batch.inputs) == {"input_ids", "attention_mask"}
        assert batch.targets.shape == batch.mask.shape == batch.inputs["input_ids"].shape
        with torch.no_grad():
            logs = teacher(batch).logits.log_softmax(-1)
        own = logs.gather(-1, batch.targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return text_answers(own, batch.targets)

    students = []
    for answers in (teacher, server):
        students.append(learner(Bigram(ours.size, 0)))
        fit(CrossTokenizer(students[-1], answers, LikelihoodMatching()), source, steps=3)
    one, other = (each.model.model.table.weight for each in students)
    torch.testing.assert_close(one, other)
    assert len(asked) >= 3


def test_a_stop_changes_nothing(tokenizers, tmp_path):
    ours, theirs = tokenizers
    batches = list(AlignedTexts(TEXTS, ours, theirs, 2).epoch(0))

    def make():
        objective = UniversalLogit() + CrossEntropy()
        student, teacher = learner(Bigram(ours.size, 0)), Frozen(Observed(Bigram(theirs.size, 1)))
        return CrossTokenizer(student, teacher, objective)

    resumes(make, batches, tmp_path)


def test_recipes_know_it_by_name_and_other_batches_are_refused(tokenizers):
    given = {"student": learner(Bigram(5, 0)), "teacher": Observed(Bigram(5, 1))}
    setting = build("setting", "cross_tokenizer", {}, objective=LikelihoodMatching(), **given)
    assert isinstance(setting.teacher, Frozen)
    tokens = torch.zeros(1, 2).long()
    for batch, said in (
        (Batch(tokens), "read named inputs, and this is one tensor"),
        ((tokens, tokens), "read named inputs, and this is tuple"),
        (Batch({"student.input_ids": tokens}), r"no input 'teacher\.input_ids'. Did you mean"),
    ):
        with pytest.raises(DataError, match=said) as caught:
            setting.prepare(batch)
        assert "\n" not in str(caught.value)
