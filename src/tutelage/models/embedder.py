"""Sentence embeddings: a body that answers token by token, and one vector of it for each text.

Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks, Reimers, Gurevych, 2019
(arXiv 1908.10084).
"""

import json
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tutelage.core.errors import ModelError, suggest
from tutelage.models.text_readers import answer_of, placed
from tutelage.models.zoo.parts import one_of

Pooling = Literal["mean", "cls", "last"]
"""What one vector is made of: the mean of all tokens, the first, or the last."""


class Embedder(nn.Module):
    r"""A body with pooling behind it: its logits are the sentence's embedding ``(N, D)``.

    .. math:: e = \frac{\sum_t m_t h_t}{\sum_t m_t}, \quad \text{normalised } e / \|e\|

    Args:
        body: Whatever answers named tokens with ``last_hidden_state`` ``(N, T, D)``, as models of
            the transformers library without a head do, or with that tensor itself.
        pooling: ``mean``; ``cls``, the first token; ``last``, the last one. Padding never counts.
        normalise: Whether embeddings have length 1.

    Raises:
        ModelError: There is no such pooling.

    Example:
        >>> body = nn.Embedding(9, 4)
        >>> body.forward = lambda input_ids, attention_mask: nn.Embedding.forward(body, input_ids)
        >>> tokens, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]])
        >>> vector = Embedder(body, normalise=False)(tokens, mask)
        >>> torch.allclose(vector[0], body.weight[1:3].mean(0))
        True
    """

    takes_names = True

    def __init__(self, body: nn.Module, *, pooling: Pooling = "mean", normalise: bool = True):
        super().__init__()
        one_of("pooling", pooling, ("mean", "cls", "last"))
        self.body, self.pooling, self.normalise = body, pooling, normalise

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Embeddings ``(N, D)`` of texts ``(N, T)``.

        Raises:
            ModelError: Texts share rows, or the body answers otherwise.
        """
        if position_ids is not None:
            raise ModelError(
                "an embedding is of one text a row, and this data packs several (position_ids): "
                "turn packing off."
            )
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        named = {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": token_type_ids}
        given = {name: one for name, one in named.items() if one is not None}
        answer = answer_of(self.body, placed(self.body, given))
        hidden = getattr(answer, "last_hidden_state", answer)
        if not isinstance(hidden, Tensor) or hidden.ndim != 3:
            raise ModelError(
                f"{type(self.body).__name__} answers without hidden states (N, T, D) to pool: give "
                "a model without a head, as AutoModel loads it."
            )
        pooled = pooled_states(hidden, mask, self.pooling)
        return F.normalize(pooled, dim=-1) if self.normalise else pooled


def pooled_states(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector ``(N, D)`` of hidden states ``(N, T, D)``, in fp32 or better.

    Args:
        hidden: By token.
        mask: ``(N, T)``, 0 where there is padding, on either side.
        pooling: See `Embedder`.
    """
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    seen = mask != 0
    if pooling == "mean":
        weight = seen.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    ranks = places if pooling == "last" else places.flip(0)
    chosen = (ranks * seen).argmax(-1)
    rows = torch.arange(len(hidden), device=hidden.device)
    return hidden[rows, chosen]


def pooling_of(folder: Path) -> dict[str, Any]:
    """What a folder of the sentence-transformers library says of pooling; nothing if it is none.

    Raises:
        ModelError: It pools in a way, or has a part, that is not known here.
    """
    listed = folder / "modules.json"
    if not listed.is_file():
        return {}
    found: dict[str, Any] = {"normalise": False}
    for part in json.loads(listed.read_text(encoding="utf-8")):
        kind = str(part["type"]).rpartition(".")[2]
        if kind == "Pooling":
            said = folder / part["path"] / "config.json"
            found["pooling"] = _pooling(json.loads(said.read_text(encoding="utf-8")), folder)
        elif kind == "Normalize":
            found["normalise"] = True
        elif kind != "Transformer":
            raise ModelError(
                f"{folder.name}: this sentence encoder has a part {kind!r}, which is not known "
                f"here. {suggest(kind, ('Transformer', 'Pooling', 'Normalize'))}"
            )
    return found


def _pooling(said: dict[str, Any], folder: Path) -> str:
    known = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    modes = [key for key, on in said.items() if key.startswith("pooling_mode_") and on is True]
    if str(said.get("pooling_mode")) in known.values():  # newer folders name it
        return str(said["pooling_mode"])
    if len(modes) == 1 and modes[0] in known:
        return known[modes[0]]
    raise ModelError(
        f"{folder.name}: pooling by {', '.join(modes) or 'nothing'} is not known here: say "
        "pooling: mean, cls or last."
    )
