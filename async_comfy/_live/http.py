"""The REST side of one server: one small seam to aiohttp, and what its troubles mean.

Redirects are followed here and not by aiohttp, because ours must not carry credentials to another
origin. Sockets and requests never share a connection limit: the event socket is not made here.
"""

import json
import socket
import ssl as tls
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from async_comfy._live.access import Access, reachable
from async_comfy._live.courier import Courier, Declined, Garbled
from async_comfy.errors import Closed, ComfyError, Denied, NotComfyUI, NotFound, UnexpectedAnswer, Unreachable

CONNECTIONS = 64  # at once to one server; it answers one at a time anyway
CONNECT_S = 10.0  # to open a connection
ANSWER_S = 60.0  # of silence within an answer: a server that loads a model answers late
REDIRECTS = 5
CHUNK_BYTES = 1 << 20  # larger chunks stall the loop, smaller ones cost wake-ups
_SHOWN = 200  # characters of an odd answer worth showing


class Answer(NamedTuple):
    """A whole answer: HTTP status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self, what: str) -> Any:
        """The body as JSON. Raises: NotComfyUI, naming `what` was asked."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            pass
        try:
            return json.loads(self.body)  # what Python's json.dumps wrote, it reads: NaN, lone surrogates
        except (ValueError, RecursionError):
            raise _not_comfy(what, self.status, self.headers, self.body) from None

    @property
    def text(self) -> str:
        """What the body says, for a message: one line, of a JSON error its own words."""
        words = _words(self.body) or self.body[: 4 * _SHOWN].decode(errors="replace")
        return " ".join(words.split())[:_SHOWN]


