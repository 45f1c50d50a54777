"""What the server's history says of one prompt, as far as it can be read."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

DEEPEST = 6  # levels below an output's kind at which a file may be named
_ENDS = {"execution_success", "execution_error", "execution_interrupted"}


@dataclass(frozen=True, slots=True)
class Made:
    """A file that a node made. The names are the server's, not to be trusted."""

    node: str
    kind: str
    filename: str
    subfolder: str
    folder: str

    @property
    def path(self) -> str:
        """Where it lies on the server, from its output folder's parent."""
        return "/".join(part for part in (self.folder, self.subfolder, self.filename) if part)

    def as_dict(self) -> dict[str, str]:
        """For programs."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ended:
    """One prompt that ended. `state`: completed, failed or cancelled. `ran_s`: by the server's clock."""

    prompt_id: str
    state: str
    number: Any
    nodes: int
    ran_s: float | None
    files: list[Made]
    texts: list[str]
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def read(prompt_id: str, entry: Mapping[str, Any]) -> Ended:
    """An entry of GET /history. What is odd in it is left out."""
    prompt = _list(entry.get("prompt"))
    messages = dict(_messages(_dict(entry.get("status"))))
    outputs = _dict(entry.get("outputs"))
    return Ended(
        prompt_id=prompt_id,
        state=_state(_dict(entry.get("status")), messages),
        number=prompt[0] if prompt else None,
        nodes=len(_dict(prompt[2])) if len(prompt) > 2 else 0,
        ran_s=_ran_s(messages),
        files=list(_files(outputs)),
        texts=[text for output in outputs.values() for text in _texts(_dict(output).get("text"))],
        reason=_reason(messages.get("execution_error", {})),
    )


def _messages(status: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for message in _list(status.get("messages")):
        if isinstance(message, list) and len(message) == 2 and isinstance(message[0], str):
            yield message[0], _dict(message[1])


def _state(status: Mapping[str, Any], messages: Mapping[str, Any]) -> str:
    if status.get("status_str") != "error":
        return "completed"
    return "cancelled" if "execution_interrupted" in messages else "failed"


def _ran_s(messages: Mapping[str, Mapping[str, Any]]) -> float | None:
    began = messages.get("execution_start", {}).get("timestamp")
    ended = next((data.get("timestamp") for name, data in messages.items() if name in _ENDS), None)
    if not isinstance(began, int | float) or not isinstance(ended, int | float):
        return None
    return round((ended - began) / 1000, 3)


def _reason(error: Mapping[str, Any]) -> str:
    if not error:
        return ""
    said = " ".join(str(error.get("exception_message", "")).split())
    return f"node {error.get('node_id')} ({error.get('node_type')}): {error.get('exception_type')}: {said}"


def _files(outputs: Mapping[str, Any]) -> Iterator[Made]:
    for node, output in outputs.items():
        for kind, value in _dict(output).items():
            yield from _named(node, kind, value)


def _named(node: str, kind: str, value: Any, depth: int = 0) -> Iterator[Made]:
    """The files named in an output: a dict with a filename, or a list of such."""
    if depth > DEEPEST:
        return
    if isinstance(value, dict) and isinstance(value.get("filename"), str):
        where = (str(value.get("subfolder") or ""), str(value.get("type") or "output"))
        yield Made(node, kind, value["filename"], *where)
        return
    for inner in value.values() if isinstance(value, dict) else _list(value):
        yield from _named(node, kind, inner, depth + 1)


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
