"""The simulated server answers recorded conversations as the real one did.

Every request and frame of a recording is sent again; what the recording waited for is waited for, by the
count of frames that each connection had received by then.
"""

import asyncio
import json
import struct
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from async_comfy.testing import SimulatedServer
from tests.transcripts import Names, plain, steps

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parent / "transcripts"
RECORDED_PORT = "8201"
RECORDINGS = sorted(FOLDER.glob("*.jsonl"))


class Connection:
    """One event socket of the replay, and all that it received."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.frames: list[Any] = []
        self.more = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.ws:
            async with self.more:
                self.frames.append(message.data)
                self.more.notify_all()

    async def received(self, count: int) -> None:
        async with self.more, asyncio.timeout(20):
            await self.more.wait_for(lambda: len(self.frames) >= count)

    async def end(self, *, abort: bool) -> None:
        if abort:
            response: Any = self.ws._response  # the socket has no public way to end without a close frame
            response.connection.transport.abort()
        await self.ws.close()
        await self.reader


class Replay:
    """A recording played against a simulated server, step by step."""

    def __init__(self, server: SimulatedServer, client: aiohttp.ClientSession) -> None:
        self.server = server
        self.client = client
        self.names = Names()
        self.connections: dict[str, Connection] = {}
        self.expected: dict[str, list[Any]] = {}
        self.answers: list[tuple[str, Any, Any]] = []

    async def play(self, path: Path) -> None:
        self.server.number = first_number(path)
        for step in steps(path):
            if "got" in step:
                self.expected.setdefault(step["got"], []).append(step)
            else:
                await self._caught_up()
                await getattr(self, f"_{step['do']}")(step)
        await self._caught_up()
        await self.server.until_idle()

    async def _caught_up(self) -> None:
        for name, expected in self.expected.items():
            if name in self.connections:
                await self.connections[name].received(len(expected))
        self._learn()

    async def _connect(self, step: Any) -> None:
        path, headers = self.names.spell(step["path"]), self._headers(step)
        try:
            ws = await self.client.ws_connect(self.server.url + path, headers=headers, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as error:
            self.answers.append((f"connect {path}", [403, ""], [error.status, ""]))
            return
        self.connections[step["conn"]] = Connection(ws)

    async def _send(self, step: Any) -> None:
        await self.connections[step["conn"]].ws.send_str(self.names.spell(step["text"]))

    async def _settle(self, step: Any) -> None:
        await self.server.until_idle()

    async def _close(self, step: Any) -> None:
        await self.connections[step["conn"]].end(abort=False)

    async def _abort(self, step: Any) -> None:
        await self.connections[step["conn"]].end(abort=True)

    async def _http(self, step: Any) -> None:
        method, path = step["method"], self.names.spell(step["path"])
        given: dict[str, Any] = {"headers": self._headers(step)}
        if "json" in step:
            given["data"] = json.dumps(self.names.spell(step["json"]))
            given["headers"] = {"Content-Type": "application/json", **given["headers"]}
        elif "body" in step:
            given["data"] = self.names.spell(step["body"]).encode(step["encoding"])
        async with self.client.request(method, self.server.url + path, **given) as answer:
            text = await answer.text() if "answer" in step or "text" in step else ""
        asked = f"{method} {path} {step.get('json', '')}"
        if "answer" in step:
            said = json.loads(text)
            self.names.learn(step["answer"], said)
            self.answers.append((asked, [step["status"], step["answer"]], [answer.status, said]))
        else:
            self.answers.append((asked, [step["status"], step.get("text", "")], [answer.status, text]))

    def _headers(self, step: Any) -> dict[str, str]:
        """The recorded headers; where they name the recorded server's port, they name this one's."""
        headers = step.get("headers", {})
        return {name: value.replace(RECORDED_PORT, str(self.server.port)) for name, value in headers.items()}

    def differences(self) -> Iterator[tuple[str, Any, Any]]:
        """What did not go as recorded: where, what was expected, what came."""
        for asked, expected, came in self.answers:
            came = json.loads(self.names.hide(json.dumps(came)))
            if told(came) != told(expected):
                yield asked, told(expected), told(came)
        for name, connection in self.connections.items():
            lines = [said(frame, self.names) for frame in connection.frames]
            wanted = [recorded(step) for step in self.expected.get(name, [])]
            for here, there in zip_longest(_without_status(wanted), _without_status(lines)):
                if here != there:
                    yield name, here, there
                    break

    def _learn(self) -> None:
        """Takes over the ids that are named in frames only."""
        for name, connection in self.connections.items():
            steps = (step for step in self.expected.get(name, []) if "text" in step)
            texts = (frame for frame in connection.frames if isinstance(frame, str))
            for step, text in zip(steps, texts, strict=False):
                self.names.learn(json.loads(step["text"]), json.loads(text))


def first_number(path: Path) -> int:
    """The queue number that the recorded server had come to: refused prompts take one too."""
    refused = 0
    for step in steps(path):
        if step.get("do") == "http" and step["path"] == "/prompt" and step["method"] == "POST":
            if step["status"] == 200:
                return int(step["answer"]["number"]) - refused
            refused += step["status"] == 400
    return 0


def said(frame: Any, names: Names) -> str:
    """A frame as one line of text."""
    if isinstance(frame, bytes):
        return names.hide(_binary(frame))
    return json.dumps(plain(json.loads(names.hide(frame))))


def recorded(step: Any) -> str:
    """A recorded frame as the same line of text."""
    if "binary" in step:
        return json.dumps([step["binary"], step.get("format"), step.get("metadata")])
    return json.dumps(plain(json.loads(step["text"])))


def _binary(frame: bytes) -> str:
    (kind,) = struct.unpack_from(">I", frame)
    (number,) = struct.unpack_from(">I", frame, 4)
    if kind == 4:
        return json.dumps([kind, None, json.loads(frame[8 : 8 + number])])
    return json.dumps([kind, number if kind == 1 else None, None])


def told(answer: Any) -> Any:
    """An answer without what differs from run to run."""
    status, body = answer
    return [status, plain(body)]


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
async def test_a_recorded_conversation_goes_the_same_way(path: Path) -> None:
    """Same answers, and on every connection the same frames in the same order."""
    models = {"checkpoints": ["tiny_sd15.safetensors"]}
    async with SimulatedServer(models=models) as server, aiohttp.ClientSession() as client:
        replay = Replay(server, client)
        await replay.play(path)
        assert not list(replay.differences())
        for connection in replay.connections.values():
            await connection.end(abort=False)


def _without_status(lines: list[str]) -> list[str]:
    return [line for line in lines if '"type": "status"' not in line]
