"""What can be made to go wrong, by a switch each. All switches may be thrown from any thread."""

import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

LOGIN_PAGE = (
    "<!doctype html><html><head><title>Sign in</title></head><body><form>Sign in</form></body></html>"
)


@dataclass(slots=True)
class Frame:
    """One message on its way to the sockets.

    `to`: a client id, or None for everybody. `kind`: the type of a text frame, or "binary:N". `data`: the
    data of a text frame. `payload`: what goes over the wire. `index`: how many frames went to that client
    before this one (the greeting is not counted), since the faults were last cleared.
    """

    to: str | None
    kind: str
    data: Mapping[str, Any] | None
    payload: str | bytes
    index: int = -1

    @property
    def prompt_id(self) -> str | None:
        """The prompt that the frame names, or None."""
        return self.data.get("prompt_id") if self.data is not None else None


FrameMatch = int | str | Collection[int] | Callable[[Frame], bool]
"""Which frames: an index, a kind ("progress", "binary:4"), several indices, or a predicate."""

RequestMatch = tuple[str, str] | Callable[[web.BaseRequest], bool]
"""Which requests: (method, path without /api), or a predicate."""


@dataclass(slots=True)
class FrameFault:
    """What happens to frames that match: "drop", "duplicate", or "delay" behind `behind` later ones."""

    what: Literal["drop", "duplicate", "delay"]
    match: FrameMatch
    times: float = float("inf")
    behind: Callable[[], int] = lambda: 1

    def takes(self, frame: Frame) -> bool:
        """Whether this fault strikes that frame; counts down `times`."""
        if self.times < 1 or not _matches(self.match, frame):
            return False
        self.times -= 1
        return True


@dataclass(slots=True)
class RequestFault:
    """What happens to requests that match.

    `served`: whether the server really does what was asked, before the answer goes wrong. `answer`: what is
    said instead, or None: the connection is cut. `delay_s`: how long the answer waits.
    """

    match: RequestMatch
    served: bool
    answer: Callable[[], web.Response] | None
    times: float = 1
    delay_s: float = 0.0
    honest: bool = False

    def takes(self, request: web.BaseRequest) -> bool:
        """Whether this fault strikes that request; counts down `times`."""
        if self.times < 1 or not _asks(self.match, request):
            return False
        self.times -= 1
        return True


