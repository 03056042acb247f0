"""Prompts end where answers begin, and what was written lines up with its prompt."""

import pytest
import torch
from settings_writing import END, WORDS, observed, questions

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.settings.prompts import prompts_of, stacked
from tutelage.settings.rollouts import Pen, answers_in, apart, ended, flush, joined


def whole_rows(batch):
    """Each row's tokens with the one that its last position predicts, by plain loops."""
    for ids, there, targets in zip(
        batch.inputs["input_ids"].tolist(),
        batch.inputs["attention_mask"].tolist(),
        batch.targets.tolist(),
        strict=True,
    ):
        row = [word for word, real in zip(ids, there, strict=True) if real]
        yield row, [(t, word) for t, word in enumerate(targets) if word >= 0]


def test_distillkit_mask_off_by_one__the_first_answer_token_is_no_prompt_and_counts():
    batch = questions(1)[0]
    found = prompts_of(batch, "on_policy")
    for k, (row, answer) in enumerate(whole_rows(batch)):
        first = answer[0][0]  # predicts the first token of the answer
        assert found.tokens[k][found.attention_mask[k] > 0].tolist() == row[: first + 1]
    assert (found.attention_mask[:, -1] == 1).all()  # filled up on the left
    assert found.tokens.shape[1] == int(found.attention_mask.sum(1).max())


def test_rows_padded_on_the_left_have_the_same_prompts():
    batch = questions(1)[0]
    wanted = prompts_of(batch, "on_policy")
    there = batch.inputs["attention_mask"].bool()
    order = there.int().argsort(dim=1, stable=True)
    inputs = {name: t.gather(1, order) for name, t in batch.inputs.items()}
    left = Batch(inputs, batch.targets.gather(1, order), batch.mask.gather(1, order))
    found = prompts_of(left, "on_policy")
    assert torch.equal(found.tokens, wanted.tokens)
    assert torch.equal(found.attention_mask, wanted.attention_mask)
    back = flush(left, "on_policy")
    assert torch.equal(back.inputs["input_ids"], batch.inputs["input_ids"] * there)
    assert torch.equal(back.targets, batch.targets)
    assert torch.equal(back.mask, batch.mask)


def test_empty_answers__rows_without_one_are_left_out():
    batch = questions(1)[0]
    batch.mask[1] = False
    assert prompts_of(batch, "on_policy").rows.tolist() == [0, 2, 3]
    batch.mask[:] = False
    none = prompts_of(batch, "on_policy")
    assert len(none) == 0
    assert none.tokens.shape == (0, 0)


def test_a_batch_without_targets_is_all_prompt():
    text = torch.tensor([[0, 4, 5], [6, 7, 8]])
    there = torch.tensor([[0, 1, 1], [1, 1, 1]])
    found = prompts_of(Batch({"input_ids": text, "attention_mask": there}), "on_policy")
    assert torch.equal(found.tokens, text)
    assert torch.equal(found.attention_mask, there)


def test_targets_alone_say_where_answers_begin():
    batch = questions(1)[0]
    bare = Batch(batch.inputs, batch.targets)
    assert torch.equal(prompts_of(bare, "x").tokens, prompts_of(batch, "x").tokens)


def test_several_are_put_below_each_other():
    one, two = (prompts_of(batch, "x") for batch in (*questions(1), *questions(1, length=5)))
    tokens, there = stacked([one, two])
    assert tokens.shape == (8, max(one.tokens.shape[1], two.tokens.shape[1]))
    assert there.sum(1).tolist() == [*one.attention_mask.sum(1), *two.attention_mask.sum(1)]


@pytest.mark.parametrize(
    ("batch", "kind", "said"),
    [
        (Batch(torch.zeros(2, 3)), DataError, r"reads text: .* one tensor \(2, 3\) without a name"),
        (Batch({"pixels": torch.zeros(2, 3)}), DataError, r"got pixels \(2, 3\)"),
        (
            Batch({"input_ids": torch.ones(2, 3).long()}, mask=torch.ones(2).bool()),
            ShapeMismatch,
            "one entry a token",
        ),
        (
            Batch(
                {"input_ids": torch.ones(1, 4).long(), "position_ids": torch.tensor([[0, 1, 0, 1]])}
            ),
            DataError,
            "turn packing off",
        ),
    ],
)
def test_what_has_no_prompts_is_refused_in_one_line(batch, kind, said):
    with pytest.raises(kind, match=said) as no:
        prompts_of(batch, "on_policy")
    assert "\n" not in str(no.value)


def written(pen, batches, seed=5):
    prompts = [prompts_of(batch, "on_policy") for batch in batches]
    numbers = torch.arange(sum(map(len, prompts)))
    return prompts, pen.write(observed(1), prompts, numbers, seed)


def test_what_was_written_follows_its_prompt_and_has_its_own_log_probability():
    pen, model = Pen(most=5, end=END), observed(1)
    prompts, texts = written(pen, questions(2))
    for prompt, text in zip(prompts, texts, strict=True):
        read, notes = apart(text)
        log_p = model(read).logits.detach().log_softmax(-1)
        for k, (asked, answer) in enumerate(answers_in(read)):
            row = prompt.tokens[k][prompt.attention_mask[k] > 0].tolist()
            assert asked == row
            first = len(row) - 1
            whole = [*row, *answer]
            seen = read.inputs["input_ids"][k, : len(whole) - 1]
            assert seen.tolist() == whole[:-1]
            assert 1 <= len(answer) <= 5
            assert END not in answer[:-1]
            for t, word in enumerate(answer):
                assert bool(read.mask[k, first + t])
                assert int(read.targets[k, first + t]) == word
                assert float(notes["log_probs"][k, first + t]) == pytest.approx(
                    float(log_p[k, first + t, word]), abs=1e-5
                )
            assert int(read.mask[k].sum()) == len(answer)
            assert bool(ended(read, pen)[k]) == (answer[-1] == END)
            assert (read.targets[k][~read.mask[k]] == -1).all()


def test_an_answer_depends_on_its_own_prompt_and_number_alone():
    pen = Pen(most=4)
    _, (one, two) = written(pen, questions(2))
    prompts = [prompts_of(batch, "x") for batch in questions(2)]
    chosen = prompts[1][torch.tensor([2])]
    [alone] = pen.write(observed(1), [chosen], torch.tensor([4 + 2]), 5)
    assert list(answers_in(alone)) == [list(answers_in(two))[2]]
    assert list(answers_in(one)) != list(answers_in(two))
    assert not ended(two, pen).any()  # nothing ends where no token ends


def test_joined_rows_keep_their_content():
    _, (one, two) = written(Pen(most=5, end=END), questions(2, length=5))
    parts = [
        Batch(t.inputs, t.targets, t.mask, torch.arange(4) + k, variant=torch.ones(4).long())
        for k, t in ((0, one), (10, two))
    ]
    order = torch.tensor([4, 0, 5, 1])
    both = joined(parts, order)
    rows = [*answers_in(one), *answers_in(two)]
    assert list(answers_in(both)) == [rows[k] for k in order]
    assert both.ids.tolist() == [10, 0, 11, 1]
    assert both.count == sum(len(rows[k][1]) for k in order)
    assert int(both.inputs["input_ids"].max()) < WORDS
