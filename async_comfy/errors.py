"""What can go wrong, by who can mend it.

`CallerError`: you can, by changing the call, the workflow or the credentials.
`ServerError`: whoever keeps the server can. `NetworkError`: whoever keeps the way to it can.

The six outcomes of a job are one word each: completed (a `Result`), or `Failed`, `Rejected`,
`Cancelled`, `Lost`, `Ambiguous`. Every message is one readable sentence, with what to do after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ComfyError(Exception):
    """Anything this library raises on purpose.

    `hint` says what to do, `prompt_id` names the prompt where one is concerned.
    """

    def __init__(self, message: str, *, hint: str = "", prompt_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.prompt_id = prompt_id

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class CallerError(ComfyError):
    """You can mend it: the call, the workflow, the file or the credentials."""


class ServerError(ComfyError):
    """Whoever keeps the server can mend it."""


class NetworkError(ComfyError):
    """Whoever keeps the way to the server can mend it."""


class WorkflowError(CallerError):
    """The workflow cannot be used as it is. `place` says where: a file, a node, an input."""

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.place = place


class Closed(CallerError):
    """You closed this session (or never opened it), and then asked it for something."""


class Denied(CallerError):
    """The server knows us not: 401 or 403, or close code 1008 on the socket. Mend the credentials."""

    def __init__(self, message: str, *, status: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class TimedOut(CallerError, TimeoutError):
    """The time you allowed is over. `phase` is "queued" or "running". The job itself goes on."""

    def __init__(
        self, message: str, *, phase: str, seconds: float, hint: str = "", prompt_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, prompt_id=prompt_id)
        self.phase = phase
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """One thing the server found wrong with one node before running it.

    `kind` is the server's word ("value_not_in_list", "required_input_missing", ...); `given` and
    `allowed` are None where the server did not say.
    """

    node: str
    kind: str
    message: str
    details: str = ""
    title: str | None = None
    class_type: str | None = None
    input: str | None = None
    given: Any = None
    allowed: Any = None

    def __str__(self) -> str:
        name = f"{self.title}, " if self.title and self.title != self.class_type else ""
        where = f"node {self.node} ({name}{self.class_type or '?'})"
        what = f"{where}, input {self.input!r}" if self.input else where
        text = f"{what}: {self.message}"
        if self.given is not None:
            text += f"; given {_short(self.given)}"
        if self.allowed is not None:
            text += f"; allowed {_choices(self.allowed)}"
        elif self.details and self.given is None:
            text += f" ({_short(self.details)})"
        return text


class Rejected(CallerError):
    """The server refused the prompt before running it. Outcome "rejected".

    `kind` is the server's word for the whole ("prompt_outputs_failed_validation", ...), `problems`
    what it found node by node, `status` the HTTP status.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        problems: Sequence[NodeProblem] = (),
        status: int = 400,
        details: str = "",
        hint: str = "",
        prompt_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, prompt_id=prompt_id)
        self.kind = kind
        self.problems = tuple(problems)
        self.status = status
        self.details = details

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems), self.hint]).rstrip()


class Cancelled(CallerError):
    """The job was cancelled: by you, or by somebody else at the server. Outcome "cancelled"."""


class Failed(ServerError):
    """A node raised while it ran. Outcome "failed".

    `node`, `title`, `class_type`: where. `exception_type`, `reason`, `remote_traceback`: what the
    server said. `inputs`: what the node was given, as the server printed it.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        title: str | None = None,
        class_type: str | None = None,
        exception_type: str = "",
        reason: str = "",
        remote_traceback: Sequence[str] = (),
        inputs: Any = None,
        hint: str = "",
        prompt_id: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, prompt_id=prompt_id)
        self.node = node
        self.title = title
        self.class_type = class_type
        self.exception_type = exception_type
        self.reason = reason
        self.remote_traceback = tuple(remote_traceback)
        self.inputs = inputs


class OutOfMemory(Failed):
    """The server ran out of memory (usually VRAM) in a node."""


class NotComfyUI(ServerError):
    """Something answers there, but it does not speak as ComfyUI does: a login page, another program."""


class UnexpectedAnswer(ServerError):
    """The server answered a call with a status or body that it should not. `status`: HTTP."""

    def __init__(self, message: str, *, status: int = 0, body: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.body = body


class NotFound(UnexpectedAnswer):
    """The server has no such file, prompt, node class or route (404, 405)."""


class Unreachable(NetworkError):
    """No answer: refused, timed out, no such host, or a certificate that does not hold.

    `sent`: the request may have reached the server, only its answer did not come back.
    """

    def __init__(self, message: str, *, sent: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sent = sent


class _Evidence(NetworkError):
    def __init__(
        self, message: str, *, evidence: Sequence[str] = (), hint: str = "", prompt_id: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, prompt_id=prompt_id)
        self.evidence = tuple(evidence)

    def __str__(self) -> str:
        seen = f" Seen: {'; '.join(self.evidence)}." if self.evidence else ""
        return f"{self.message}{seen} {self.hint}".rstrip()


class Lost(_Evidence):
    """The server was asked and no longer knows the job. Outcome "lost".

    `evidence`: what was seen, in the order in which it was seen.
    """


class Ambiguous(_Evidence):
    """Nobody can say whether the job ran. Outcome "ambiguous".

    Not a `Lost`: running it again may run it twice. `evidence`: what was seen, in that order.
    """


OUTCOMES: Mapping[str, type[ComfyError] | None] = {
    "completed": None,
    "failed": Failed,
    "rejected": Rejected,
    "cancelled": Cancelled,
    "lost": Lost,
    "ambiguous": Ambiguous,
}
"""How a job can end, and what awaiting it raises then."""


def _choices(allowed: Any) -> str:
    """Few choices whole, of many the first."""
    if not isinstance(allowed, list | tuple):
        return _short(allowed)
    names = ", ".join(_short(choice, 60) for choice in allowed[:8]) or "nothing: the server has none"
    return f"{names} and {len(allowed) - 8} more" if len(allowed) > 8 else names


def _short(value: Any, limit: int = 160) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
