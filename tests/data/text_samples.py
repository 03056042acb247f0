"""Tokenizers and files that tests of text make for themselves."""

import json
from functools import cache

import numpy as np

TEXT = (
    "To be, or not to be, that is the question:\n"
    "Whether 'tis nobler in the mind to suffer\n"
    "The slings and arrows of outrageous fortune,\n"
    "Or to take arms against a sea of troubles\n"
)
HARD = [
    "plain words",
    "né naïve Ångström",
    "🦊 and 👩‍👩‍👧 here",
    "日本語 и русский",
    " \t\n\n  two  spaces ",
    "",
    "\u2028x\x00y",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def byte_level(begin=False):
    """A byte-level BPE as tokenizer.json has it, which may put a token in front by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([TEXT, "user\nassistant\nsystem\n" * 5], trainer)
    made.post_processor = (
        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        if begin
        else processors.ByteLevel(trim_offsets=True)
    )
    return made


@cache
def word_pieces():
    """A lower-casing WordPiece that truncates and pads by itself, as sentence encoders' files do."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "play",
        "##ing",
        "##s",
        "the",
        "good",
        "bad",
        "film",
    ]
    words += [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(4)
    made.enable_padding(length=12)
    return made


@cache
def with_fallback():
    """Word starts marked by ▁ and unknown characters spelt by their bytes, as Llama 2 does."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
    for letter in "▁abcdefghijklmnopqrstuvwxyz":
        words[letter] = len(words)
    made = Tokenizer(models.BPE(words, [], unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    made.add_special_tokens(["<s>", "</s>"])
    return made


def hf_folder(place, library, template=None, **words):
    """A folder as a Hugging Face model has it, of its tokenizer alone."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=library, chat_template=template, **words)
    made.save_pretrained(place)
    return str(place)


def chat_folder(place, template=CHATML):
    """A folder with ChatML's tokens and a template."""
    return hf_folder(place, byte_level(), template, eos_token="<|im_end|>", pad_token="<|im_end|>")


def json_lines(path, rows):
    """A JSON Lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def documents(count=40, seed=0, longest=30, vocabulary=50):
    """Documents of 1 to ``longest`` tokens."""
    dice = np.random.default_rng(seed)
    sizes = dice.integers(1, longest + 1, count)
    return [dice.integers(1, vocabulary, size).astype(np.int32) for size in sizes]
