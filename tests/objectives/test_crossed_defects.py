"""Faults of public systems where tokenizers differ, each by name; ours has none of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from objectives_shared import noise, softmax

from crossed_samples import Pieces, crossed
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ShapeMismatch
from tutelage.core.outputs import Outputs
from tutelage.data.text.aligned import aligned_batch, aligned_rows
from tutelage.objectives import (
    LikelihoodMatching,
    UniversalLogit,
    VocabularyOverlap,
    chunk_log_likelihoods,
    one_family,
    shared_classes,
    soft_target,
    universal_logit,
)

STUDENT = Pieces("<s>", "a", "b", "c", "ab", begin=0, name="student")
TEACHER = Pieces("<s>", "a", "b", "c", "bc", "abc", begin=0, name="teacher")
TEXT = "abcacabccabbcab"


def bigram(size, seed, scale=4.0):
    """A language model that knows the last token alone: logits after each token ``(V, V)``."""
    return scale * noise(size, size, seed=seed)


def true_likelihood(tokens, logits, places):
    """The product of next-token probabilities, token by token, from the definition."""
    return np.prod([softmax(logits[tokens[i - 1]])[tokens[i]] for i in places])


def test_trl_gold_multi_token_groups_count_in_full():
    """GOLD reads P(token_i | <= i) from logits that are not shifted: a thousandth of the truth."""
    student, teacher = bigram(5, 1, 1.0), bigram(6, 2, 1.0)
    # A trained model hardly ever says the same token twice in a row.
    for model in (student, teacher):
        np.fill_diagonal(model, -9.0)
    rows = aligned_rows(TEXT, STUDENT, TEACHER)
    batch = aligned_batch([rows], STUDENT, TEACHER)
    sides = {
        "student": (rows[0], student, batch.targets),
        "teacher": (rows[1], teacher, batch.inputs["teacher.targets"]),
    }
    for whose, (row, model, targets) in sides.items():
        numbers = batch.inputs[f"{whose}.group"].flatten()
        count = int(numbers.max()) + 1
        logits = torch.from_numpy(model[list(row.tokens)])  # what it says after each token
        found = chunk_log_likelihoods(logits[:-1], targets.flatten(), numbers, count)
        wanted, unshifted, several = [], [], []
        for group in range(count):
            places = [i for i in range(len(row.tokens)) if row.groups[i] == group]
            wanted.append(true_likelihood(row.tokens, model, places))
            wrong = [softmax(model[row.tokens[i]])[row.tokens[i]] for i in places]
            unshifted.append(np.prod(wrong))
            several.append(len(places) > 1)
        assert found.exp().tolist() == pytest.approx(wanted, rel=1e-12)
        assert sum(several) >= 2
        ratio = np.median([u / w for u, w, s in zip(unshifted, wanted, several, strict=True) if s])
        assert ratio < 1e-3


def test_every_token_counts_exactly_once():
    """The likelihoods of all groups together are that of the text behind its begin."""
    student, teacher = bigram(5, 1), bigram(6, 2)
    rows = aligned_rows(TEXT, STUDENT, TEACHER)
    batch = aligned_batch([rows], STUDENT, TEACHER)
    for row, model, whose, targets in (
        (rows[0], student, "student", batch.targets),
        (rows[1], teacher, "teacher", batch.inputs["teacher.targets"]),
    ):
        logits = torch.from_numpy(model[list(row.tokens[:-1])])
        numbers = batch.inputs[f"{whose}.group"].flatten()
        found = chunk_log_likelihoods(logits, targets.flatten(), numbers, int(numbers.max()) + 1)
        whole = true_likelihood(row.tokens, model, range(1, len(row.tokens)))
        assert found.sum().exp().item() == pytest.approx(whole, rel=1e-12)


def test_groups_of_many_tokens_pull_as_hard_as_one_token():
    """Likelihood matching's gradient does not fade with the number of tokens in a group."""
    z = torch.zeros(1, 4, 6, dtype=torch.float64, requires_grad=True)
    batch = crossed([[0, 1, 1, 1]], [[0, 1]], targets=[[0] * 4], teacher_targets=[[0] * 2])
    teacher = torch.zeros(1, 2, 6, dtype=torch.float64)
    teacher[0, :, 0] = 3.0
    (value,) = LikelihoodMatching()(Outputs(z), Outputs(teacher), batch).values()
    (gradient,) = torch.autograd.grad(value, z)
    first, rest = gradient[0, 0, 0].abs().item(), gradient[0, 1:, 0].abs()
    assert bool((rest > 0.5 * first).all())


@pytest.mark.parametrize(("ours", "theirs"), [(12, 16), (16, 12)])
def test_liger_zero_padding_gives_classes_that_are_not_there_probability(ours, theirs):
    """A class beyond a head has a logit of -inf and not of 0 (Liger 0.8.5)."""
    z, w = torch.from_numpy(noise(6, ours, seed=1)), torch.from_numpy(noise(6, theirs, seed=2))
    wanted = soft_target(z[:, :12], w[:, :12], 1.0).mean().item()
    cut = shared_classes(z, w)
    assert soft_target(*cut, 1.0).mean().item() == pytest.approx(wanted, rel=1e-12)
    (found,) = VocabularyOverlap()(Outputs(z), Outputs(w), Batch(z)).values()
    assert found.item() == pytest.approx(wanted, rel=1e-12)
    filled = [F.pad(x, (0, 16 - x.shape[1])) for x in (z, w)]
    assert abs(soft_target(*filled, 1.0).mean().item() / wanted - 1) > 1e-2
    infinite = [F.pad(x[:, :12], (0, 4), value=-1e9) for x in (z, w)]
    assert soft_target(*infinite, 1.0).mean().item() == pytest.approx(wanted, rel=1e-12)


