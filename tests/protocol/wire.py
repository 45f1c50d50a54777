"""What a server would send, for the tests of the pure room."""

import json
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from async_comfy.events import Event
from async_comfy.protocol import frames
from async_comfy.protocol.job import Life
from async_comfy.protocol.router import Router


@dataclass(frozen=True)
class Node:
    """A node of a prompt, as far as following it needs."""

    class_type: str
    title: str = ""
    steps: int = 1
    leaf: bool = False


Shape = Mapping[str, Node]

TEXT_TO_IMAGE: Shape = {
    "4": Node("CheckpointLoaderSimple"),
    "6": Node("CLIPTextEncode", "a fox"),
    "3": Node("KSampler", "the sampler", steps=4),
    "8": Node("VAEDecode"),
    "9": Node("SaveImage", "keep it", leaf=True),
}


def shape_of(prompt: Any) -> Shape:
    """Out of a prompt in API format."""
    if not isinstance(prompt, dict):
        return {}
    nodes = {key: node for key, node in prompt.items() if isinstance(node, dict)}
    used = {
        value[0]
        for node in nodes.values()
        for value in (node.get("inputs") or {}).values()
        if isinstance(value, list) and len(value) == 2
    }
    return {key: _node(node, leaf=key not in used) for key, node in nodes.items()}


def _node(node: dict[str, Any], *, leaf: bool) -> Node:
    class_type = str(node.get("class_type"))
    steps = (node.get("inputs") or {}).get("steps", 1)
    title = str((node.get("_meta") or {}).get("title", class_type))
    return Node(class_type, title, steps if isinstance(steps, int) and steps > 0 else 1, leaf)


@dataclass(frozen=True)
class Frame:
    """One WebSocket message."""

    raw: bytes
    binary: bool = False

    @property
    def event(self) -> Event:
        """What it says, by full decoding."""
        return frames.decode_binary(self.raw) if self.binary else frames.decode_text(self.raw)

    def into(self, router: Router, now: float = 0.0) -> Life | None:
        """As the reader of the socket does it."""
        return router.take_binary(self.raw, now) if self.binary else router.take_text(self.raw, now)


def new_id() -> str:
    """As a client makes them."""
    return str(uuid.uuid4())


def text(kind: str, **data: Any) -> Frame:
    """A text frame, written as the server writes it."""
    return Frame(json.dumps({"type": kind, "data": data}).encode())


def status(remaining: int, sid: str | None = None) -> Frame:
    """The broadcast on every change of the queue."""
    more = {"sid": sid} if sid else {}
    return text("status", status={"exec_info": {"queue_remaining": remaining}}, **more)


def picture(image: bytes = b"\xff\xd8\xff") -> Frame:
    """A preview without metadata."""
    return Frame(struct.pack(">II", 1, 1) + image, binary=True)


def picture_of(prompt_id: str, node: str, image: bytes = b"\xff\xd8\xff") -> Frame:
    """A preview with metadata."""
    about = json.dumps({"node_id": node, "prompt_id": prompt_id, "image_type": "image/jpeg"}).encode()
    return Frame(struct.pack(">II", 4, len(about)) + about + image, binary=True)


def line_of(node: str, words: str) -> Frame:
    """A text that a node shows."""
    head = node.encode()
    return Frame(struct.pack(">II", 3, len(head)) + head + words.encode(), binary=True)


def snapshot(prompt_id: str, nodes: Mapping[str, tuple[float, float, str]]) -> Frame:
    """A `progress_state`."""
    rows = {
        key: {"value": value, "max": limit, "state": state, "node_id": key, "prompt_id": prompt_id}
        for key, (value, limit, state) in nodes.items()
    }
    return text("progress_state", prompt_id=prompt_id, nodes=rows)


def step(prompt_id: str, node: str, value: float, limit: float) -> Frame:
    """A `progress`."""
    return text("progress", value=value, max=limit, prompt_id=prompt_id, node=node)


def executing(prompt_id: str, node: str | None) -> Frame:
    """A node begins; None is the end mark."""
    if node is None:
        return text("executing", node=None, prompt_id=prompt_id)
    return text("executing", node=node, display_node=node, prompt_id=prompt_id)


def executed(prompt_id: str, node: str, output: dict[str, Any]) -> Frame:
    """A node has something to show."""
    return text("executed", node=node, display_node=node, output=output, prompt_id=prompt_id)


def failure(prompt_id: str, node: str, **more: Any) -> Frame:
    """A node raised."""
    told = {"node_type": "X", "executed": [], "exception_message": "no\n", "exception_type": "ValueError"}
    return text("execution_error", prompt_id=prompt_id, node_id=node, **(told | more))


def image(name: str) -> dict[str, Any]:
    """What SaveImage shows."""
    return {"images": [{"filename": name, "subfolder": "", "type": "output"}]}


def run(prompt_id: str, shape: Shape = TEXT_TO_IMAGE, *, previews: bool = True) -> Iterator[Frame]:
    """A run from its start to its end mark, in the order that a real server keeps."""
    yield text("execution_start", prompt_id=prompt_id, timestamp=1)
    yield text("execution_cached", nodes=[], prompt_id=prompt_id, timestamp=1)
    rows: dict[str, tuple[float, float, str]] = {}
    for key, node in shape.items():
        rows[key] = (0, node.steps, "running")
        yield snapshot(prompt_id, rows)
        yield executing(prompt_id, key)
        for value in range(1, node.steps + 1) if node.steps > 1 else ():
            rows[key] = (value, node.steps, "running")
            yield snapshot(prompt_id, rows)
            yield step(prompt_id, key, value, node.steps)
            if previews:
                yield picture()
        if node.leaf:
            yield executed(prompt_id, key, image(f"{prompt_id}_{key}.png"))
        rows[key] = (node.steps, node.steps, "finished")
        yield snapshot(prompt_id, rows)
    yield text("execution_success", prompt_id=prompt_id, timestamp=2)
    yield executing(prompt_id, None)


def outputs(prompt_id: str, shape: Shape = TEXT_TO_IMAGE) -> dict[str, Any]:
    """What such a run leaves in history."""
    return {key: image(f"{prompt_id}_{key}.png") for key, node in shape.items() if node.leaf}


@dataclass
class Ear:
    """Listens to one life."""

    heard_items: list[Event | bytes] = field(default_factory=list)
    ends: int = 0

    def heard(self, event: Event) -> None:
        """Keeps it."""
        self.heard_items.append(event)

    def heard_gauge(self, raw: bytes) -> None:
        """Keeps it."""
        self.heard_items.append(raw)

    def ended(self) -> None:
        """Counts it."""
        self.ends += 1

    @property
    def events(self) -> list[Event]:
        """What was heard, decoded."""
        return [frames.decode_text(item) if isinstance(item, bytes) else item for item in self.heard_items]


def listened(
    router: Router, prompt_id: str, shape: Shape = TEXT_TO_IMAGE, now: float = 0.0
) -> tuple[Life, Ear]:
    """A registered life that somebody watches."""
    life, ear = Life(prompt_id, shape, now), Ear()
    life.listener, life.watched = ear, True
    router.register(life)
    return life, ear
