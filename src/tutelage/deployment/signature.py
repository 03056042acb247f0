"""Who vouches for a package: the signature of its manifest, and its check.

The exact bytes of ``manifest.json`` are signed, so other tools can check them too:
``openssl dgst -sha256 -mac HMAC -macopt hexkey:... manifest.json``, or, with Ed25519,
``openssl pkeyutl -verify -rawin -pubin -inkey public.pem -in manifest.json -sigfile ...``.
"""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.core.errors import NotInstalled, PackageError, RecipeError

HMAC, ED25519 = "HMAC-SHA256", "Ed25519"

_LEAST = 32  # bytes of a secret
_MOST = 65_536


def sign(content: bytes, key: Path) -> dict[str, str]:
    """The signature of some bytes.

    Args:
        content: What is signed.
        key: A file of at least 32 secret bytes, all of which are the key (HMAC-SHA256: whoever
            can check it can sign too); or an Ed25519 private key in PEM, without a password.

    Returns:
        ``algorithm``, ``key_id`` (16 hexadecimal digits that tell keys apart, and give none of
        the secret away) and ``value`` (hexadecimal).

    Raises:
        RecipeError: The file is missing, or holds no such key.
        NotInstalled: A PEM key was given without the package ``cryptography``.

    Example:
        >>> import tempfile
        >>> secret = Path(tempfile.mkdtemp()) / "secret"
        >>> _ = secret.write_bytes(bytes(range(32)))
        >>> made = sign(b"words", secret)
        >>> made["algorithm"], len(made["value"])
        ('HMAC-SHA256', 64)
        >>> check_signature(b"words", made, secret)
        'signed with HMAC-SHA256, key 83f6fa9d0cb7de42, which is the given one'
    """
    secret = _read(key)
    if _is_pem(secret):
        private = _private(secret, key)
        return {
            "algorithm": ED25519,
            "key_id": _public_id(private.public_key()),
            "value": private.sign(content).hex(),
        }
    return {"algorithm": HMAC, "key_id": _secret_id(secret), "value": _mac(secret, content)}


def check_signature(content: bytes, signature: Mapping[str, Any], key: Path) -> str:
    """What a signature is worth, in a clause.

    Args:
        content: What was signed.
        signature: As `sign` returns it; anything a stranger may have put in its place.
        key: The same secret; or the Ed25519 public key in PEM (the private one will do).

    Raises:
        PackageError: It is another's, or of other bytes.
        RecipeError: The file is missing, or holds no such key.
        NotInstalled: A PEM key was given without the package ``cryptography``.
    """
    secret = _read(key)
    pem = _is_pem(secret)
    public = _public(secret, key) if pem else None
    wanted = ED25519 if pem else HMAC
    algorithm, value = signature.get("algorithm"), signature.get("value")
    if algorithm != wanted:  # never the package's choice: it could pick the weaker one
        raise PackageError(
            f"signature.json: its algorithm is {algorithm!r:.40}, and {key} is a key of {wanted}: "
            "give the key that it was signed with."
        )
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    own = _secret_id(secret) if public is None else _public_id(public)
    good = (
        hmac.compare_digest(raw, bytes.fromhex(_mac(secret, content)))
        if public is None
        else _verifies(public, raw, content)
    )
    if not good:
        named = signature.get("key_id")
        other = f" (it names key {named!r:.40}, the given one is {own})" if named != own else ""
        raise PackageError(
            f"signature.json: the signature is not that of manifest.json under {key}{other}: the "
            "package was changed, or signed by somebody else."
        )
    return f"signed with {wanted}, key {own}, which is the given one"


def _read(key: Path) -> bytes:
    try:
        with key.open("rb") as file:
            found = file.read(_MOST + 1)
    except OSError as error:
        raise RecipeError(
            f"--key: {str(key)!r:.200} cannot be read ({error.strerror}): name a key file."
        ) from error
    if not _LEAST <= len(found) <= _MOST:
        size = f"{len(found)}" if len(found) <= _MOST else f"more than {_MOST}"
        raise RecipeError(
            f"--key: {key} holds {size} bytes, and a secret has at least {_LEAST} random ones: "
            "make one: head -c 32 /dev/urandom > NEW_FILE."
        )
    return found


def _mac(secret: bytes, content: bytes) -> str:
    return hmac.new(secret, content, hashlib.sha256).hexdigest()


def _secret_id(secret: bytes) -> str:
    return _mac(secret, b"tutelage key id")[:16]


def _is_pem(content: bytes) -> bool:
    return b"-----BEGIN " in content


def _private(content: bytes, key: Path) -> Any:
    serialization, ed25519 = _cryptography()
    try:
        found = serialization.load_pem_private_key(content, password=None)
    except Exception as error:  # the package has many kinds
        raise RecipeError(
            f"--key: {key} is no private key in PEM without a password, which signing needs: "
            f"openssl genpkey -algorithm ed25519 -out {key}"
        ) from error
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise RecipeError(f"--key: {key} holds a {type(found).__name__}: give one of Ed25519.")
    return found


def _public(content: bytes, key: Path) -> Any:
    serialization, ed25519 = _cryptography()
    if b"PRIVATE KEY" in content:
        return _private(content, key).public_key()
    try:
        found = serialization.load_pem_public_key(content)
    except Exception as error:  # as above
        raise RecipeError(f"--key: {key} is no public key in PEM: give an Ed25519 one.") from error
    if not isinstance(found, ed25519.Ed25519PublicKey):
        raise RecipeError(f"--key: {key} holds a {type(found).__name__}: give one of Ed25519.")
    return found


def _public_id(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def _verifies(public: Any, value: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(value, content)
    except InvalidSignature:
        return False
    return True


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise NotInstalled(
            'keys in PEM need cryptography: pip install "tutelage[sign]"; or give a file of 32 '
            "random bytes."
        ) from error
    return serialization, ed25519
