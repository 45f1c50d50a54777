"""The steps from an address to the first event, each tried alone, in the order in which they depend."""

import asyncio
import json
import socket
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from async_comfy import CallerError, ComfyError
from async_comfy.cli import exits
from async_comfy.cli.profile_file import misspelt
from async_comfy.cli.server import Server

PATIENCE_S = 10.0  # for each step; who waits longer gives up
SKEW_S = 30.0  # a clock further off makes tokens and certificates invalid
OLDEST = (0, 3, 40)  # the oldest server that this library was tried against
CLOUD_HOST = "cloud.comfy.org"  # Comfy Cloud: routes below /api, the event socket beside it (docs.comfy.org)
ELSEWHERE = "http://elsewhere.invalid"  # a name that no web page can have (RFC 2606)
_DEFAULT_PORT = "ComfyUI's own port is 8188."


@dataclass(frozen=True, slots=True)
class Finding:
    """What one step found; `code` is 0 where all is well, else the exit code that it leads to."""

    step: str
    found: str
    hint: str = ""
    code: int = exits.DONE

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {"step": self.step, "ok": not self.code, "found": self.found, "hint": self.hint}


class Trouble(Exception):
    """A step failed: what was found, what to do, and the exit code."""

    def __init__(self, found: str, hint: str, code: int = exits.UNREACHABLE) -> None:
        super().__init__(found)
        self.found, self.hint, self.code = found, hint, code


@dataclass(slots=True)
class Case:
    """One server under examination, and what is known of it so far."""

    server: Server
    client: aiohttp.ClientSession
    url: URL
    proxy: URL | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def next(self) -> URL:
        """Who is connected to: the proxy where there is one."""
        return self.proxy or self.url

    @property
    def origin(self) -> str | None:
        """The Origin that the user gives; programs send none."""
        given = (value for name, value in self.server.headers.items() if name.lower() == "origin")
        return next(given, None)

    @property
    def credentials(self) -> dict[str, str]:
        """The headers that say who we are; a user and a password are in the URL."""
        given = dict(self.server.headers)
        if self.server.bearer:
            given["Authorization"] = f"Bearer {self.server.bearer}"
        if self.server.api_key:
            given["X-API-Key"] = self.server.api_key
        return given

    def route(self, path: str, *, prefix: str = "") -> URL:
        """A route below the server's path prefix, and one more that is tried."""
        url = self.url.with_user(None) if "Authorization" in self.credentials else self.url
        before = url.path.rstrip("/")
        if url.host == CLOUD_HOST and not before and path != "/ws":
            before = "/api"
        return url.with_path(before + prefix + path)


async def examine(server: Server) -> AsyncIterator[Finding]:
    """Step by step, until one fails that the next ones need."""
    try:
        url = _address(server)
    except CallerError as error:
        yield Finding("address", error.message, error.hint, exits.USAGE)
        return
    yield Finding("address", *_told(url))
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(trust_env=True, timeout=timeout) as client:
        case = Case(server, client, url)
        for step, needed, work in STEPS:
            finding = await _try(step, work(case))
            yield finding
            if finding.code and needed:
                return


def _address(server: Server) -> URL:
    """Raises: CallerError where the library would."""
    server.session()
    text = server.url.strip()
    return URL(text if "://" in text else f"http://{text}").with_query(None).with_fragment(None)


def _told(url: URL) -> tuple[str, str]:
    """The address without its password, and what is odd about it."""
    shown, path = str(url.with_user(None)), url.path.rstrip("/")
    if url.host == CLOUD_HOST:
        hint = f"Leave {path} out: it is put in where it belongs." if path else ""
        return f"{shown}, Comfy Cloud: its routes are below /api, its event socket is not", hint
    if path.endswith("/api"):
        without = url.with_user(None).with_path(path.removesuffix("/api") or "/")
        return shown, f"Leave /api out, unless a proxy serves nothing else: {without}"
    return shown, ""


async def _try(step: str, work: Awaitable[str]) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE_S):
            return Finding(step, await work)
    except Trouble as trouble:
        return Finding(step, trouble.found, trouble.hint, trouble.code)
    except TimeoutError:
        hint = "Is the address of another network, or does a firewall swallow it?"
        return Finding(step, f"no answer within {PATIENCE_S:g} s", hint, exits.UNREACHABLE)
    except (aiohttp.ClientError, OSError) as error:
        return Finding(step, _reason(error), "Is the server still up?", exits.UNREACHABLE)
    except ComfyError as error:
        return Finding(step, error.message, exits.hint(error), exits.code(error))


def _reason(error: Exception) -> str:
    said = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {said}" if said else f"the connection broke ({type(error).__name__})"