def test_kdflow_blind_truncation_of_unlike_vocabularies_is_refused():
    """Heads cut to the smaller compare unlike tokens, unless the tokens are looked at (KDFlow)."""
    same = Pieces("<s>", "a", "b", "c", "ab", begin=0, name="other")
    assert one_family(STUDENT, same) == 5
    longer = Pieces("<s>", "a", "b", "c", "ab", "abc", begin=0, name="longer")
    assert one_family(STUDENT, longer) == one_family(longer, STUDENT) == 5
    with pytest.raises(DataError, match="token 4 is b'ab' for student and b'bc' for teacher"):
        one_family(STUDENT, TEACHER)
    unmarked = Pieces("<s>", "a", "b", "c", "ab", name="unmarked")
    with pytest.raises(DataError, match=r"token 0 is b'' for student and b'<s>' for unmarked"):
        one_family(STUDENT, unmarked)


def test_kdflow_truncated_classes_keep_no_mass_by_mistake():
    """Asked for more classes than one of the heads has, or for one, it does not guess."""
    z = torch.zeros(2, 5)
    assert shared_classes(z, torch.zeros(2, 9), 4)[1].shape == (2, 4)
    for wrong in (6, 1):
        with pytest.raises(ShapeMismatch, match=f"asked for {wrong} classes .* 2 to 5"):
            shared_classes(z, torch.zeros(2, 9), wrong)


def test_kdflow_overlap_is_not_normalised_anew():
    """Mass outside the overlap stays outside: a student that loses all of it there is told so."""
    theirs = torch.tensor([[0.5, 0.3, 0.2]]).log()
    ours = torch.tensor([[0.05, 0.03, 0.92]]).log()  # alike within the overlap
    batch = crossed([[0]], [[0]])
    answers = Outputs(ours[None]), Outputs(theirs[None])
    (found,) = VocabularyOverlap([0, 1, -1])(*answers, batch).values()
    inside = [x[0, :2].softmax(-1) for x in (ours, theirs)]
    torch.testing.assert_close(*inside)
    assert found.item() == pytest.approx(0.8 * np.log(10) + 0.2 * np.log(0.2 / 0.92), rel=1e-5)


def test_zeros_fill_the_smaller_vocabulary_of_ranks_and_not_logits_of_zero():
    z, w = torch.zeros(1, 2), torch.tensor([[0.0, 0.0, -1e9, -1e9]])
    assert universal_logit(z, w).item() == 0
    assert universal_logit(F.pad(z, (0, 2)), w).item() == pytest.approx(1.0)


def test_ranks_are_compared_where_both_have_read_the_same():
    """Position by position, one token that the two cut otherwise puts all that follow out of step."""
    teacher = torch.from_numpy(4 * noise(1, 3, 8, seed=3))
    # The student says what the teacher says where groups begin, behind one more token in between.
    student = torch.stack([teacher[0, 0], -teacher[0, 0], teacher[0, 1], teacher[0, 2]])[None]
    more = {"teacher.mask": torch.ones(1, 3, dtype=torch.bool)}
    batch = crossed([[0, 0, 1, 2]], [[0, 1, 2]], more=more)
    answers = Outputs(student), Outputs(teacher)
    assert sum(UniversalLogit()(*answers, batch).values()).item() == 0
    assert sum(UniversalLogit("position")(*answers, batch).values()).item() > 0.1


def test_parts_of_a_batch_add_up_by_their_tokens():
    """A mean over groups would weigh parts by something the engine does not count."""
    ours = [[0, 0, 1, -1], [0, 1, 2, 3], [-1, 0, 0, 0]]
    theirs = [[0, 1, -1], [0, 1, 2], [0, 0, -1]]
    mask = [[True] * 4, [True, True, False, False], [False, True, True, True]]
    given = {"targets": [[1, 2, 0, 3]] * 3, "teacher_targets": [[0, 2, 1]] * 3, "mask": mask}
    batch = crossed(ours, theirs, **given)
    s, t = torch.from_numpy(noise(3, 4, 5, seed=1)), torch.from_numpy(noise(3, 3, 5, seed=2))
    for objective in (LikelihoodMatching(), UniversalLogit(), VocabularyOverlap([0, 2, -1, 3, 4])):
        (whole,) = objective(Outputs(s), Outputs(t), batch).values()
        parts = 0.0
        for rows in (slice(0, 1), slice(1, 3)):
            part = batch[rows]
            (value,) = objective(Outputs(s[rows]), Outputs(t[rows]), part).values()
            parts += value.item() * part.count / batch.count
        assert parts == pytest.approx(whole.item(), rel=1e-12)
