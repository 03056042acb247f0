"""Tiny language models of many makes, and rows of several documents."""

import pytest
import torch

VOCABULARY = 50
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
# transformers imports things that warn of their own end
QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
GROUPED = {"num_key_value_heads": 2}
WINDOW = {"sliding_window": 3, "head_dim": 8}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 1}
MAKES = {
    "LlamaForCausalLM": ("LlamaConfig", SIZES | GROUPED),
    "Qwen3ForCausalLM": ("Qwen3Config", SIZES | GROUPED | {"head_dim": 8}),
    "MistralForCausalLM": ("MistralConfig", SIZES | GROUPED | {"sliding_window": 3}),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", SIZES | GROUPED | WINDOW),
    "GPT2LMHeadModel": ("GPT2Config", GPT2 | ENDS),
    "BertForMaskedLM": ("BertConfig", SIZES),
    "RobertaForMaskedLM": ("RobertaConfig", SIZES | ENDS),
    "MPNetForMaskedLM": ("MPNetConfig", SIZES | ENDS),
    "OPTForCausalLM": (
        "OPTConfig",
        SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32} | ENDS,
    ),
    "BloomForCausalLM": (
        "BloomConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
}


def make(name, attention="sdpa", **more):
    """A model of the transformers library with large weights, so that mistakes are seen."""
    import transformers

    config, options = MAKES.get(name, (more.pop("config", None), SIZES))
    torch.manual_seed(0)
    made = getattr(transformers, config)(**(options | {"initializer_range": 0.2} | more))
    made._attn_implementation = attention
    return getattr(transformers, name)(made).eval()


def packed(seed=0):
    """Three documents in a row with padding behind them, and each of them alone."""
    torch.manual_seed(seed)
    documents = [torch.randint(3, VOCABULARY, (1, length)) for length in (5, 4, 3)]
    row = torch.cat([*documents, torch.ones(1, 2, dtype=torch.long)], dim=1)
    places = [torch.arange(one.shape[1]) for one in documents]
    batch = {
        "input_ids": row,
        "position_ids": torch.cat([*places, torch.tensor([0, 1])])[None],
        "attention_mask": torch.tensor([[1] * 12 + [0] * 2]),
    }
    return batch, documents


def zoo_gpt(classes=VOCABULARY, spread=0.3, **options):
    """The zoo's gpt with large weights."""
    from tutelage.models import build_model

    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 2, "heads": 4, "kv_heads": 2} | options
    model = build_model({"gpt": sizes}, classes=classes, shape=(8,)).eval()
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=spread)
    return model