class Http:
    """Requests to one server. Made and closed inside one event loop."""

    def __init__(self, access: Access, *, connections: int = CONNECTIONS) -> None:
        self.access = access
        self.requests = 0
        self._connections = connections
        self._client: aiohttp.ClientSession | None = None
        self._courier: Courier | None = None
        self._answers: set[aiohttp.ClientResponse] = set()  # that somebody reads
        self._routes: dict[str, URL] = {}

    def __repr__(self) -> str:
        return f"<Http {self.access}, {self.requests} requests>"

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=self.access.ssl or True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=ANSWER_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=self.access.proxy,
        )
        self._courier = Courier.to(
            self.access, most=self._connections, connect_s=CONNECT_S, answer_s=ANSWER_S
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._courier is not None:
            self._courier.close()
            self._courier = None
        if self._client is not None:
            client, self._client = self._client, None
            for answer in self._answers:  # aiohttp tells nobody who reads: they would wait for ever
                answer.content.set_exception(aiohttp.ClientConnectionError("closed"))
            await client.close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> Answer:
        """A GET whose answer must be 200.

        Raises: Unreachable, Denied, NotFound, NotComfyUI, UnexpectedAnswer, Closed
        """
        answer = await self.ask("GET", path, params=params)
        if answer.status != 200:
            raise unexpected("GET", path, answer)
        return answer

    async def post(self, path: str, body: Any) -> Answer:
        """A POST of JSON whose answer must be 200. Raises what `get` does."""
        answer = await self.ask("POST", path, body=msgspec.json.encode(body))
        if answer.status != 200:
            raise unexpected("POST", path, answer)
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer, whatever its status. Bytes go as JSON.

        Raises: Unreachable, Closed
        """
        if isinstance(body, bytes):
            headers = {"Content-Type": "application/json", **(headers or {})}
        try:
            response = await self._send(method, self._url(path, params), body, headers)
            with self._read(response):
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise self._unreachable(error) from error

    async def deliver(self, path: str, body: bytes) -> Answer:
        """A POST of JSON as by `ask`, the quick way where the server can be reached by it.

        Raises: Unreachable, Closed
        """
        if self._courier is None:
            return await self.ask("POST", path, body=body)
        try:
            answered = await self._courier.post(path, body)
        except Declined:
            return await self.ask("POST", path, body=body)  # which tells why
        except OSError as error:
            raise unreachable(self.access, error, sent=True) from error
        self.requests += 1
        return Answer(answered.status, CIMultiDict(answered.headers), answered.body)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request and its answer, to be read by the caller inside the block.

        Raises: Unreachable, also where the connection breaks within the block; Closed
        """
        try:
            response = await self._send(method, self._url(path, params), body, headers)
            with self._read(response):
                yield response
        except ComfyError:
            raise
        except (aiohttp.ClientError, OSError, AssertionError, RuntimeError) as error:
            if self._client is None:  # closed under our feet; aiohttp raises whatever it stumbles over then
                raise _closed() from error
            if isinstance(error, AssertionError | RuntimeError):
                raise
            raise self._unreachable(error) from error

    @contextmanager
    def _read(self, response: aiohttp.ClientResponse) -> Iterator[None]:
        self._answers.add(response)
        try:
            yield
        finally:
            self._answers.discard(response)
            response.release()

    def _url(self, path: str, params: Mapping[str, str] | None) -> URL:
        """The route's URL. Routes without parameters are few and asked often: they are kept."""
        if params:
            return self.access.http(path).with_query(params)
        url = self._routes.get(path)
        if url is None:
            url = self.access.http(path)
            if path.count("/") == 1:
                self._routes[path] = url
        return url

    async def _send(
        self, method: str, url: URL, body: Any, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        for _ in range(REDIRECTS):
            response = await self._request(method, url, body, headers)
            target = response.headers.get("Location")
            if response.status not in {301, 302, 303, 307, 308} or target is None or method != "GET":
                return response
            response.release()
            url = _redirected(url, target, response.status)
        raise UnexpectedAnswer("The server redirects without end.", status=response.status)

    async def _request(
        self, method: str, url: URL, body: Any, headers: Mapping[str, str] | None
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            raise _closed()
        own = self.access.same_origin(url)
        self.requests += 1
        return await self._client.request(
            method,
            url,
            data=body,
            headers={**(self.access.headers if own else {}), **(headers or {})},
            cookies=(self.access.cookies or None) if own else None,  # {} costs a cookie jar
            allow_redirects=False,
        )

    def _unreachable(self, error: BaseException) -> Unreachable:
        connecting = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        return unreachable(self.access, error, sent=not connecting)


def _redirected(url: URL, location: str, status: int) -> URL:
    try:
        target = url.join(URL(location))
    except ValueError:
        target = URL()
    if not reachable(target):
        raise UnexpectedAnswer(
            "The server redirects to what is no http(s) address.",
            status=status,
            hint="Mend it, or its proxy.",
        )
    return target


def _closed() -> Closed:
    return Closed("This session is not open.", hint="Use it inside `async with Session(...)`.")


def unreachable(access: Access, error: BaseException, *, sent: bool = False) -> Unreachable:
    """What a broken connection means for people. Names the address, never the credentials."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | tls.SSLCertVerificationError):
        why, hint = "its certificate is not trusted", "Pass an `ssl` context that trusts it."
    elif isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        why, hint = "no such host", "Check the address."
    elif isinstance(error, TimeoutError):
        why, hint = "no answer in time", "Is the server busy, or is the address of another network?"
    elif isinstance(error, Garbled):
        why, hint = f"its answer is broken ({error})", "Is there a proxy that changes answers?"
    elif isinstance(error, ConnectionRefusedError) or _refused(error):
        why, hint = "connection refused", "Is ComfyUI running there, and is the port right (8188)?"
    else:
        why, hint = f"the connection broke ({type(error).__name__})", "Is the server still up?"
    return Unreachable(f"Cannot reach {access}: {why}.", hint=hint, sent=sent)


def _refused(error: BaseException) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        error.os_error, ConnectionRefusedError
    )


def unexpected(method: str, path: str, answer: Answer) -> ComfyError:
    """What an answer that is not 200 means."""
    if answer.status in {401, 403}:
        return denied(answer.status)
    kind = answer.headers.get("Content-Type", "")
    if "html" in kind:
        return _not_comfy(f"{method} {path}", answer.status, answer.headers, answer.body)
    said = f": {answer.text}" if answer.text else ""
    if answer.status in {404, 405}:  # ComfyUI's static files make 405 of a POST to an unknown route
        return NotFound(f"The server has no {path}{said}.", status=answer.status, body=answer.text)
    return UnexpectedAnswer(
        f"The server answered {method} {path} with {answer.status}{said}",
        status=answer.status,
        body=answer.text,
    )


def denied(status: int) -> Denied:
    """401 or 403: for all routes and for the socket."""
    hint = (
        "Pass `bearer`, `basic`, `api_key`, `headers` or `cookies`."
        if status == 401
        else "The credentials are not enough, or the server refuses this origin."
    )
    return Denied(f"The server refused access ({status}).", status=status, hint=hint)


class _Wrong(msgspec.Struct, frozen=True):
    msg: str = ""
    loc: list[str | int] = []


class _Details(msgspec.Struct, frozen=True):
    errors: list[_Wrong] = []


class _Error(msgspec.Struct, frozen=True):
    message: str
    details: _Details | str | None = None


class _Said(msgspec.Struct, frozen=True):
    error: _Error | str


def _words(body: bytes) -> str:
    """The sentence in a JSON error of ComfyUI; empty where it is something else."""
    try:
        said = msgspec.json.decode(body, type=_Said).error
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""
    if isinstance(said, str):
        return said
    wrong = said.details.errors if isinstance(said.details, _Details) else []
    more = [f"{'.'.join(map(str, one.loc))}: {one.msg}" for one in wrong]
    return "; ".join([said.message.rstrip("."), *more]) if more else said.message


def _not_comfy(what: str, status: int, headers: Mapping[str, str], body: bytes) -> NotComfyUI:
    kind = headers.get("Content-Type", "").partition(";")[0] or "no content type"
    return NotComfyUI(
        f"What answers there is not ComfyUI: {what} gave {status} {kind}, not JSON.",
        hint="Check address and port (ComfyUI's own is 8188), and whether a login page is in the way.",
    )