async def _proxy(case: Case) -> str:
    """Which way it goes; the environment decides."""
    named = getproxies()
    proxy = named.get(case.url.scheme) or named.get("all")
    if not proxy or proxy_bypass(case.url.host or ""):
        return "none, the direct way"
    with suppress(ValueError):
        case.proxy = URL(proxy if "://" in proxy else f"http://{proxy}")
    if case.proxy is None or case.proxy.host is None or case.proxy.port is None:
        raise Trouble("the environment names a proxy that is no address", "Check HTTP_PROXY and HTTPS_PROXY.")
    return f"{case.proxy.origin()}, as the environment says; NO_PROXY={case.url.host} would go without"


async def _name(case: Case) -> str:
    host = str(case.next.host)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, case.next.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            hint = "Is this machine on the network? Its resolver: /etc/resolv.conf."
            raise Trouble(f"no name server says who {host} is", hint) from None
        raise Trouble(
            f"no such host: {host}",
            misspelt(case.server.url) or "Check the name, or write the number of its address.",
        ) from None
    return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))


async def _connection(case: Case) -> str:
    port = case.next.port
    try:
        _, writer = await asyncio.open_connection(case.next.host, port)
    except ConnectionRefusedError:
        who = "the proxy" if case.proxy is not None else "ComfyUI"
        raise Trouble(
            f"port {port} refuses connections",
            f"Is {who} running there? For other machines ComfyUI needs --listen. {_DEFAULT_PORT}",
        ) from None
    except OSError as error:
        hint = "Is the address of another network, or does a firewall stand before it?"
        raise Trouble(f"port {port} cannot be reached: {_reason(error)}", hint) from None
    writer.close()
    return f"port {port} is open"


async def _certificate(case: Case) -> str:
    if case.url.scheme != "https":
        return "none, http is not encrypted"
    if case.proxy is not None:
        return "behind the proxy; the next step sees it"
    try:
        _, writer = await asyncio.open_connection(
            case.url.host, case.url.port, ssl=ssl.create_default_context()
        )
    except ssl.SSLCertVerificationError as error:
        raise _untrusted(error) from None
    except ssl.SSLError:
        raise Trouble("what answers there speaks no TLS", "Write http:// instead of https://.") from None
    version = writer.get_extra_info("ssl_object").version()
    writer.close()
    return f"trusted, {version}"


def _untrusted(error: ssl.SSLCertVerificationError) -> Trouble:
    hint = "Trust its authority with SSL_CERT_FILE=ca.pem, or use the name that it is made out to."
    return Trouble(f"the certificate is not trusted: {error.verify_message}", hint)


async def _http(case: Case) -> str:
    try:
        answer = await _get(case, "/system_stats")
    except aiohttp.ClientConnectorCertificateError as error:  # of what is behind a proxy
        if isinstance(error.certificate_error, ssl.SSLCertVerificationError):
            raise _untrusted(error.certificate_error) from None
        raise
    except aiohttp.ClientHttpProxyError as error:
        hint = "Check HTTPS_PROXY, with user and password where it wants them; or set NO_PROXY."
        raise Trouble(f"the proxy does not let through ({error.status})", hint) from None
    except (aiohttp.ClientResponseError, aiohttp.ServerDisconnectedError):
        raise Trouble("what answers there speaks no HTTP", f"Is it https://? {_DEFAULT_PORT}") from None
    status, case.headers, body = answer
    if status == 403 and case.origin is not None:
        hint = "Leave that --header out, or start the server with --enable-cors-header."
        raise Trouble(f"the server refuses the Origin {case.origin} (403)", hint, exits.REFUSED)
    if status in {401, 403, 407}:
        who = "the proxy" if status == 407 else "the server"
        raise Trouble(f"{who} refuses access ({status})", exits.CREDENTIALS, exits.REFUSED)
    if status in {502, 503, 504}:
        raise Trouble(
            f"a proxy answers {status}", "The ComfyUI behind it is down, or it looks at a wrong port."
        )
    if 300 <= status < 400:
        raise Trouble(
            f"it redirects to {_target(case)}", "Use that address, or log in by the means that it wants."
        )
    with suppress(ValueError, TypeError, KeyError):
        case.stats = json.loads(body)["system"]
    if status != 200 or not isinstance(case.stats, dict) or not case.stats:
        await _look_below_api(case)
        kind = case.headers.get("Content-Type", "no content type").partition(";")[0]
        hint = f"Is a login page in the way, or a path missing? {_DEFAULT_PORT}"
        raise Trouble(f"not ComfyUI: GET /system_stats gave {status} {kind}", hint)
    return f"GET /system_stats gave {status}"