@dataclass
class Faults:
    """The switches of one simulated server. Fields are set, methods add; `clear` puts all back.

    `deaf`: sockets that connect from now on are forgotten at once: open, answering pings, receiving
    nothing (`SimulatedServer.deafen` does it to those that are open). `history_late_s`: a finished prompt
    shows up in /history only so many seconds after its end; `inf` is never. `lost_cancels`: so many cancels
    of a running prompt say true and do nothing. `ignores_interrupts`: no running prompt can be stopped.
    `dead_worker`: the worker dies of the next prompt: it stays "running" for ever, nothing else starts.
    `stalled_publisher`: no frame is sent to anybody, they pile up; sockets answer pings all the same.
    """

    deaf: bool = False
    history_late_s: float = 0.0
    lost_cancels: int = 0
    ignores_interrupts: bool = False
    dead_worker: bool = False
    stalled_publisher: bool = False
    _frames: list[FrameFault] = field(default_factory=list, repr=False)
    _requests: list[RequestFault] = field(default_factory=list, repr=False)
    _seen: dict[str, int] = field(default_factory=dict, repr=False)
    _waiting: list[tuple[str, int, str | bytes]] = field(default_factory=list, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def clear(self) -> None:
        """All is well again, and frames are counted from 0."""
        with self._lock:
            self.deaf = self.ignores_interrupts = self.dead_worker = self.stalled_publisher = False
            self.history_late_s, self.lost_cancels = 0.0, 0
            for kept in (self._frames, self._requests, self._seen, self._waiting):
                kept.clear()

    def drop(self, match: FrameMatch, times: float = float("inf")) -> None:
        """Frames that match are never sent."""
        self._add(FrameFault("drop", match, times))

    def duplicate(self, match: FrameMatch, times: float = float("inf")) -> None:
        """Frames that match are sent twice."""
        self._add(FrameFault("duplicate", match, times))

    def delay(self, match: FrameMatch, behind: int = 1, times: float = float("inf")) -> None:
        """Frames that match are sent after `behind` later ones, or when there is nothing more to send."""
        self._add(FrameFault("delay", match, times, lambda: behind))

    def reorder(self, window: int = 5, seed: int = 0) -> None:
        """Every frame may slip behind up to `window` - 1 later ones; the same `seed`, the same order."""
        choice = random.Random(seed)  # noqa: S311 - an order of frames, no secret
        self._add(FrameFault("delay", lambda frame: True, behind=lambda: choice.randrange(window)))

    def answer(
        self,
        match: RequestMatch,
        status: int,
        body: str | bytes | Mapping[str, Any] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        served: bool = False,
        times: float = 1,
    ) -> None:
        """Requests that match get this answer. `served`: the server first does what was asked, in secret."""
        self._requests.append(RequestFault(match, served, lambda: _response(status, body, headers), times))

    def cut(self, match: RequestMatch, *, served: bool = True, times: float = 1) -> None:
        """The connection ends in place of the answer; `served`: after the server did what was asked."""
        self._requests.append(RequestFault(match, served, None, times))

    def slow(self, match: RequestMatch, delay_s: float, times: float = float("inf")) -> None:
        """The right answer comes `delay_s` late."""
        self._requests.append(RequestFault(match, True, None, times, delay_s, honest=True))

    def refuse_prompts(self, status: int = 503, retry_after: str | None = None, times: float = 1) -> None:
        """POST /prompt is refused (429, 503), nothing is queued; `retry_after` goes out verbatim."""
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        self.answer(("POST", "/prompt"), status, "try later", headers=headers, times=times)

    def fail_but_queue(self, times: float = 1) -> None:
        """POST /prompt says 500, and the prompt runs all the same."""
        self.answer(("POST", "/prompt"), 500, "500 Internal Server Error", served=True, times=times)

    def cut_after_queueing(self, times: float = 1) -> None:
        """The connection of POST /prompt ends without an answer, and the prompt runs all the same."""
        self.cut(("POST", "/prompt"), times=times)

    def demand_login(self, status: int = 200, times: float = float("inf")) -> None:
        """Everything, the event socket too, is answered with an HTML page, as some proxy would."""
        self.answer(
            lambda request: True, status, LOGIN_PAGE, headers={"Content-Type": "text/html"}, times=times
        )

    def deny(self, status: int = 401, times: float = float("inf")) -> None:
        """Everything, the event socket too, is answered 401 or 403."""
        self.answer(lambda request: True, status, {"error": "not allowed"}, times=times)

    def strike(self, request: web.BaseRequest) -> RequestFault | None:
        """The fault for this request, if there is one. The server asks; the first that matches counts."""
        with self._lock:
            return next((fault for fault in self._requests if fault.takes(request)), None)

    def pass_on(self, client_id: str, frame: Frame) -> Iterator[str | bytes]:
        """What goes to this client in place of `frame`. The server asks once for each delivery."""
        with self._lock:
            index = self._seen.get(client_id, 0)
            self._seen[client_id] = index + 1
            if not self._frames and not self._waiting:
                return iter((frame.payload,))
            mine = Frame(frame.to, frame.kind, frame.data, frame.payload, index)
            return iter(self._strike(client_id, mine))

    def held_back(self) -> list[tuple[str, str | bytes]]:
        """Delayed frames that wait for later ones when there are none left: they go now."""
        with self._lock:
            waiting, self._waiting[:] = self._waiting[:], []
        return [(client_id, payload) for client_id, _, payload in waiting]

    def _add(self, fault: FrameFault) -> None:
        with self._lock:
            self._frames.append(fault)

    def _strike(self, client_id: str, frame: Frame) -> list[str | bytes]:
        fault = next((fault for fault in self._frames if fault.takes(frame)), None)
        out: list[str | bytes] = [frame.payload]
        if fault is not None and fault.what == "drop":
            out = []
        elif fault is not None and fault.what == "duplicate":
            out *= 2
        elif fault is not None and (behind := fault.behind()) > 0:
            self._waiting.append((client_id, frame.index + behind, frame.payload))
            out = []
        due = [item for item in self._waiting if item[0] == client_id and item[1] <= frame.index]
        for item in due:
            self._waiting.remove(item)
            out.append(item[2])
        return out


def _matches(match: FrameMatch, frame: Frame) -> bool:
    if isinstance(match, int):
        return frame.index == match
    if isinstance(match, str):
        return frame.kind == match
    return match(frame) if callable(match) else frame.index in match


def _asks(match: RequestMatch, request: web.BaseRequest) -> bool:
    if callable(match):
        return match(request)
    method, path = match
    return request.method == method and request.path.removeprefix("/api") == path


def _response(
    status: int, body: str | bytes | Mapping[str, Any], headers: Mapping[str, str] | None
) -> web.Response:
    if isinstance(body, Mapping):
        return web.json_response(body, status=status, headers=headers)
    if isinstance(body, str) and not any(name.lower() == "content-type" for name in headers or {}):
        return web.Response(text=body, status=status, headers=headers)
    raw = body if isinstance(body, bytes) else body.encode()
    return web.Response(body=raw, status=status, headers=headers)
