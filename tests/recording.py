"""Reads the recordings of a real server (see tests/recordings/README.md)."""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"
NAMES = tuple(sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.jsonl.gz")))


@dataclass(frozen=True)
class Open:
    """A WebSocket was opened."""

    conn: str
    client_id: str | None


@dataclass(frozen=True)
class Shut:
    """A WebSocket ended."""

    conn: str


@dataclass(frozen=True)
class Frame:
    """A frame that the server sent."""

    conn: str
    raw: bytes
    binary: bool = False


@dataclass(frozen=True)
class Post:
    """POST /prompt, as it was sent."""

    number: int
    client_id: str | None
    prompt_id: str | None
    prompt: Any


@dataclass(frozen=True)
class Answer:
    """What came back for the post of that number; `status` is None where nothing did."""

    number: int
    status: int | None
    body: Any


@dataclass(frozen=True)
class Kept:
    """GET /history/{prompt_id}: the body."""

    prompt_id: str
    body: bytes


Step = Open | Shut | Frame | Post | Answer | Kept


@dataclass(frozen=True)
class Recording:
    """One situation. `ends`: prompt id to how that prompt ended, as the server itself told."""

    name: str
    ends: Mapping[str, str]
    steps: tuple[Step, ...]

    def frames(self) -> Iterator[Frame]:
        """All frames, of all sockets."""
        return (step for step in self.steps if isinstance(step, Frame))


@cache
def read(name: str) -> Recording:
    """The recording of that name."""
    with gzip.open(FOLDER / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        head, *rest = map(json.loads, lines)
    return Recording(name, head["ends"], tuple(map(_step, rest)))


def _step(line: dict[str, Any]) -> Step:
    match line["kind"]:
        case "open":
            return Open(line["conn"], line["client_id"])
        case "closed":
            return Shut(line["conn"])
        case "text":
            return Frame(line["conn"], line["raw"].encode("utf-8", "surrogatepass"))
        case "binary":
            return Frame(line["conn"], _body(line), binary=True)
        case "post":
            return Post(line["number"], line["client_id"], line["prompt_id"], line["prompt"])
        case "answer":
            return Answer(line["number"], line["status"], line["body"])
        case "history":
            return Kept(line["prompt_id"], json.dumps(line["body"]).encode())
    raise ValueError(f"no such kind of line: {line['kind']}")


def _body(line: dict[str, Any]) -> bytes:
    """The frame at its recorded length: what was kept of it, then zeros in place of the picture."""
    head = bytes.fromhex(line["head"])
    if "metadata" in line:
        about = json.dumps(line["metadata"]).encode().ljust(line["metadata_len"])
        head = head[:8] + about + bytes.fromhex(line["magic"] or "")
    return head.ljust(line["len"], b"\0")[: line["len"]]
