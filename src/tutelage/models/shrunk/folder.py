"""Shrunk models in folders of the transformers library's layout."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.core.errors import ModelError
from tutelage.core.quiet import quietly
from tutelage.models.shrunk.odd_heads import KEY, made
from tutelage.models.shrunk.pretrained import library
from tutelage.models.weights import load_weights


def open_folder(folder: str | Path, config: Any = None, *, fresh: bool = False) -> nn.Module:
    """The model that ``save_pretrained`` wrote to a folder, of the class that it was, in eval mode.

    It is needed for BERTs whose heads do not make up their hidden size, which transformers alone
    cannot open; others it opens as transformers does.

    Args:
        folder: With ``config.json`` and ``model.safetensors``.
        config: Of such a BERT, another one than the folder's: with other ``num_labels`` the last
            layer is drawn anew.
        fresh: Of such a BERT, whether all weights are drawn anew.

    Raises:
        ModelError: There is no such folder, or no model in it.
        NotInstalled: transformers is not here.
    """
    place = Path(folder)
    try:
        written = json.loads((place / "config.json").read_text(encoding="utf-8"))
        (name,) = written["architectures"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{place}: there is no config.json that names the class of a model: give a folder that "
            "save_pretrained wrote."
        ) from error
    kind: Any = getattr(library("transformers"), str(name), None)
    if kind is None:
        raise ModelError(f"{place}: transformers has no class {name!r}, which config.json names.")
    try:
        with quietly():
            if KEY not in written:
                opened: nn.Module = kind.from_pretrained(
                    place, trust_remote_code=False, use_safetensors=True
                )
                return opened
            own = kind.config_class.from_pretrained(place, trust_remote_code=False)
            model: nn.Module = made(kind, own if config is None else config)
            names = [] if fresh else load_weights(model, place / "model.safetensors", strict=False)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{place}: the model cannot be opened: {said}") from error
    missing = set(names) - set(getattr(model, "all_tied_weights_keys", {}))
    if config is not None and config.num_labels != own.num_labels:
        missing = {name for name in missing if not name.startswith("classifier.")}
    if missing:
        raise ModelError(f"{place}: the file has no {sorted(missing)[:3]}.")
    return model.eval()
