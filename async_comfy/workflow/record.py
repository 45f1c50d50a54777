"""One node as a workflow keeps it, and as JSON."""

import json
from typing import Any

import msgspec

from async_comfy.workflow.values import only_json_of_python


class Record:
    """One node as it is kept: shared between copies until one of them edits it."""

    __slots__ = ("class_type", "encoded", "id", "inputs", "owner", "rest")

    def __init__(
        self, owner: object, id_: str, class_type: str, inputs: dict[str, Any], rest: dict[str, Any]
    ) -> None:
        self.owner = owner
        self.id = id_
        self.class_type = class_type
        self.inputs = inputs
        self.rest = rest
        self.encoded: bytes | None = None

    def owned_by(self, owner: object) -> "Record":
        """A copy to edit. Values inside are never changed in place, so one level is enough."""
        return Record(owner, self.id, self.class_type, dict(self.inputs), dict(self.rest))

    @property
    def title(self) -> str:
        """What people call it: the title in the editor, else the class."""
        meta = self.rest.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        return title if isinstance(title, str) and title else self.class_type

    @property
    def label(self) -> str:
        """How messages name it: id, title where it has one, class."""
        title = f"{self.title}, " if self.title != self.class_type else ""
        return f"{self.id} ({title}{self.class_type})"

    def plain(self) -> dict[str, Any]:
        """The node as a prompt holds it; its values are still the record's own."""
        return {"inputs": self.inputs, "class_type": self.class_type, **self.rest}

    def encode(self) -> bytes:
        """Its part of the prompt as JSON, made once until it is edited."""
        if self.encoded is None:
            self.encoded = json_of(self.id) + b":" + json_of(self.plain())
        return self.encoded


def json_of(value: Any) -> bytes:
    """JSON as the server reads it: NaN as NaN (msgspec would write null), lone surrogates escaped."""
    if not only_json_of_python(value):
        try:
            return msgspec.json.encode(value)
        except UnicodeEncodeError:
            pass
    return json.dumps(value).encode()
