"""How to reach a server, and as whom. What is secret here is shown nowhere."""

import ssl as tls
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from async_comfy.errors import CallerError

CLOUD_HOST = "cloud.comfy.org"
"""Comfy Cloud: routes below /api, the key as X-API-Key, and as `token` on the socket (docs.comfy.org)."""


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

    Raises: errors.CallerError where it is no http(s) address.
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
    clean = base.with_user(None).with_query(None).with_fragment(None)
    found = Access(clean, sent, dict(cookies or {}), ssl, proxy or environment_proxy(clean))
    return replace(found, token=api_key) if found.cloud else found


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
    try:
        base = URL(text)
        host = base.host or ""
        fit = bool(host) and not any(letter.isspace() or letter in "<>^`{|}" for letter in host)
        reachable = base.scheme in {"http", "https"} and fit and base.port is not None
    except ValueError:
        reachable = False
    if not reachable:
        raise CallerError(
            "That is no address of a server.", hint="Write it as http://host:8188 or https://host/path/."
        )
    return base
