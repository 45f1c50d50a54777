"""A ComfyUI and the network before it as a model: no sockets, all faults, virtual time, one seed.

It stands where aiohttp and websockets would: everything of the session above them is the real thing.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from websockets.protocol import State

from async_comfy._live.access import Access
from async_comfy._live.http import Answer, Http
from async_comfy.errors import Unreachable

CLOSE_S = 1.0  # as websockets is told to wait for a goodbye


@dataclass
class Task:
    """One prompt and its fate. `end`: "completed", "failed", "cancelled", "removed", "vanished"."""

    id: str
    client_id: str
    prompt: Mapping[str, Any]
    runs_s: float
    runs: int = 0
    end: str | None = None
    ended_at: float = 0.0
    shown_at: float = float("inf")
    messages: list[Any] = field(default_factory=list)

    @property
    def nonce(self) -> str:
        """The name of the picture that only this prompt makes."""
        return f"{self.prompt['2']['inputs']['filename_prefix']}_1_.png"

    @property
    def outputs(self) -> dict[str, Any]:
        images = [{"filename": self.nonce, "subfolder": "", "type": "output"}]
        return {"2": {"images": images}} if self.end == "completed" else {}

    def entry(self) -> dict[str, Any]:
        good = self.end == "completed"
        status = {"status_str": "success" if good else "error", "completed": good, "messages": self.messages}
        return {"prompt": [0, self.id, {}, {}, []], "outputs": self.outputs, "status": status}


class Wire:
    """A WebSocket as the session's link sees it, and as the server sees it."""

    def __init__(self, world: "World", client_id: str, reader: Any, on_lost: Callable[[], None]) -> None:
        self.world, self.client_id, self.reader, self.on_lost = world, client_id, reader, on_lost
        self.protocol = self
        self.transport = self
        self.state = State.OPEN
        self.close_rcvd: object = None
        self.quiet = False
        self.dead = False  # nothing passes any more, and nobody is told
        self.ended = False  # the server knows that it is over

    def carry(self, raw: bytes) -> None:
        """From the server: arrives a little later, in order."""
        asyncio.get_running_loop().call_later(self.world.latency_s, self._arrive, raw)

    def _arrive(self, raw: bytes) -> None:
        if self.state is State.OPEN and not self.dead:
            self.quiet = False
            self.reader.take_text(raw, time.monotonic())

    def check_refusal(self) -> None:
        """It knows everybody."""

    async def ask_pulse(self) -> None:
        if not self.dead:
            asyncio.get_running_loop().call_later(2 * self.world.latency_s, self._pong)

    async def answers(self) -> bool:
        pong = asyncio.Event()
        if not self.dead:
            asyncio.get_running_loop().call_later(2 * self.world.latency_s, pong.set)
        while not pong.is_set() and self.state is State.OPEN:
            await asyncio.sleep(self.world.latency_s)
        return pong.is_set()

    def _pong(self) -> None:
        self.quiet = False

    def abort(self) -> None:
        """Our end is gone at once; the server learns it if anything passes."""
        self._lose()
        if not self.dead:
            self.world.end(self)

    async def close(self) -> None:
        """A goodbye; answered unless the way is dead."""
        if self.state is State.CLOSED:
            return
        await asyncio.sleep(CLOSE_S if self.dead else 2 * self.world.latency_s)
        if not self.dead and self.state is State.OPEN:
            self.close_rcvd = object()
            self.world.end(self)
        self._lose()

    def break_off(self, *, server_knows: bool) -> None:
        """The network ends it; a server that is not told keeps it."""
        self._lose()
        if server_knows:
            self.world.end(self)

    def _lose(self) -> None:
        if self.state is State.OPEN:
            self.state = State.CLOSED
            self.on_lost()


