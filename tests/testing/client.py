"""A bare client for tests of the simulated server: no library of ours between the test and the wire."""

import json
import uuid
from types import TracebackType
from typing import Any, Self

import aiohttp

from async_comfy.testing import SimulatedServer

FLAGS = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


def tiny(color: int = 0, prefix: str = "t") -> dict[str, Any]:
    """The smallest prompt that saves a picture."""
    return {
        "1": node("EmptyImage", width=16, height=16, batch_size=1, color=color),
        "2": node("SaveImage", images=["1", 0], filename_prefix=prefix),
    }


def stepping(steps: int = 4, seed: int = 0) -> dict[str, Any]:
    """A prompt that reports steps with previews."""
    return {
        "1": node("EmptyImage", width=16, height=16, batch_size=1, color=seed),
        "2": node("ProbeSteps", image=["1", 0], steps=steps, delay_ms=0, preview=True, seed=seed),
        "3": node("PreviewImage", images=["2", 0]),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


class Client:
    """One HTTP session and, once connected, one event socket."""

    def __init__(self, server: SimulatedServer | str) -> None:
        self.url = server if isinstance(server, str) else server.url
        self.id = str(uuid.uuid4())
        self.http = aiohttp.ClientSession(self.url)
        self.ws: aiohttp.ClientWebSocketResponse | None = None
        self.earlier: list[aiohttp.ClientWebSocketResponse] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for ws in (*self.earlier, self.ws):
            if ws is not None:
                await ws.close()
        await self.http.close()

    async def connect(self, *first: Any, client_id: str | None = None) -> aiohttp.ClientWebSocketResponse:
        """Opens an event socket and sends the first frames. An earlier one stays open."""
        if self.ws is not None:
            self.earlier.append(self.ws)
        path = f"/ws?clientId={client_id or self.id}"
        self.ws = await self.http.ws_connect(path, max_msg_size=0)
        for frame in first:
            await self.ws.send_json(frame)
        return self.ws

    async def post(self, prompt: Any, **more: Any) -> str:
        """Queues a prompt; its id."""
        answer = await self.json("POST", "/prompt", prompt=prompt, client_id=self.id, **more)
        return str(answer["prompt_id"])

    async def json(self, method: str, path: str, /, **body: Any) -> Any:
        """One request; the JSON of its answer, or None where it is empty."""
        async with self.http.request(method, path, json=body if method == "POST" else None) as answer:
            text = await answer.text()
            return json.loads(text) if text else None

    async def status(self, method: str, path: str, **given: Any) -> int:
        """One request; the status of its answer."""
        async with self.http.request(method, path, **given) as answer:
            await answer.read()
            return answer.status

    async def frame(self) -> Any:
        """The next frame: a message, bytes, or the end of the socket as (close code,)."""
        assert self.ws is not None
        message = await self.ws.receive(timeout=20)
        if message.type == aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        if message.type == aiohttp.WSMsgType.BINARY:
            return message.data
        return (self.ws.close_code,)

    async def until(self, kind: str, **data: Any) -> list[Any]:
        """All frames up to the first of that type with that data, which is the last."""
        frames: list[Any] = []
        while True:
            frame = await self.frame()
            frames.append(frame)
            assert not isinstance(frame, tuple), f"the socket ended before {kind}"
            if isinstance(frame, dict) and frame["type"] == kind and data.items() <= frame["data"].items():
                return frames

    async def run(self, prompt: Any, **more: Any) -> list[Any]:
        """Queues a prompt and reads to its end mark."""
        prompt_id = await self.post(prompt, **more)
        return await self.until("executing", node=None, prompt_id=prompt_id)


def kinds(frames: list[Any]) -> list[str]:
    """The types of frames; binary ones by their number."""
    return [frame["type"] if isinstance(frame, dict) else f"binary:{frame[3]}" for frame in frames]


def only(frames: list[Any], kind: str) -> list[Any]:
    """The data of the frames of one type."""
    return [frame["data"] for frame in frames if isinstance(frame, dict) and frame["type"] == kind]
