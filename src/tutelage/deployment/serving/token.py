"""The token that callers show: read from a file, compared in constant time."""

import hmac
from collections.abc import Iterable
from pathlib import Path

from tutelage.core.errors import RecipeError

_LEAST, _MOST = 16, 4096  # bytes


def read_token(path: Path) -> bytes:
    r"""The token in a file, without the blanks around it.

    Raises:
        RecipeError: It cannot be read, is shorter than 16 bytes, or holds blanks.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "token"
        >>> _ = file.write_text("0123456789abcdef\n")
        >>> allowed([(b"authorization", b"Bearer 0123456789abcdef")], read_token(file))
        True
    """
    try:
        with path.open("rb") as file:
            found = file.read(_MOST + 1).strip()
    except OSError as error:
        raise RecipeError(
            f"--token-file: {str(path)!r:.200} cannot be read ({error.strerror}): name a file."
        ) from error
    if not _LEAST <= len(found) <= _MOST or len(found.split()) != 1:
        raise RecipeError(
            f"--token-file: {path} must hold one word of {_LEAST} to {_MOST} bytes: "
            f"openssl rand -hex 32 > {path}"
        )
    return found


def allowed(headers: Iterable[tuple[bytes, bytes]], token: bytes) -> bool:
    """Whether ``Authorization: Bearer TOKEN`` is among the headers of a request."""
    given = b""
    for name, value in headers:
        if name == b"authorization":
            given = value
    scheme, _, shown = given.partition(b" ")
    right = hmac.compare_digest(shown.strip(), token)
    return right and scheme.lower() == b"bearer"