class World:
    """One server with its queue and history, its sockets, and everything that goes wrong."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.latency_s = chance.choice([0.0005, 0.005, 0.05])
        self.history_late_s = chance.choice([0.0, 0.0, 0.05, 0.5, 5.0])
        self.trouble = 0.3  # how likely a request goes wrong
        self.down = False
        self.life = 0
        self.tasks: dict[str, Task] = {}
        self.executions: Counter[str] = Counter()
        self.pending: list[Task] = []
        self.running: Task | None = None
        self.interrupted = asyncio.Event()
        self.known: dict[str, Wire] = {}
        self.wires: list[Wire] = []
        self.filled = asyncio.Event()
        self.faults: Counter[str] = Counter()
        self.quiet_since = 0.0
        self._worker = asyncio.create_task(self._work())

    # The event sockets

    async def open_stream(
        self,
        access: Access,
        client_id: str,
        hellos: Sequence[bytes],
        reader: Any,
        on_lost: Callable[[], None],
        *,
        compress: bool = False,
    ) -> Wire:
        """In place of the WebSocket's."""
        await asyncio.sleep(2 * self.latency_s)
        if self.down:
            raise Unreachable("refused")
        wire = Wire(self, client_id, reader, on_lost)
        self.wires.append(wire)
        self.known[client_id] = wire
        wire.carry(self._status(sid=client_id))
        return wire

    def end(self, wire: Wire) -> None:
        """The server notices: it forgets whoever is known by that id, also a newer one."""
        if not wire.ended:
            wire.ended = True
            self.known.pop(wire.client_id, None)

    def say(self, kind: str, task: Task, **data: Any) -> None:
        """An event of a prompt, to its client."""
        wire = self.known.get(task.client_id)
        if wire is not None:
            wire.carry(json.dumps({"type": kind, "data": {**data, "prompt_id": task.id}}).encode())

    def broadcast(self) -> None:
        """The queue changed."""
        for wire in list(self.known.values()):
            wire.carry(self._status())

    def _status(self, **more: str) -> bytes:
        remaining = len(self.pending) + (self.running is not None)
        data = {"status": {"exec_info": {"queue_remaining": remaining}}, **more}
        return json.dumps({"type": "status", "data": data}).encode()

    # What goes wrong by itself

    def strike(self, fault: str) -> None:
        """One of the faults, now."""
        self.faults[fault] += 1
        wires = [wire for wire in self.wires if wire.state is State.OPEN and not wire.dead]
        self.quiet_since = asyncio.get_running_loop().time()
        if fault == "drop":
            for wire in wires:
                wire.break_off(server_knows=True)
        elif fault == "half open":
            for wire in wires:
                wire.break_off(server_knows=False)
                asyncio.get_running_loop().call_later(self.chance.uniform(0.1, 20), self._end_late, wire)
        elif fault == "black hole":
            for wire in wires:
                wire.dead = True
                asyncio.get_running_loop().call_later(self.chance.uniform(0.1, 120), self._end_late, wire)
        elif fault == "deaf":
            self.known.clear()
        elif fault == "clear history":
            for task in self.tasks.values():
                task.shown_at = float("inf")
        elif fault == "clear queue":
            self._remove(list(self.pending))
        elif fault == "restart":
            self._restart()
            asyncio.get_running_loop().call_later(self.chance.uniform(0.0, 15.0), self._up)
        elif fault == "outage":
            self.down = True
            for wire in wires:
                wire.break_off(server_knows=True)
            asyncio.get_running_loop().call_later(self.chance.uniform(0.0, 20.0), self._up)

    def _end_late(self, wire: Wire) -> None:
        self.end(wire)
        self.quiet_since = asyncio.get_running_loop().time()

    def _up(self) -> None:
        self.down = False
        self.quiet_since = asyncio.get_running_loop().time()

    def _restart(self) -> None:
        self.down = True
        self.life += 1
        self._worker.cancel()
        self._worker = asyncio.create_task(self._work())
        for task in [*self.pending, *([self.running] if self.running else [])]:
            self._finish(task, "vanished")
        for task in self.tasks.values():
            task.shown_at = float("inf")
        self.pending.clear()
        self.running = None
        for wire in self.wires:
            if not wire.dead:  # of a dead one nobody is told
                wire.break_off(server_knows=True)
        self.known.clear()

    def _remove(self, tasks: list[Task]) -> None:
        for task in tasks:
            self.pending.remove(task)
            self._finish(task, "removed")
        self.broadcast()

    def _finish(self, task: Task, end: str) -> None:
        task.end, task.ended_at = end, asyncio.get_running_loop().time()

    # The worker

    async def _work(self) -> None:
        while True:
            while not self.pending:
                self.filled.clear()
                await self.filled.wait()
            task = self.running = self.pending.pop(0)
            self.executions[task.id] += 1
            self.interrupted.clear()
            self.broadcast()
            await self._run(task)
            self.running = None
            task.shown_at = task.ended_at + self.history_late_s
            self.broadcast()
            self.say("executing", task, node=None)

    async def _run(self, task: Task) -> None:
        self.say("execution_start", task)
        self.say("execution_cached", task, nodes=[])
        self.say("executing", task, node="1")
        try:
            async with asyncio.timeout(task.runs_s):
                await self.interrupted.wait()
        except TimeoutError:
            pass
        else:
            return self._last(task, "cancelled", "execution_interrupted", node_id="1")
        if "fail" in task.nonce:
            return self._last(task, "failed", "execution_error", node_id="1", exception_type="E")
        self.say("executing", task, node="2")
        self._finish(task, "completed")
        self.say("executed", task, node="2", output=task.outputs["2"])
        return self._last(task, "completed", "execution_success")

    def _last(self, task: Task, end: str, kind: str, **data: Any) -> None:
        self._finish(task, end)
        task.messages.append([kind, {"prompt_id": task.id, **data}])
        self.say(kind, task, **data)

    # HTTP

    async def answer(self, method: str, path: str, body: bytes | None) -> Answer:
        """One request and its answer, or what became of them on the way."""
        life = self.life
        await asyncio.sleep(self.latency_s)
        if self.down:
            raise Unreachable("refused")
        fate = self._fate(method, path)
        if fate == "cut before":
            raise Unreachable("cut", sent=True)
        if fate == "busy":
            return Answer(503, {"Retry-After": "0.1"}, b"")
        answer = self._serve(method, path, json.loads(body) if body else None)
        await asyncio.sleep(self.latency_s * self.chance.choice([1, 1, 3]))
        if fate == "cut after" or life != self.life or self.down:
            raise Unreachable("cut", sent=True)
        return Answer(500, {}, b"oh dear") if fate == "stumble" else answer

    def _fate(self, method: str, path: str) -> str:
        if self.chance.random() > self.trouble:
            return "well"
        fates = (
            ["cut before", "cut after"]
            if path != "/prompt"
            else ["cut before", "cut after", "busy", "stumble"]
        )
        fate = self.chance.choice(fates)
        self.faults[f"{method} {fate}"] += 1
        return fate

    def _serve(self, method: str, path: str, body: Any) -> Answer:
        if (method, path) == ("POST", "/prompt"):
            return self._queue(body)
        if (method, path) == ("GET", "/queue"):
            items = [[0, task.id, {}, {}, []] for task in self.pending]
            running = [[0, self.running.id, {}, {}, []]] if self.running else []
            return _json({"queue_running": running, "queue_pending": items})
        if path.startswith("/history/"):
            task = self.tasks.get(path.removeprefix("/history/"))
            seen = task is not None and task.shown_at <= asyncio.get_running_loop().time()
            return _json({task.id: task.entry()} if task is not None and seen else {})
        if path.endswith("/cancel"):
            return _json({"cancelled": self._cancel(path.split("/")[-2])})
        if (method, path) == ("GET", "/prompt"):
            return _json({"exec_info": {"queue_remaining": len(self.pending)}})
        if path == "/system_stats":
            return _json({"system": {"comfyui_version": "0.33.0"}})
        raise AssertionError(f"the model has no {method} {path}")

    def _queue(self, body: Any) -> Answer:
        task = Task(
            body["prompt_id"], body["client_id"], body["prompt"], self.chance.choice([0.01, 0.5, 4.0, 30.0])
        )
        self.tasks.setdefault(task.id, task)  # a second of the same id would count as a second execution
        self.pending.append(self.tasks[task.id])
        self.filled.set()
        self.broadcast()
        return _json({"prompt_id": task.id, "number": 1, "node_errors": {}})

    def _cancel(self, prompt_id: str) -> bool:
        for task in self.pending:
            if task.id == prompt_id:
                self._remove([task])
                return True
        if self.running is None or self.running.id != prompt_id:
            return False
        if self.chance.random() > 0.3:
            self.interrupted.set()
        return True

    async def stop(self) -> None:
        """No more work."""
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)


def _json(body: Any) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(body).encode())


def http_of(world: World) -> type[Http]:
    """The session's HTTP with the network and the server cut off just below it."""

    class ModelHttp(Http):
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            """There is nothing to close."""

        async def ask(self, method: str, path: str, *, body: Any = None, **_: Any) -> Answer:
            self.requests += 1
            return await world.answer(method, path, body)

    return ModelHttp
