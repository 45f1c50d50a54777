"""How to reach a server, and as whom. What is secret here is shown nowhere."""

import asyncio
import re
import socket
import ssl as tls
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

from aiohappyeyeballs import start_connection
from yarl import URL

from async_comfy.errors import CallerError

CLOUD_HOST = "cloud.comfy.org"
"""Comfy Cloud: routes below /api, the key as X-API-Key, and as `token` on the socket (docs.comfy.org)."""

NEXT_ADDRESS_S = 0.25  # until a host's next address is tried beside the one that does not answer (RFC 8305)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Access:
    """One server's address and the credentials for it.

    `url`: the base, with any path prefix, without user and password. Everything secret is in fields
    that no repr shows.
    """

    url: URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    ssl: tls.SSLContext | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return str(self.url)

    def __repr__(self) -> str:
        return f"Access({str(self.url)!r})"

    @property
    def cloud(self) -> bool:
        """Whether this is Comfy Cloud and not a server of one's own."""
        return self.url.host == CLOUD_HOST

    def http(self, path: str) -> URL:
        """The URL of a route ("/prompt") below the base."""
        prefix = self.url.raw_path.rstrip("/")
        if self.cloud and not prefix:
            prefix = "/api"
        return self.url.with_path(prefix + quote(path, safe="/%"), encoded=True)

    def socket(self, client_id: str) -> str:
        """The URL of the event socket for this client id. May hold a secret: never to be shown."""
        scheme = "wss" if self.url.scheme == "https" else "ws"
        path = self.url.path.rstrip("/") + "/ws"
        query = {"clientId": client_id} | ({"token": self.token} if self.token else {})
        return str(self.url.with_scheme(scheme).with_path(path).with_query(query))

    def socket_headers(self) -> dict[str, str]:
        """The headers of the handshake: the same as of every request, and the cookies."""
        if not self.cookies:
            return dict(self.headers)
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {**self.headers, "Cookie": cookie}

    def same_origin(self, url: URL) -> bool:
        """Whether our credentials may go there."""
        mine = self.url
        return (url.scheme, url.host, url.port) == (mine.scheme, mine.host, mine.port)


def access(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    bearer: str | None = None,
    basic: tuple[str, str] | None = None,
    cookies: Mapping[str, str] | None = None,
    api_key: str | None = None,
    ssl: tls.SSLContext | None = None,
    proxy: str | None = None,
) -> Access:
    """Reads an address as people write it: "127.0.0.1:8188", "https://user:pw@host/comfy/".

    Raises: errors.CallerError where it, or the proxy's, is no http(s) address; for what no header can hold.
    """
    base = _parse(url)
    if basic is None and base.user is not None:
        basic = (base.user, base.password or "")
    sent = dict(headers or {})
    if bearer is not None:
        sent["Authorization"] = f"Bearer {bearer}"
    elif basic is not None:
        sent["Authorization"] = "Basic " + b64encode(":".join(basic).encode()).decode()
    if api_key is not None:
        sent["X-API-Key"] = api_key
    for name, value in sent.items():
        _check(f"header {name!r}", name, value)
    for name, value in (cookies or {}).items():
        _check(f"cookie {name!r}", name, value)
    clean = base.with_user(None).with_query(None).with_fragment(None)
    proxy = proxy or environment_proxy(clean)
    if proxy is not None and not reachable(_read(proxy)):
        raise CallerError("That is no address of a proxy.", hint="Write it as http://host:3128.")
    found = Access(clean, sent, dict(cookies or {}), ssl, proxy)
    return replace(found, token=api_key) if found.cloud else found


async def way_to(url: URL) -> dict[str, Any]:
    """How a loop's `create_connection` gets there; connected already where the host is a name.

    Of a name's addresses the first that answers is taken. Asyncio by itself tries one after the other, each
    for as long as the system likes: a dead IPv6 before a good IPv4 would take minutes.

    Raises: OSError
    """
    host, port = url.raw_host or "", url.port or 80
    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)  # asks nobody
    except socket.gaierror:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return {"sock": await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_S)}
    return {"host": host, "port": port}


def environment_proxy(url: URL) -> str | None:
    """The http(s) proxy that the environment names for this address, None for a direct way.

    Asked once for a session: asked per request it costs more than the request.
    """
    if proxy_bypass(url.host or ""):
        return None
    named = getproxies()
    proxy = named.get(url.scheme) or named.get("all")
    return proxy if proxy and proxy.startswith("http") else None


def _parse(url: str) -> URL:
    text = url.strip()
    if "://" not in text:
        text = f"http://{text}"
    base = _read(text)
    if not reachable(base):
        raise CallerError(
            "That is no address of a server.", hint="Write it as http://host:8188 or https://host/path/."
        )
    return base


def _read(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        return URL()


def reachable(url: URL) -> bool:
    """Whether it is an http(s) address with a host that can be looked up."""
    try:
        host = url.host or ""
        (url.raw_host or "").encode("idna")  # as the resolver does: a label can be too long for it
        fit = bool(host) and not any(letter.isspace() or letter in "<>^`{|}" for letter in host)
        return url.scheme in {"http", "https"} and fit and url.port is not None
    except ValueError:
        return False


def _check(what: str, name: object, value: object) -> None:
    """Raises: CallerError, which shows no value: it may be a secret."""
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise CallerError(f"The {what} has a name that HTTP does not know.", hint="Use letters and dashes.")
    if not isinstance(value, str):
        raise CallerError(f"The {what} is no text but {type(value).__name__}.", hint="Give it a string.")
    if not _VALUE.fullmatch(value):
        raise CallerError(
            f"The {what} holds what HTTP cannot send, such as a line break.",
            hint="Strip it: what is read from a file often ends with a line break.",
        )
