"""The tokenizer of a Hugging Face model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.core.errors import DataError
from tutelage.core.quiet import quietly
from tutelage.core.registry import register
from tutelage.data.paths import existing
from tutelage.data.text.library import LibraryTokenizer, Render, needs_library


@register("tokenizer", "hf")
def hf_tokenizer(texts: Sequence[str], path: str) -> LibraryTokenizer:
    """The tokenizer of a Hugging Face model: its folder, or its name on the hub.

    Encoding adds no token of its own. Which token begins a document is what the tokenizer itself
    would put in front (none for most causal models of today), and ``end`` is what it would put
    behind, else the model's end-of-text token. Its chat template is run by transformers in its
    sandbox. No code of the folder is run.

    Args:
        texts: Not looked at.
        path: A folder with ``tokenizer.json``, or a name.

    Raises:
        DataError: There is no such tokenizer, or it is none of the fast kind.
        NotInstalled: transformers is not there.
    """
    folder = _folder(path)
    try:
        with quietly():
            from transformers import AutoTokenizer
    except (ImportError, RuntimeError) as error:
        raise needs_library(ImportError(_line(error))) from error
    options = {"trust_remote_code": False, "local_files_only": folder is not None}
    try:
        with quietly():
            found = AutoTokenizer.from_pretrained(str(folder or path), **options)
            written = found.backend_tokenizer.to_str() if found.is_fast else None
    except Exception as error:  # the library has a class of its own for every kind
        raise DataError(
            f"the tokenizer of {path!r} cannot be loaded ({_line(error)}): give a folder with "
            "tokenizer.json, or the name of a model that can be reached."
        ) from error
    if written is None:
        raise DataError(
            f"the tokenizer of {path!r} has no tokenizer.json, which alone says where tokens lie: "
            "convert it by transformers first."
        )
    name = f"hf:{path}"
    made = LibraryTokenizer(
        written,
        name,
        end=found.eos_token_id,
        padding=found.pad_token_id,
        render=_render(found, name) if found.chat_template else None,
        origin={"hf": {"path": path}},
        keep=lambda place: found.save_pretrained(str(place)),
    )
    return made


def _render(found: Any, name: str) -> Render:
    def render(messages: Sequence[tuple[str, str]], asking: bool) -> str:
        told: list[Mapping[str, str]] = [{"role": role, "content": text} for role, text in messages]
        try:
            text = found.apply_chat_template(told, tokenize=False, add_generation_prompt=asking)
        except Exception as error:  # whatever a template raises
            roles = ", ".join(role for role, _ in messages)
            raise DataError(
                f"the chat template of {name} refuses a conversation of {roles} "
                f"({_line(error)}): use template: plain, or change the roles."
            ) from error
        return str(text)

    return render


def _folder(path: str) -> Path | None:
    """The folder that is meant, or None where only a name can be."""
    if not isinstance(path, str) or not path:
        raise DataError(f"hf path is {path!r}, expected a folder or the name of a model.")
    local = Path(path).expanduser()
    looks = path.startswith((".", "/", "~")) or path.count("/") > 1
    return existing(path, "hf path") if looks or local.exists() else None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
