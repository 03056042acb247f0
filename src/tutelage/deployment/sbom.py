"""``sbom.json``: what a shipped student needs to run, and what made it, as CycloneDX 1.6."""

import re
import uuid
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

RUNTIME = ("onnxruntime", "numpy")
"""What ``student.onnx`` needs to answer."""

MADE_WITH = ("tutelage", "torch", "onnx", "onnxscript", "safetensors")
"""What the run used, beside the first."""


def sbom(
    name: str,
    version: str,
    *,
    hashes: Mapping[str, str],
    used: Mapping[str, str],
    identity: str,
    date: str,
    properties: Mapping[str, str],
) -> dict[str, Any]:
    """The bill of materials, from the metadata of installed packages and the run's own versions.

    Packages that the model needs at run time are ``required``, those it was made with alone
    ``excluded`` (not in the package). Licences are as each package's metadata states them; one
    that states none has none here. Nothing was scanned for vulnerabilities.

    Args:
        name: Of the student.
        version: Of tutelage.
        hashes: SHA-256 of each model file.
        used: Versions that the run noted, by package: these count where another is installed now.
        identity: Of the run.
        date: ``2026-01-31``.
        properties: Of the student, such as the numbers that its weights are in.
    """
    needed = _closure(RUNTIME)
    made = {key: found for key, found in _closure(MADE_WITH).items() if key not in needed}
    components = [_component(found, used, "required") for found in needed.values()]
    components += [_component(found, used, "excluded") for found in made.values()]
    model = f"model:{name}"
    everything = {**needed, **made}
    refs = {key: _ref(found, used) for key, found in everything.items()}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity + repr(dict(hashes)))}",
        "version": 1,
        "metadata": {
            "timestamp": f"{date}T00:00:00Z",
            "tools": {
                "components": [{"type": "application", "name": "tutelage", "version": version}]
            },
            "component": {
                "type": "machine-learning-model",
                "bom-ref": model,
                "name": name,
                "version": identity,
                "components": [_file(file, digest) for file, digest in hashes.items()],
                "properties": [
                    {"name": f"tutelage:{key}", "value": value} for key, value in properties.items()
                ],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": model, "dependsOn": [refs[key] for key in RUNTIME if key in refs]},
            *(
                {"ref": refs[key], "dependsOn": [refs[o] for o in _needs(found) if o in refs]}
                for key, found in everything.items()
            ),
        ],
    }


def _file(name: str, digest: str) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": hashes}


def _component(found: Distribution, used: Mapping[str, str], scope: str) -> dict[str, Any]:
    name, version = found.metadata["Name"], _version(found, used)
    licences = _licences(found) if version == found.version else []
    return {
        "type": "library",
        "bom-ref": _ref(found, used),
        "name": name,
        "version": version,
        "purl": _ref(found, used),
        "scope": scope,
        **({"licenses": licences} if licences else {}),
    }


def _version(found: Distribution, used: Mapping[str, str]) -> str:
    return used.get(_plain(found.metadata["Name"]), found.version)


def _ref(found: Distribution, used: Mapping[str, str]) -> str:
    version = _version(found, used).replace("+", "%2B")
    return f"pkg:pypi/{_plain(found.metadata['Name'])}@{version}"


def _licences(found: Distribution) -> list[dict[str, Any]]:
    words = found.metadata.json  # `metadata` itself has no typed way to ask for what may be absent
    expression = words.get("license_expression")
    if expression:
        return [{"expression": str(expression)}]
    classified = [
        line.rpartition(" :: ")[2]
        for line in found.metadata.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    stated = str(words.get("license") or "").strip()
    names = classified or ([stated] if stated and "\n" not in stated else [])
    return [{"license": {"name": name[:200]}} for name in names]


def _closure(names: Iterable[str]) -> dict[str, Distribution]:
    """These packages and all that they need, as far as they are installed, sorted by name."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # needed on other systems, or not by what runs here
            continue
        waiting += _needs(found[name])
    return dict(sorted(found.items()))


def _needs(found: Distribution) -> list[str]:
    """Names of what a package asks for without an extra."""
    lines = [line for line in found.requires or [] if "extra ==" not in line.partition(";")[2]]
    matches = (re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line.strip()) for line in lines)
    return sorted({_plain(match[0]) for match in matches if match})


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
