"""The way out: through a proxy where the environment names one, and never to this machine."""

import base64
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from tutelage.core.errors import RecipeError
from tutelage.teachers.remote.server import Address


@dataclass(frozen=True)
class Proxy:
    """Who passes on what is sent.

    Attributes:
        host: Its name.
        port: Its port.
        headers: What it asks for, as who may use it.
    """

    host: str
    port: int
    headers: tuple[tuple[str, str], ...] = ()


def proxy_for(address: Address) -> Proxy | None:
    """The proxy that the environment names for an address (``HTTPS_PROXY``, ``NO_PROXY``).

    None for this machine, whatever the environment says: a proxy elsewhere would be asked for its
    own loopback.

    Raises:
        RecipeError: What the environment names is no proxy that is spoken to by HTTP.

    Example:
        >>> proxy_for(Address("http", "127.0.0.1", 8000, "/v1")) is None
        True
    """
    if address.loopback or proxy_bypass(address.host):
        return None
    given = getproxies().get(address.scheme)
    if not given:
        return None
    parts = urlsplit(given if "://" in given else f"http://{given}")
    if parts.scheme != "http" or not parts.hostname:
        raise RecipeError(
            f"the environment names a proxy of the kind {parts.scheme!r} for {address}: expected "
            "one spoken to by http, or NO_PROXY that names this host."
        )
    headers: tuple[tuple[str, str], ...] = ()
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers = (("Proxy-Authorization", f"Basic {base64.b64encode(pair).decode()}"),)
    return Proxy(parts.hostname, parts.port or 80, headers)
