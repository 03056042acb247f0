"""Where a server is, and by what key it lets one in."""

import os
from dataclasses import dataclass
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from urllib.parse import urlsplit

from tutelage.core.errors import RecipeError

_LONGEST_KEY = 4096


@dataclass(frozen=True)
class Address:
    """A server's address, taken apart.

    Attributes:
        scheme: ``http`` or ``https``.
        host: A name, or a number.
        port: As it was given, or that of the scheme.
        path: What all routes begin with: ``/v1``, unless another was given.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, so that nothing is seen by others on the way."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server (vLLM, SGLang, llama.cpp, OpenAI), and the model asked there.

    All of it is plain data that may stand in a recipe. The key is not: it is named, by an
    environment variable or a file, read when the first question is asked, sent nowhere but to this
    server, and struck out of every message.

    Attributes:
        url: Such as ``http://127.0.0.1:8000`` or ``https://api.example.com/v1``.
        model: The name that the server knows the model by.
        key_env: Name of the environment variable that holds the key.
        key_file: Path of a file that holds the key, and nothing else.
        key_in_clear: Let the key travel unencrypted to another machine.
        ca_file: PEM file of whom to trust, where the server's certificate is of a house of its
            own. Certificates are always checked.
        client_certificate: PEM file of a certificate and its key, where the server asks for one.
        timeout: Seconds that one answer may take.
        connect_timeout: Seconds until somebody must pick up.

    Raises:
        RecipeError: The address is none, holds a secret, or an option is out of range.

    Example:
        >>> server = Server("http://127.0.0.1:8000", "small")
        >>> str(server.address), server.address.loopback, server.name
        ('http://127.0.0.1:8000/v1', True, 'small at 127.0.0.1:8000')
    """

    url: str
    model: str
    key_env: str = ""
    key_file: str = ""
    key_in_clear: bool = False
    ca_file: str = ""
    client_certificate: str = ""
    timeout: float = 600.0
    connect_timeout: float = 10.0

    def __post_init__(self) -> None:
        address = self.address
        if not self.model:
            raise RecipeError(
                f"no model was named for the server at {address}: it lists what it has at "
                f"{address}/models."
            )
        if self.key_env and self.key_file:
            raise RecipeError(
                f"the key is to come from the variable {self.key_env} and from the file "
                f"{self.key_file}: name one."
            )
        if self._keyed and address.scheme == "http" and not (address.loopback or self.key_in_clear):
            raise RecipeError(
                f"the key would travel unencrypted to {address}: use https, or say "
                "key_in_clear=True where you trust everybody on the way."
            )
        for name, given in (("timeout", self.timeout), ("connect_timeout", self.connect_timeout)):
            if not (isfinite(given) and given > 0):
                raise RecipeError(f"{name} is {given}, expected seconds above 0.")

    @property
    def _keyed(self) -> bool:
        return bool(self.key_env or self.key_file)

    @property
    def name(self) -> str:
        """What messages call it."""
        address = self.address
        return f"{self.model} at {address.host}:{address.port}"

    @property
    def address(self) -> Address:
        """The address, taken apart."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.username or parts.password:
            # The address itself is not shown: it holds the secret.
            raise RecipeError(
                "the server's address holds a name or a password: leave them out, and name the "
                "key by key_env or key_file."
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise RecipeError(
                f"the server's address is {self.url!r:.200}, expected one such as "
                "http://127.0.0.1:8000/v1 or https://api.example.com/v1."
            )
        port = port or (443 if parts.scheme == "https" else 80)
        return Address(parts.scheme, parts.hostname, port, parts.path.rstrip("/") or "/v1")

    def key(self) -> str:
        """The key, read now; empty where none is named.

        Raises:
            RecipeError: It is not where it should be, or is no key.
        """
        if self.key_env:
            place, found = f"the variable {self.key_env}", os.environ.get(self.key_env, "")
        elif self.key_file:
            place, found = f"the file {self.key_file}", _first_of(Path(self.key_file))
        else:
            return ""
        found = found.strip()
        if not found:
            raise RecipeError(f"{place} holds no key for {self.name}: put it there.")
        if len(found) > _LONGEST_KEY or not (found.isascii() and found.isprintable()):
            raise RecipeError(f"what {place} holds is no key: expected one line of plain letters.")
        if len(found.split()) != 1:
            raise RecipeError(f"what {place} holds is no key: expected one word.")
        return found


def _first_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_KEY + 2).decode("utf-8", "replace")
    except OSError as error:
        raise RecipeError(
            f"the key file {str(path)!r:.200} cannot be read ({error.strerror}): name another."
        ) from error
