"""Static encoders: means of vectors, components, weights, and learning further."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, ModelError
from tutelage.core.text import Encoded, TextTokenizer
from tutelage.models import Observed
from tutelage.models.shrunk import StaticEncoder, static_embeddings, token_counts
from tutelage.models.shrunk.static_making import principal, sif_weights, token_vectors, zipf

transformers = pytest.importorskip("transformers")


class Letters:
    """A tokenizer: pad, begin and end, then letters."""

    name, size, begin, end, padding = "letters", 23, 1, 2, 0
    special = frozenset({0, 1, 2})

    def encode(self, text):
        tokens = tuple(3 + ord(letter) - ord("a") for letter in text)
        return Encoded(tokens, tuple((i, i + 1) for i in range(len(tokens))))

    def decode(self, tokens):
        return "".join(chr(ord("a") + token - 3) for token in tokens if token > 2)

    def token_bytes(self, token):
        return self.decode([token]).encode()

    def fingerprint(self):
        return "0" * 64


def encoder(**options):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, intermediate_size=20, vocab_size=23, num_hidden_layers=2,
        num_attention_heads=2, initializer_range=0.3, **options,
    )  # fmt: skip
    return transformers.BertModel(config).eval()


def test_the_mean_is_over_tokens_that_have_a_vector_and_are_no_padding():
    vectors = torch.randn(3, 4)
    model = StaticEncoder(vectors, [-1, 0, 1, 2])
    ids = torch.tensor([[1, 2, 0, 3], [2, 2, 3, 3], [0, 0, 0, 0], [3, 1, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    v = vectors.numpy()
    wanted = np.stack([(v[0] + v[1]) / 2, (2 * v[1] + 2 * v[2]) / 4, 0 * v[0], 0 * v[0]])
    found = model(ids, mask)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-6)
    found.square().sum().backward()
    assert model.embedding.weight.grad.isfinite().all()


def test_normalised_answers_have_length_one_and_empty_texts_are_zero():
    model = StaticEncoder(torch.randn(3, 4), [-1, 0, 1, 2], normalise=True)
    found = model(torch.tensor([[1, 2], [0, 0]]))
    np.testing.assert_allclose(found.norm(dim=-1).detach(), [1, 0], rtol=1e-6)
    found.sum().backward()
    assert model.embedding.weight.grad.isfinite().all()


def test_it_answers_batches_of_text_as_any_model():
    model = StaticEncoder(torch.eye(4))
    inputs = {"input_ids": torch.tensor([[1, 3, 0]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    seen = Observed(model).tap(["mean"])(Batch(inputs))
    assert seen.logits.tolist() == [[0, 0.5, 0, 0.5]]
    assert torch.equal(seen["mean"], seen.logits)
    state = model.state_dict()
    again = StaticEncoder(torch.zeros(4, 4))
    again.load_state_dict(state)
    assert torch.equal(again(inputs), model(inputs))


def test_principal_components_are_those_of_numpy():
    vectors = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6)
    components, mean = principal(vectors, 3)
    exact = vectors.numpy().astype(np.float64)
    centred = exact - exact.mean(0)
    _, sizes, right = np.linalg.svd(centred, full_matrices=False)
    for ours, theirs in zip(components.numpy(), right, strict=False):
        assert abs(abs(ours @ theirs) - 1) < 1e-9
        assert ours[np.abs(ours).argmax()] > 0
    np.testing.assert_allclose(mean.numpy(), exact.mean(0), rtol=1e-9, atol=1e-12)
    kept = ((centred @ components.numpy().T) ** 2).sum()
    np.testing.assert_allclose(kept, (sizes[:3] ** 2).sum(), rtol=1e-9)


def test_weights_are_smooth_inverse_frequencies():
    """Arora et al. 2017: a / (a + p(w))."""
    counts = [7, 0, 2, 1]
    wanted = [0.01 / (0.01 + c / 10) for c in counts]
    np.testing.assert_allclose(sif_weights(torch.tensor(counts), 0.01).numpy(), wanted)
    assert sif_weights(torch.tensor([0, 0])).tolist() == [1, 1]
    total = sum(1 / r for r in range(1, 6))
    np.testing.assert_allclose(zipf(5).numpy(), [1 / r / total for r in range(1, 6)])
    with pytest.raises(ModelError, match="smoothing must be greater than 0"):
        sif_weights(torch.tensor(counts), 0)


@torch.no_grad()
def test_a_tokens_vector_is_what_the_teacher_answers_to_it_alone():
    assert isinstance(Letters(), TextTokenizer)
    teacher = encoder()
    for pooling in ("mean", "token", "first"):
        found = token_vectors(teacher, Letters(), [3, 9, 22], pooling=pooling, batch_size=2)
        for row, token in enumerate([3, 9, 22]):
            hidden = teacher(input_ids=torch.tensor([[1, token, 2]])).last_hidden_state[0]
            wanted = {"mean": hidden.mean(0), "token": hidden[1], "first": hidden[0]}[pooling]
            torch.testing.assert_close(found[row].float(), wanted, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_whole_way_is_the_formulas_one_after_another():
    teacher = encoder()
    counts = torch.randint(0, 50, (23,), generator=torch.Generator().manual_seed(1))
    student = static_embeddings(teacher, Letters(), 5, counts=counts, smoothing=0.02)
    vectors = token_vectors(teacher, Letters(), list(range(3, 23))).numpy()
    centred = vectors - vectors.mean(0)
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    shares = counts.numpy()[3:] / counts.numpy()[3:].sum()
    wanted = (0.02 / (0.02 + shares))[:, None] * (centred @ right[:5].T)
    signs = np.sign((student.embedding.weight.numpy() * wanted).sum(0))
    np.testing.assert_allclose(student.embedding.weight.numpy(), wanted * signs, atol=1e-5)
    assert student.rows.tolist() == [-1, -1, -1, *range(20)]
    assert student.normalise


@torch.no_grad()
def test_without_components_and_weights_vectors_are_the_teachers_own():
    teacher = encoder()
    student = static_embeddings(teacher, Letters(), None, smoothing=0, normalise=False)
    wanted = token_vectors(teacher, Letters(), list(range(3, 23))).float()
    torch.testing.assert_close(student.embedding.weight, wanted)
    torch.testing.assert_close(student(torch.tensor([[3, 22]]))[0], (wanted[0] + wanted[19]) / 2)


@torch.no_grad()
def test_fewer_tokens_may_have_a_vector_the_most_frequent_or_those_named():
    texts = ["abcab", "ab", "zz" and "ttt"]
    counts = token_counts(texts, Letters())
    assert counts[3:7].tolist() == [3, 3, 1, 0]
    student = static_embeddings(encoder(), Letters(), None, vocabulary=3, counts=counts)
    assert [t for t in range(23) if student.rows[t] >= 0] == [3, 4, 22]
    first = static_embeddings(encoder(), Letters(), None, vocabulary=2)
    assert [t for t in range(23) if first.rows[t] >= 0] == [3, 4]
    named = static_embeddings(encoder(), Letters(), 2, vocabulary=[9, 5, 7, 5])
    assert [t for t in range(23) if named.rows[t] >= 0] == [5, 7, 9]
    assert named.embedding.weight.shape == (3, 2)


@torch.no_grad()
def test_a_teacher_that_answers_with_one_vector_for_a_text_is_taken_at_its_word():
    class Sentence(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = encoder()

        def forward(self, inputs):
            return F.normalize(self.body(**inputs).last_hidden_state.mean(1), dim=-1)

    teacher = Sentence()
    found = token_vectors(teacher, Letters(), [4, 5])
    np.testing.assert_allclose(found.norm(dim=-1), [1, 1], rtol=1e-5)


def test_it_learns_further_from_its_teacher():
    teacher = encoder()
    student = static_embeddings(teacher, Letters(), None)
    ids = torch.randint(3, 23, (32, 5), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = F.normalize(teacher(ids).last_hidden_state.mean(1), dim=-1)
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = 1 - (student(ids) * wanted).sum(-1).mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dims": 17}, ModelError, "20 vectors of 16 numbers have 16 principal components, got 17"),
        ({"dims": 0}, ModelError, "give a number from 1 to 16"),
        ({"pooling": "max"}, ModelError, "pooling must be one of mean, token, first, got 'max'"),
        ({"vocabulary": 21}, ModelError, "there are 20 tokens that are not special, and 21"),
        ({"vocabulary": [23]}, ModelError, "tokens have numbers from 0 to 22"),
        ({"counts": [1, 2]}, DataError, r"\(2,\) were given for a vocabulary of 23"),
    ],
)
def test_wrong_options_are_one_line(options, error, words):
    with pytest.raises(error, match=words) as caught:
        static_embeddings(encoder(), Letters(), **{"dims": 4} | options)
    assert "\n" not in str(caught.value)


def test_wrong_vectors_rows_and_teachers_are_one_line():
    with pytest.raises(ModelError, match=r"vectors must be floats \(V, D\), got torch.int64"):
        StaticEncoder(torch.ones(2, 2).long())
    with pytest.raises(ModelError, match="rows must be numbers from -1 to 1"):
        StaticEncoder(torch.ones(2, 2), [0, 2])

    class Scores(nn.Module):
        def forward(self, inputs):
            return inputs["input_ids"].sum(-1).float()

    with pytest.raises(ModelError, match="answers a text with a Tensor and not with hidden states"):
        static_embeddings(Scores(), Letters(), 2)


MODELS = Path(os.environ.get("TUTELAGE_MODELS", "nowhere"))


@pytest.mark.data
@pytest.mark.skipif(not (MODELS / "minilm").is_dir(), reason="set TUTELAGE_MODELS")
@torch.no_grad()
def test_words_that_minilm_finds_alike_are_alike_to_its_static_student():
    body = transformers.AutoModel.from_pretrained(MODELS / "minilm")
    words = transformers.AutoTokenizer.from_pretrained(MODELS / "minilm")

    class Pieces(Letters):
        name, size = "wordpiece", 30522
        begin, end, padding = words.cls_token_id, words.sep_token_id, words.pad_token_id
        special = frozenset(words.all_special_ids)

    texts = ["a small dog plays", "a puppy is playing", "the bank raised interest rates"]
    ids = words(texts, padding=True, return_tensors="pt")
    used = sorted(
        set(ids["input_ids"].flatten().tolist()) - Pieces.special | set(range(2000, 2600))
    )
    student = static_embeddings(body, Pieces(), 128, vocabulary=used)
    dog, puppy, bank = student(ids["input_ids"], ids["attention_mask"])
    assert dog @ puppy > 0.3 + dog @ bank
