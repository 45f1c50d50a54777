"""A simulated ComfyUI: a real HTTP and WebSocket server that speaks as the recorded one does."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from aiohttp import web

from async_comfy.testing.asset_routes import AssetRoutes
from async_comfy.testing.catalog import Catalog, read_object_info
from async_comfy.testing.faults import Faults, Frame
from async_comfy.testing.file_routes import FileRoutes
from async_comfy.testing.files import Folders
from async_comfy.testing.gate import Gate, Point
from async_comfy.testing.jobs import JobRoutes
from async_comfy.testing.log_routes import LogRoutes
from async_comfy.testing.nodes import core
from async_comfy.testing.nodes.node import Node
from async_comfy.testing.nodes.played import declare, play
from async_comfy.testing.profiles import PROFILES
from async_comfy.testing.prompt_queue import PromptQueue
from async_comfy.testing.pulse import PATIENCE_S, Pulse
from async_comfy.testing.routes import Routes
from async_comfy.testing.shelf_routes import ShelfRoutes
from async_comfy.testing.sockets import FLAGS, Sockets
from async_comfy.testing.thread import in_thread
from async_comfy.testing.user_routes import UserRoutes
from async_comfy.testing.worker import Settings, Worker

Made = TypeVar("Made")

GOODBYE_S = 0.2  # how long a handler in flight may go on when the server stops; nobody reads its answer


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One HTTP request that came in. `path`: without query and /api; `json`: the body, if it was JSON."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    json: Any = None

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class Requests(Sequence[Request]):
    """The requests seen, in order of arrival. The handshakes of event sockets are not among them."""

    def __init__(self) -> None:
        self._seen: list[Request] = []

    def __getitem__(self, index: Any) -> Any:
        return self._seen[index]

    def __len__(self) -> int:
        return len(self._seen)

    def __repr__(self) -> str:
        return repr(self._seen)

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """How many were of that method and that path; None is any."""
        return sum(method in (None, seen.method) and path in (None, seen.path) for seen in list(self._seen))

    def add(self, request: Request) -> None:
        """One more came in."""
        self._seen.append(request)

    def clear(self) -> None:
        """Forgets what was seen."""
        self._seen.clear()


class SimulatedServer:
    """A ComfyUI without a GPU, for tests of whatever talks to one.

    Use it in your own event loop (``async with SimulatedServer() as server``) or in a thread of its own
    (``with SimulatedServer().in_thread() as server``). Plain methods and attributes may be used from any
    thread. `restart`, `crash`, `drop_sockets` and `until` are awaited, from any loop; a test without a loop
    writes ``server.call(server.restart())`` and `wait`.

    `port` 0 takes a free one; a restart keeps it. `profile`: "0.3.40", "0.33" or "next". `step_s`: seconds
    for one step of a sampler, `load_s`: for the first use of a model. `preview`: samplers show pictures in
    the making. `object_info`: the declarations of a real server (a mapping or a file), whose classes are
    then accepted, checked and played. `models`: file names by folder. `nodes`: node classes of your own.
    `folder`: where input, output and temp lie; without it they are removed at the end. `executions_log`: a
    file that gets the id of each prompt that is begun, a line each. `max_upload_bytes`: larger bodies are
    answered 413.

    Raises: `ValueError` for an unknown profile or a file that is no object_info.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        profile: str = "0.33",
        step_s: float = 0.0,
        load_s: float = 0.0,
        preview: bool = True,
        object_info: Mapping[str, Any] | str | Path | None = None,
        models: Mapping[str, list[str]] | None = None,
        nodes: Sequence[Node] = (),
        folder: str | Path | None = None,
        executions_log: str | Path | None = None,
        max_upload_bytes: int = 100 * 2**20,
    ) -> None:
        if profile not in PROFILES:
            raise ValueError(f"there is no profile {profile!r}; there are: {', '.join(PROFILES)}")
        self.host = host
        self.port = port
        self.profile = PROFILES[profile]
        self.settings = Settings(step_s, load_s, preview)
        self.faults = Faults()
        self.requests = Requests()
        self.executions: Counter[str] = Counter()
        self.executions_log = None if executions_log is None else Path(executions_log)
        self.flags = {**FLAGS, "max_upload_size": max_upload_bytes}
        self.lives = 0
        declared = read_object_info(object_info) if object_info is not None else {}
        own = {node.name: node for node in (*core(), *nodes)}
        files = {"input", *(models or ())}
        theirs = {
            name: declare(own[name], info, files) if name in own else play(name, info)
            for name, info in declared.items()
        }
        self.folders = Folders(None if folder is None else Path(folder))
        self.catalog = Catalog({**own, **theirs}, models or {}, self.folders)
        self.pulse = Pulse()
        self.gate = Gate(self.pulse)
        self._accepted_before = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._dying: asyncio.Task[None] | None = None
        self._begin()

    def __repr__(self) -> str:
        return f"SimulatedServer({self.url}, {self.profile.name})"

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            self.folders.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()
        self.folders.close()

    def in_thread(self) -> AbstractContextManager[Self]:
        """Runs the server in a loop and a thread of its own, for as long as the block lasts."""
        return in_thread(self, "simulated ComfyUI")

    # What a test reads

    @property
    def url(self) -> str:
        """The base URL, like ``http://127.0.0.1:8188``."""
        return f"http://{self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many event sockets were ever accepted."""
        return self._accepted_before + self.sockets.accepted

    @property
    def open_sockets(self) -> int:
        """How many event sockets are open now, deaf ones too."""
        return len(self.sockets.open)

    @property
    def queue_remaining(self) -> int:
        """How many prompts wait or run."""
        return len(self.queue)

    @property
    def running(self) -> list[str]:
        """The ids of the prompts that run (there is at most one, unless the worker died)."""
        return [prompt.prompt_id for prompt in list(self.queue.running.values())]

    @property
    def at(self) -> Point | None:
        """Where the worker stands, if it is held somewhere."""
        return self.gate.at

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry of a prompt, late or not."""
        record = self.queue.truth(prompt_id)
        return None if record is None else record.entry()

    # What a test does

    def hold(self, *points: Point) -> None:
        """The worker stops at the next of these points; by default before a prompt and in a node."""
        self.gate.hold(points or ("prompt", "node"))

    def release(self) -> None:
        """The worker goes on and is held nowhere."""
        self.gate.release()

    def advance(self, count: int = 1) -> None:
        """The worker passes `count` of the points at which it is held."""
        self.gate.advance(count)

    def interrupt(self) -> None:
        """Stops whatever runs, as POST /interrupt does."""
        if self.faults.lost_cancels > 0:
            self.faults.lost_cancels -= 1
        else:
            self.gate.interrupt()

    def free(self, *, models: bool = True, results: bool = True) -> None:
        """Forgets loaded models and cached results, as POST /free does: once what runs is through."""
        self.worker.free(models=models, results=results)

    def clear_history(self) -> None:
        """Somebody clears the history."""
        self.queue.forget()

    def deafen(self, client_id: str | None = None) -> None:
        """Open sockets (or one client's) stay open, answer pings and receive nothing more."""
        self.on_loop(self.sockets.forget, client_id)

    def inject(self, payload: str | bytes, client_id: str | None = None) -> None:
        """Sends any frame, garbage too, to everybody or one client."""
        kind = "binary:?" if isinstance(payload, bytes) else "text"
        self.on_loop(self.sockets.outbox.put_nowait, Frame(client_id, kind, None, payload))

    def say(self, kind: str, data: Mapping[str, Any], client_id: str | None = None) -> None:
        """Sends a message of any type, to everybody or one client."""
        self.inject(json.dumps({"type": kind, "data": data}), client_id)

    def log(self, text: str) -> None:
        """Writes a line to the server's log, for those who follow it."""
        self.on_loop(self.logs.write, f"{text}\n")

    async def drop_sockets(self, client_id: str | None = None) -> None:
        """Cuts the TCP of all event sockets, or of one client's; returns when they are gone."""
        await self._here(self._drop_sockets(client_id))

    async def crash(self) -> None:
        """The process dies: every connection is cut, nothing listens, queue and history are gone."""
        await self._here(self._stop())

    async def restart(self) -> None:
        """Dies, if it lives, and comes back on the same port, without queue, history, numbers, temp files."""
        await self._here(self._restart())

    async def until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Waits until `condition` holds; looked at whenever something changes. Raises: `TimeoutError`."""
        await self.pulse.until(condition, timeout_s)

    async def until_at(self, point: Point, timeout_s: float = PATIENCE_S) -> None:
        """Waits until the worker is held at `point`."""
        await self.until(lambda: self.at == point, timeout_s)

    async def until_idle(self, timeout_s: float = PATIENCE_S) -> None:
        """Waits until no prompt waits or runs and all frames are sent."""
        await self.until(lambda: not len(self.queue) and self.sockets.outbox.empty(), timeout_s)

    def wait(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """`until`, for a test without a loop. Never on the server's own loop: it would wait for itself."""
        self.pulse.wait(condition, timeout_s)

    def call(self, doing: Coroutine[Any, Any, Made], timeout_s: float = PATIENCE_S) -> Made:
        """Runs a coroutine on the server's loop, for a test without one."""
        return asyncio.run_coroutine_threadsafe(doing, self._started()).result(timeout_s)

    def on_loop(self, call: Callable[..., None], *args: Any) -> None:
        """Calls something on the server's loop, soon."""
        self._started().call_soon_threadsafe(call, *args)

    async def sockets_handler(self, request: web.Request) -> web.StreamResponse:
        """GET /ws: the sockets of the life that the server leads now."""
        return await self.sockets.handle(request)

    def begun(self, prompt_id: str) -> None:
        """The worker says that it begins a prompt."""
        self.executions[prompt_id] += 1
        if self.executions_log is not None:
            with self.executions_log.open("a") as log:
                log.write(f"{prompt_id}\n")

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("this simulated server was never started: use it in a with block")
        return self._loop

    # Lives and deaths

    def _begin(self) -> None:
        """A fresh server: what a process has in memory when it starts."""
        self.number = 0
        self.gate.interrupted = False
        self.queue = PromptQueue(self._queue_changed)
        self.sockets = Sockets(self.profile, self.flags, self.faults, self.pulse, lambda: len(self.queue))
        self.worker = Worker(self)
        self.logs = LogRoutes(self)

    async def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.lives += 1
        self.folders.clear_temp()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=GOODBYE_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._tasks = [asyncio.create_task(task) for task in (self.sockets.publish(), self.worker.work())]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._runner is not None:
            self._cut_all(self._runner.server)
            await self._runner.cleanup()
            self._runner = None
        self.worker.close()
        for end in ends:
            if isinstance(end, Exception):
                raise end  # the worker or the publisher fell: a fault of this simulator, not of the test

    async def _restart(self) -> None:
        await self._stop()
        self._accepted_before += self.sockets.accepted
        self._begin()
        await self._start()

    def _cut_all(self, server: web.Server | None) -> None:
        for connection in [] if server is None else list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()

    def died(self) -> None:
        """The worker says that the whole process would be gone now."""
        self._dying = asyncio.get_running_loop().create_task(self._stop())

    async def _drop_sockets(self, client_id: str | None) -> None:
        going = [socket for socket in self.sockets.open if client_id in (None, socket.client_id)]
        self.sockets.cut(client_id)
        await self.until(lambda: not any(socket in self.sockets.open for socket in going))

    async def _here(self, doing: Coroutine[Any, Any, None]) -> None:
        """Awaits something on the server's loop, from whatever loop we are in."""
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await doing
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(doing, self._loop))

    def _queue_changed(self) -> None:
        self.sockets.status()
        self.pulse.beat()

    # Every request passes here

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._gatekeeper], client_max_size=self.flags["max_upload_size"])
        routes, shelves = Routes(self), ShelfRoutes(self)
        table = [*routes.table(), *FileRoutes(self).table(), *shelves.table(), *UserRoutes(self).table()]
        app.add_routes(table)
        app.add_routes(
            [web.RouteDef(r.method, f"/api{r.path}", r.handler, r.kwargs) for r in table if r.path != "/"]
        )
        if self.profile.jobs:
            app.add_routes(JobRoutes(self).table())
        if self.profile.assets:
            app.add_routes(AssetRoutes(self).table())
        app.add_routes([*shelves.templates_table(), *self.logs.table()])
        app.router.add_get("/{unknown:.*}", routes.unknown)
        return app

    @property
    def _gatekeeper(self) -> Any:
        @web.middleware
        async def gatekeeper(request: web.Request, handler: Any) -> web.StreamResponse:
            if not request.path.endswith("/ws"):
                await self._note(request)
            if _foreign(request):
                return web.Response(status=403)
            try:
                return await self._answer(request, handler)
            except web.HTTPException:
                raise
            except Exception:  # noqa: BLE001 - a body that nobody expected: the real server falls over it too
                return _trouble()

        return gatekeeper

    async def _answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        fault = self.faults.strike(request)
        if fault is None:
            return await handler(request)  # type: ignore[no-any-return]  # aiohttp types handlers as Any
        await asyncio.sleep(fault.delay_s)
        answer = await handler(request) if fault.served else web.Response()
        if fault.honest:
            return answer
        if fault.answer is not None:
            return fault.answer()
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _note(self, request: web.Request) -> None:
        body = None
        if request.content_type == "application/json" and request.can_read_body:
            with contextlib.suppress(ValueError, LookupError):
                body = await request.json()
        path = request.path.removeprefix("/api") or "/"
        self.requests.add(Request(request.method, path, dict(request.query), dict(request.headers), body))
        self.pulse.beat()


def _trouble() -> web.Response:
    """500, in the words of aiohttp, which is the real server's too."""
    answer = web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")
    answer.force_close()
    return answer


def _foreign(request: web.Request) -> bool:
    """Whether a page of another origin asks a server on loopback (ComfyUI server.py, origin middleware)."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return True
    host, origin = request.headers.get("Host"), request.headers.get("Origin")
    if host is None or origin is None:
        return False
    came_from = urlsplit(origin).netloc.lower()
    return bool(came_from) and _is_loopback(host) and came_from != host.lower()


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