async def _look_below_api(case: Case) -> None:
    """Raises: Trouble where ComfyUI is there."""
    status, _, body = await _get(case, "/system_stats", prefix="/api")
    with suppress(ValueError, TypeError, KeyError):
        if status == 200 and json.loads(body)["system"]:
            url = case.url.with_user(None).with_path(case.url.path.rstrip("/") + "/api")
            hint = f"Let it pass on everything, /ws above all; or try --server {url}"
            raise Trouble("a proxy serves ComfyUI below /api alone", hint)


def _target(case: Case) -> str:
    """Where a redirect leads, without what may be secret."""
    try:
        to = case.route("/system_stats").join(URL(case.headers.get("Location", "")))
        return str(to.with_user(None).with_query(None))
    except ValueError:
        return "what is no address"


async def _get(
    case: Case, path: str, *, prefix: str = "", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    given, url = {**case.credentials, **headers}, case.route(path, prefix=prefix)
    async with case.client.get(url, headers=given, allow_redirects=False) as response:
        return response.status, response.headers, await response.read()


async def _version(case: Case) -> str:
    said = str(case.stats.get("comfyui_version") or "")
    parts = said.lstrip("v").split("-")[0].split(".")
    if all(part.isdigit() for part in parts) and tuple(map(int, parts)) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Trouble(f"ComfyUI {said}", f"Update it: nobody tried one before {oldest}.", exits.FAILED)
    return f"ComfyUI {said}" if said else "ComfyUI, which does not say its version"


async def _clock(case: Case) -> str:
    try:
        there = parsedate_to_datetime(case.headers["Date"])
        skew_s = (there - datetime.now(UTC)).total_seconds()
    except (KeyError, ValueError, TypeError):
        return "the server does not say its time"
    if abs(skew_s) > SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        hint = "Set both clocks by NTP: tokens and certificates go by them."
        raise Trouble(f"the server is {abs(skew_s):.0f} s {way} this machine", hint, exits.FAILED)
    return "the same as here"  # the header has whole seconds


async def _origin(case: Case) -> str:
    """What a browser would be told. We send no Origin, unless the user gives one."""
    if case.origin is not None:
        return "sent as given with --header"
    status, headers, _ = await _get(case, "/system_stats", Origin=ELSEWHERE)
    if status == 403:
        return "web pages from elsewhere are refused, as is usual; programs are not asked"
    if headers.get("Access-Control-Allow-Origin"):
        return "any web page may drive this server (--enable-cors-header); programs are not asked"
    return "not looked at; programs send none"


async def _upgrade(case: Case) -> str:
    url = case.route("/ws").with_query(clientId=str(uuid.uuid4()))
    if case.url.host == CLOUD_HOST and case.server.api_key:
        url = url.update_query(token=case.server.api_key)
    hint = "A proxy in between must pass on the headers Upgrade and Connection, for /ws at least."
    try:
        async with case.client.ws_connect(url, headers=case.credentials) as events:
            first = await _first(events)
    except aiohttp.WSServerHandshakeError as error:
        if error.status in {401, 403}:
            raise Trouble(f"refused ({error.status})", exits.CREDENTIALS, exits.REFUSED) from None
        raise Trouble(f"the event socket does not open: /ws gave {error.status}", hint) from None
    except aiohttp.ClientError:
        raise Trouble("the event socket does not open: /ws ends the connection", hint) from None
    with suppress(ValueError, TypeError, KeyError):
        if json.loads(first.data)["type"] == "status":
            return "the event socket opens and tells the queue's status"
    raise Trouble("the event socket opens, but says nothing that ComfyUI would", "Check address and proxy.")


async def _first(events: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
    """Raises: Trouble where nothing arrives."""
    try:
        async with asyncio.timeout(PATIENCE_S / 2):
            return await events.receive()
    except TimeoutError:
        hint = "A proxy in between must not hold back what the server sends: no buffering for /ws."
        raise Trouble("the event socket opens, but nothing arrives", hint) from None


async def _session(case: Case) -> str:
    async with case.server.session() as session:
        remaining = await session.queue.remaining()
    return f"this library is connected; the queue has {remaining} to do"


STEPS: tuple[tuple[str, bool, Callable[[Case], Awaitable[str]]], ...] = (
    ("proxy", True, _proxy),
    ("name", True, _name),
    ("connection", True, _connection),
    ("TLS", True, _certificate),
    ("HTTP", True, _http),
    ("version", False, _version),
    ("clock", False, _clock),
    ("origin", False, _origin),
    ("events", True, _upgrade),
    ("session", True, _session),
)
"""Name, whether the later ones need it, and what does it."""
