"""Writers that a plan can name."""

from tutelage.core.registry import register
from tutelage.core.writing import Writer
from tutelage.data.text import hf_tokenizer
from tutelage.models import Frozen, Observed, build_model
from tutelage.synthesis.local_writer import LocalWriter
from tutelage.teachers.remote import Limits, OpenAIWriter, Server


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
    server = Server(url, model, key_env=key_env, key_file=key_file, timeout=timeout)
    limits = Limits(lanes=lanes, requests_per_minute=requests_per_minute)
    return OpenAIWriter(server, limits=limits)


@register("writer", "local")
def local(model: str, batch_size: int = 8, seed: int = 0, dtype: str = "float32") -> Writer:
    """A causal model that lies here, in Hugging Face's layout with its own tokenizer.

    Args:
        model: Its folder, or its name on the hub.
        batch_size: Requests answered together.
        seed: Of requests that bring none.
        dtype: Of its weights: ``float32`` or ``bfloat16``.
    """
    tokenizer = hf_tokenizer([], model)
    spec = {f"hf:{model}": {"task": "causal-lm", "dtype": dtype}}
    observed = Observed(build_model(spec, classes=tokenizer.size, shape=(1,)))
    return LocalWriter(Frozen(observed), tokenizer, batch_size=batch_size, seed=seed, name=model)
