"""A sentence encoder with fewer layers, and one with none, taught to point where a teacher does.

    python examples/sentence_encoder.py models/minilm

The folder is a sentence encoder of Hugging Face (`python benchmarks/models.py models` gets one);
without it a small one is made here, which knows nothing and shows the steps alone.
"""

import sys
import tempfile
from pathlib import Path

import torch

from tutelage import Frozen, Learner, Observed, fit
from tutelage.data.text import SentenceSet, TokenLoader, tokenizer_of
from tutelage.data.text.stored import filled
from tutelage.data.text.tokenizing import document
from tutelage.engine import adamw, one_cycle
from tutelage.models import build_model
from tutelage.models.shrunk import shrunk, static_embeddings
from tutelage.objectives import EmbedDistill
from tutelage.settings import Classic

SENTENCES = [
    f"{who} {does} {what}"
    for who in ("the cat", "a dog", "my sister", "the old man")
    for does in ("sees", "likes", "carries")
    for what in ("a red ball", "the morning paper", "nothing at all")
]


def tiny(folder: str) -> str:
    """An encoder of two layers that knows nothing, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *dict.fromkeys(" ".join(SENTENCES).split())]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    return folder


torch.manual_seed(0)
spare = tempfile.TemporaryDirectory()
folder = sys.argv[1] if len(sys.argv) > 1 and Path(sys.argv[1]).is_dir() else tiny(spare.name)
tokenizer = tokenizer_of({"hf": {"path": folder}})
rows, lengths = filled([document(tokenizer, each) for each in SENTENCES], tokenizer.padding)
texts = SentenceSet(rows, lengths, tokenizer=tokenizer)
whole = texts.batch(torch.arange(len(texts)))

encoder = build_model({f"hf:{folder}": {"task": "embedding"}}, classes=1, shape=(64,))
teacher = Frozen(Observed(encoder))
students = {
    "one layer": shrunk(encoder, layers=1),
    "no layer": static_embeddings(teacher, tokenizer, None),
}
for name, model in students.items():
    student = Observed(model)

    def away(student: Observed = student) -> float:
        """The mean distance of directions, 1 - cosine."""
        with torch.no_grad():
            ours, theirs = student.eval()(whole).logits, teacher(whole).logits
        return 1 - torch.cosine_similarity(ours, theirs).mean().item()

    before = away()
    learner = Learner(student, adamw(learning_rate=0.003), schedule=one_cycle())
    fit(
        Classic(learner, teacher, EmbedDistill(measure="cosine")),
        TokenLoader(texts, 12, seed=0),
        steps=60,
    )
    print(f"{name}: {before:.3f} -> {away():.3f} from the teacher's direction")
    assert away() < before
spare.cleanup()
