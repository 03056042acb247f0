"""A language model of the transformers library writes, and learns from what it wrote."""

import pytest
import torch
from settings_writing import END, WORDS, questions

from tutelage.engine import Learner, Record, adamw, fit
from tutelage.models.observed import Observed
from tutelage.objectives import JensenShannon, SoftTarget
from tutelage.settings import MiniLLM, OnPolicy, PolicyGradient
from tutelage.settings.rollouts import answers_in, apart, words

transformers = pytest.importorskip("transformers")


def llama(seed=0, layers=2):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=WORDS,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.5,
    )
    return Observed(transformers.LlamaForCausalLM(config))


def learner():
    return Learner(llama(), adamw(learning_rate=3e-3, weight_decay=0.0))


def test_tokens_are_scored_as_they_were_written_whatever_the_padding():
    setting = OnPolicy(learner(), llama(5, 3), SoftTarget(1.0), share=1.0, most=6, end=END)
    [lesson] = setting.lessons(questions(1), seed=3)
    read, notes = apart(lesson.batch)
    mask = words(read)[1] if read.mask is None else read.mask
    with torch.no_grad():
        log_q = setting.student.model.eval()(read).logits.log_softmax(-1)
    tokens = notes["tokens"].clamp(min=0)
    now = log_q.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(now[mask], notes["log_probs"][mask], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["on_policy", "minillm", "policy_gradient"])
def test_every_way_of_learning_from_own_text_runs_on_it(kind):
    how = {"most": 4, "end": END}
    setting = {
        "on_policy": lambda: OnPolicy(learner(), llama(5, 3), JensenShannon(), by="row", **how),
        "minillm": lambda: MiniLLM(learner(), llama(5, 3), **how),
        "policy_gradient": lambda: PolicyGradient(
            learner(), lambda prompt, answer: float(len(answer)), group=3, **how
        ),
    }[kind]()
    record = Record()
    fit(setting, questions(2), steps=2, hooks=[record])
    assert len(record.updates) == 2
    batch = questions(1)[0]
    assert all(1 <= len(prompt) <= 6 for prompt, _ in answers_in(batch))
