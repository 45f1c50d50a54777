"""What a server says, as values.

Each class is one message of the ComfyUI event socket, named as the server names it and holding what
the server sent, with flat fields. Two are our own: `Unknown` (a type nobody told us about, kept as
data) and `Gap` (the socket was away for a while, so events may be missing).

Sources: ComfyUI ``server.py`` (``send_sync``, ``encode_bytes``), ``execution.py`` and
``comfy_execution/progress.py``.

Those that hold nothing but numbers, strings and bytes can be in no cycle: the garbage collector is spared
them (``gc=False``).
"""

from typing import Any, ClassVar

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Anything a server says. `prompt_id` is None where the message names no prompt."""

    type: ClassVar[str] = ""
    prompt_id: str | None = None


class Status(Event, frozen=True, kw_only=True, gc=False):
    """The server's queue changed: `queue_remaining` counts everybody's prompts, the running one too.

    `sid` (the client id as the server knows it) comes only in the first message of a connection.
    """

    type: ClassVar[str] = "status"
    queue_remaining: int | None = None
    sid: str | None = None


class FeatureFlags(Event, frozen=True, kw_only=True):
    """The server's flags, in answer to ours."""

    type: ClassVar[str] = "feature_flags"
    flags: dict[str, Any] = {}


class ExecutionStart(Event, frozen=True, kw_only=True, gc=False):
    """The prompt left the queue and runs. `timestamp`: the server's clock, milliseconds since 1970."""

    type: ClassVar[str] = "execution_start"
    timestamp: int | None = None


class ExecutionCached(Event, frozen=True, kw_only=True):
    """These nodes will not run: the server still has what they made."""

    type: ClassVar[str] = "execution_cached"
    nodes: list[str] = []
    timestamp: int | None = None


class Executing(Event, frozen=True, kw_only=True, gc=False):
    """`node` runs now; None is the end mark: the run is over and its history is written."""

    type: ClassVar[str] = "executing"
    node: str | None = None
    display_node: str | None = None


class Progress(Event, frozen=True, kw_only=True, gc=False):
    """`node` did `value` of `max` steps. The server skips steps when they come too fast."""

    type: ClassVar[str] = "progress"
    node: str | None = None
    value: int | float = 0
    max: int | float = 0


class NodeProgress(msgspec.Struct, frozen=True, gc=False):
    """One node inside a `ProgressState`. A node that failed stays "running"."""

    value: int | float = 0
    max: int | float = 1
    state: str = "pending"
    node_id: str | None = None
    display_node_id: str | None = None
    parent_node_id: str | None = None
    real_node_id: str | None = None


class ProgressState(Event, frozen=True, kw_only=True):
    """All nodes begun so far and how far each is: a cumulative snapshot, the newest says it all."""

    type: ClassVar[str] = "progress_state"
    nodes: dict[str, NodeProgress] = {}


class Executed(Event, frozen=True, kw_only=True):
    """`node` has something to show: `output` maps kinds ("images", "text", ...) to lists."""

    type: ClassVar[str] = "executed"
    node: str | None = None
    display_node: str | None = None
    output: dict[str, Any] | None = None


class ExecutionSuccess(Event, frozen=True, kw_only=True, gc=False):
    """All went well. The history entry may still be on its way; the end mark says that it is there."""

    type: ClassVar[str] = "execution_success"
    timestamp: int | None = None


class ExecutionInterrupted(Event, frozen=True, kw_only=True):
    """Somebody interrupted the run at `node_id`."""

    type: ClassVar[str] = "execution_interrupted"
    node_id: str | None = None
    node_type: str | None = None
    executed: list[str] = []
    timestamp: int | None = None


class ExecutionError(Event, frozen=True, kw_only=True):
    """`node_id` raised. Not the end by itself: a blocked output says this and the run goes on."""

    type: ClassVar[str] = "execution_error"
    node_id: str | None = None
    node_type: str | None = None
    executed: list[str] = []
    exception_message: str = ""
    exception_type: str = ""
    traceback: list[str] = []
    current_inputs: Any = None
    current_outputs: Any = None
    timestamp: int | None = None


class Preview(Event, frozen=True, kw_only=True, gc=False):
    """A picture in the making. `data` is a whole image file of `media_type`.

    `node` is None when the server sent no metadata with it (binary kind 1).
    """

    type: ClassVar[str] = "preview"
    media_type: str = "image/jpeg"
    data: bytes = b""
    node: str | None = None
    display_node: str | None = None
    parent_node: str | None = None
    real_node: str | None = None

    def __repr__(self) -> str:
        return (
            f"Preview(prompt_id={self.prompt_id!r}, node={self.node!r}, "
            f"{self.media_type}, {len(self.data)} bytes)"
        )


class ProgressText(Event, frozen=True, kw_only=True, gc=False):
    """A line of text that `node` shows while it works (binary kind 3)."""

    type: ClassVar[str] = "progress_text"
    node: str | None = None
    text: str = ""


class Unknown(Event, frozen=True, kw_only=True):
    """A message of a type that is not the core server's; custom nodes send such. Kept as data.

    `name` is the type on the wire, or ``"binary:N"`` for a binary frame of an unknown kind N, whose
    `data` are the bytes after the kind.
    """

    type: ClassVar[str] = "unknown"
    name: str = ""
    data: Any = None


class Gap(Event, frozen=True, kw_only=True, gc=False):
    """Ours: the socket was away for `seconds`. Events of that time are gone; the outcome is looked up."""

    type: ClassVar[str] = "gap"
    seconds: float = 0.0


EVENTS: dict[str, type[Event]] = {
    kind.type: kind
    for kind in (
        Status,
        FeatureFlags,
        ExecutionStart,
        ExecutionCached,
        Executing,
        Progress,
        ProgressState,
        Executed,
        ExecutionSuccess,
        ExecutionInterrupted,
        ExecutionError,
        Preview,
        ProgressText,
        Unknown,
        Gap,
    )
}
"""Every event by its name: the table that the docs print."""
