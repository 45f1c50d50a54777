"""Recorded conversations with a real ComfyUI, read back as steps: what was done, and what came of it.

One JSON object a line, in the order in which it happened. `do` is "connect", "send", "close", "abort" (of an
event socket, named by `conn`) or "http" (with the answer that came). `got` is a frame that a connection
received. Ids are written ``<1>``, ``<2>``...; times are 0 and tracebacks empty.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MADE = re.compile(r"ComfyUI_temp_[a-z]{5}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKEN = re.compile(r"<\d+>")
TIMES = ("timestamp", "create_time", "execution_start_time", "execution_end_time")
COUNTED = re.compile(r"_\d{5}_")


def steps(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a transcript."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


@dataclass
class Names:
    """Which real id (or prefix of temporary files) stands for which ``<n>``."""

    real: dict[str, str] = field(default_factory=dict)

    def spell(self, recorded: Any) -> Any:
        """Something recorded with its ids replaced by real ones; ids that are new are made."""
        return json.loads(TOKEN.sub(lambda found: self._make(found[0]), json.dumps(recorded)))

    def learn(self, recorded: Any, real: Any) -> None:
        """Takes over ids that the other side made, from two things that are alike but for the ids."""
        here, there = json.dumps(plain(recorded)), json.dumps(plain(real))
        if TOKEN.sub("", here) == MADE.sub("", there):
            for token, name in zip(TOKEN.findall(here), MADE.findall(there), strict=True):
                self.real.setdefault(token, name)

    def hide(self, real: str) -> str:
        """A text with its ids replaced by what they are recorded as."""
        known = {name: token for token, name in self.real.items()}
        return MADE.sub(lambda found: known.get(found[0], found[0]), real)

    def _make(self, token: str) -> str:
        import uuid

        return self.real.setdefault(token, str(uuid.uuid4()))


def plain(said: Any) -> Any:
    """Something said by a server without what differs from run to run: times, file numbers, advice."""
    if isinstance(said, Mapping):
        return {key: _plain_value(key, value) for key, value in said.items() if key != "tooltip"}
    if isinstance(said, list):
        return [plain(item) for item in said]
    if isinstance(said, str):
        return COUNTED.sub("_00000_", said)
    return said


def _plain_value(key: str, value: Any) -> Any:
    if key in TIMES:
        return 0
    if key == "traceback":
        return []
    if key in ("executed", "current_outputs", "dependent_outputs", "nodes") and isinstance(value, list):
        return sorted(value)
    if key == "current_inputs" and isinstance(value, Mapping):
        return sorted(value)
    if key == "exception_message" and isinstance(value, str):
        return value.partition("\n")[:2]
    if key == "exception_type" and isinstance(value, str):
        return value.rsplit(".", 1)[-1]
    return plain(value)
