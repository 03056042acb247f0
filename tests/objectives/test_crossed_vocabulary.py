"""Which token is which: maps between vocabularies, edit distances, coverage."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives_shared import noise

from crossed_samples import Pieces, crossed
from tutelage.core.errors import DataError, RecipeError, ShapeMismatch, SparseAnswer
from tutelage.core.outputs import Outputs, SparseOutputs
from tutelage.data.text.aligned import aligned_batch, aligned_rows
from tutelage.objectives import (
    VocabularyOverlap,
    coverage,
    overlap_divergence,
    overlap_mass,
    token_map,
)
from tutelage.objectives.crossed.nearest import edit_distances, nearest_pieces

STUDENT = Pieces("<s>", "</s>", "a", "b", " the", "th", "e", "é", "n", "ning", begin=0, end=1)
TEACHER = Pieces("</s>", "the", " the", "b", "an", b"\xc3", "nin", "zz", "<u>", end=0, unknown=8)


def test_tokens_of_the_same_bytes_and_ends_by_their_role():
    assert token_map(STUDENT, TEACHER).tolist() == [1, -1, 4, 3, -1, -1, -1, -1, -1]
    back = token_map(TEACHER, STUDENT)
    assert back.tolist() == [-1, 0, -1, 3, 2, -1, -1, -1, -1, -1]


def test_tokens_that_only_the_teacher_has_by_how_the_student_begins_them():
    """the -> th; an -> a; of half a character its longest beginning; zz cannot be written."""
    first = Pieces(*STUDENT.pieces, "<u>", b"\xe6", b"\xe6\x9d", begin=0, end=1, unknown=10)
    teacher = Pieces(*TEACHER.pieces, b"\xe6\x9d\xb1\xe4", end=0, unknown=8)
    assert token_map(first, teacher, "first").tolist() == [1, 5, 4, 3, 2, -1, 8, -1, -1, 12]


def test_tokens_that_only_the_teacher_has_by_their_nearest():
    """the -> th (one byte less); an -> a; nin -> ning; nothing begins like zz.

    Half a character is as far from the whole one as from nothing.
    """
    assert token_map(STUDENT, TEACHER, "nearest").tolist() == [1, 5, 4, 3, 2, -1, 9, -1, -1]
    with pytest.raises(RecipeError, match="same, first, nearest, got 'best'"):
        token_map(STUDENT, TEACHER, "best")


def levenshtein(a, b):
    if not a or not b:
        return len(a) + len(b)
    change = levenshtein(a[1:], b[1:]) + (a[0] != b[0])
    return min(change, levenshtein(a[1:], b) + 1, levenshtein(a, b[1:]) + 1)


short = st.binary(min_size=1, max_size=5).map(lambda b: bytes(x % 3 for x in b))


@settings(max_examples=60, deadline=None)
@given(short, st.lists(short, min_size=1, max_size=6, unique=True))
def test_edit_distances_by_their_definition(piece, others):
    filled = torch.full((len(others), 5), -1)
    for place, other in enumerate(others):
        filled[place, : len(other)] = torch.tensor(list(other))
    lengths = torch.tensor([len(other) for other in others])
    found = edit_distances(torch.tensor(list(piece)), filled, lengths).tolist()
    assert found == [levenshtein(piece, other) for other in others]
    known = {other: n for n, other in enumerate(others)}
    best = nearest_pieces([piece], known).get(piece)
    alike = [(levenshtein(piece, o), n) for o, n in known.items() if o[0] == piece[0]]
    near = min(alike, default=(99, -1))
    assert best == (near[1] if near[0] < len(piece) else None)


def test_coverage_counts_what_takes_part():
    mask = [[True, True, True, True, False]]
    more = {"teacher.mask": torch.tensor([[True, True, True, True]])}
    batch = crossed([[0, 1, 1, -1, 2]], [[0, 1, 2, -1]], mask=mask, more=more)
    found = coverage(batch)
    assert (found.tokens, found.groups) == (4, 2)
    assert (found.student, found.teacher) == (0.75, 0.5)
    assert (found.first, found.one_to_one) == (0.5, 0.25)
    nothing = coverage(crossed([[-1]], [[-1]], mask=[[False]]))
    assert (nothing.tokens, nothing.groups, nothing.student) == (0, 0, 0.0)
    with pytest.raises(DataError, match="this batch has none"):
        coverage(crossed([[0]], [[0]]).__class__(torch.zeros(1, 2)))


def test_the_mass_of_the_overlap():
    batch = crossed([[0, 0, 1]], [[0, 1]])
    ours, theirs = (Outputs(torch.from_numpy(noise(1, n, 4, seed=n))) for n in (3, 2))
    tokens = torch.tensor([2, -1, 2, 0])
    found = overlap_mass(ours, theirs, batch, tokens)
    q, p = (each.logits.softmax(-1)[0] for each in (ours, theirs))
    assert found[0] == pytest.approx(q[[0, 2]][:, [0, 2]].sum().item() / 2, rel=1e-6)
    assert found[1] == pytest.approx(p[:, [0, 2, 3]].sum().item() / 2, rel=1e-6)
    kept = SparseOutputs(theirs.logits, top=theirs.logits.argsort(), log_tail=torch.zeros(1, 2))
    with pytest.raises(SparseAnswer, match="overlap_mass needs the logits of all classes"):
        overlap_mass(ours, kept, batch, tokens)


def test_a_divergence_that_no_student_can_lower_is_refused():
    z, w = torch.zeros(1, 2), torch.zeros(1, 3)
    with pytest.raises(RecipeError, match=r"only the teacher has tokens outside .* forward"):
        overlap_divergence(z, w, torch.tensor([0, 1, -1]))
    with pytest.raises(RecipeError, match=r"only the student has tokens outside .* reverse"):
        overlap_divergence(w, z, torch.tensor([0, 1]), "reverse")
    assert overlap_divergence(w, z, torch.tensor([0, 1])).item() == pytest.approx(0.4054651)
    assert overlap_divergence(z, w, torch.tensor([0, 1, -1]), "reverse").item() == pytest.approx(
        0.4054651
    )
    for one, other in ((z, w), (w, z)):
        tokens = torch.tensor([0, 1, -1][: other.shape[1]])
        one = one.clone().requires_grad_()
        value = overlap_divergence(one, other, tokens, "js")
        (gradient,) = torch.autograd.grad(value.sum(), one)
        assert 0 < value.item() < 0.6932
        assert bool(gradient.isfinite().all())


def test_maps_of_other_vocabularies_are_refused():
    for tokens, ours, theirs in (([0, 1, 2], 4, 2), ([0, 5], 4, 2)):
        with pytest.raises(ShapeMismatch, match="make the map of these models' own tokenizers"):
            overlap_divergence(torch.zeros(1, ours), torch.zeros(1, theirs), torch.tensor(tokens))
    for wrong in ("ab", [], [-1, -1], [0.5], [[0, 1]], 3):
        with pytest.raises(RecipeError, match="overlap: tokens must be one number"):
            VocabularyOverlap(wrong)


def test_a_map_of_two_tokenizers_makes_an_objective():
    texts = ["the ban", "b the b"]
    student = Pieces("<s>", "</s>", "a", "b", " the", "the", "e", " ", "n", begin=0, end=1)
    teacher = Pieces("</s>", "the", " the", " b", "an", "b", " ", end=0)
    batch = aligned_batch([aligned_rows(t, student, teacher) for t in texts], student, teacher)
    made = VocabularyOverlap(token_map(student, teacher))
    shapes = [batch.inputs[f"{whose}.input_ids"].shape for whose in ("student", "teacher")]
    ours = torch.from_numpy(noise(*shapes[0], 9)).requires_grad_()
    theirs = torch.from_numpy(noise(*shapes[1], 7))
    (value,) = made(Outputs(ours), Outputs(theirs), batch).values()
    (gradient,) = torch.autograd.grad(value, ours)
    assert bool((gradient.abs().sum(-1) > 0).any(1).all())
    # Where the student predicts no group's first token, nothing is asked of it.
    group = batch.inputs["student.group"]
    assert bool((gradient[group < 0] == 0).all())
