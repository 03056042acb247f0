"""Writers that a plan can name."""

from importlib import import_module
from typing import Any

from tutelage.core.errors import RecipeError
from tutelage.core.registry import register
from tutelage.core.writing import Writer


@register("writer", "openai")
def openai(
    url: str,
    model: str,
    key_env: str = "",
    key_file: str = "",
    lanes: int = 8,
    requests_per_minute: float | None = None,
    timeout: float = 600.0,
) -> Writer:
    """A model behind an OpenAI-compatible server: vLLM, SGLang, llama.cpp, or a provider.

    Args:
        url: Such as ``http://127.0.0.1:8000``.
        model: The name that the server knows it by.
        key_env: Name of the environment variable that holds the key.
        key_file: Path of a file that holds the key.
        lanes: Questions under way at once.
        requests_per_minute: None for as many as will go.
        timeout: Seconds that one answer may take.
    """
    remote = _room("tutelage.teachers.remote", "openai")
    server = remote.Server(url, model, key_env=key_env, key_file=key_file, timeout=timeout)
    limits = remote.Limits(lanes=lanes, requests_per_minute=requests_per_minute)
    made: Writer = remote.OpenAIWriter(server, limits=limits)
    return made


def _room(name: str, writer: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise
        raise RecipeError(f"writer {writer!r} is not part of this installation.") from error
