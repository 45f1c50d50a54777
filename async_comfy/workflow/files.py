"""A file that a workflow takes in, and that has to reach the server before the workflow runs."""

import os
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from async_comfy.errors import WorkflowError

Folder = Literal["input", "temp", "output"]
Kind = Literal["path", "url", "bytes", "image"]

TAKES_FILES = frozenset(
    {
        ("LoadImage", "image"),
        ("LoadImageMask", "image"),
        ("LoadAudio", "audio"),
        ("LoadVideo", "file"),
        ("Load3D", "model_file"),
    }
)
"""Core nodes whose input is the name of an uploaded file: there, text that is a URL is a file to fetch."""


class File:
    """A file to upload, put where the workflow needs its name.

    `value`: a path, the bytes themselves, a picture of Pillow, or an http(s) URL as text (any other text
    is a path). `name`: what to call it on the server; without, its own name or one made of its content.
    `folder` and `subfolder`: where it goes on the server.
    """

    __slots__ = ("folder", "kind", "name", "subfolder", "value")

    def __init__(
        self, value: Any, *, name: str | None = None, folder: Folder = "input", subfolder: str = ""
    ) -> None:
        self.kind, self.value = _told_apart(value)
        self.name = name
        self.folder = folder
        self.subfolder = subfolder

    kind: Kind
    value: Any

    @property
    def suggested_name(self) -> str | None:
        """`name`, or the last part of the path or URL; None for bytes and pictures."""
        if self.name is not None:
            return self.name
        if self.kind == "path":
            return Path(self.value).name
        if self.kind == "url":
            return PurePosixPath(urlsplit(self.value).path).name or None
        return None

    def __repr__(self) -> str:
        # A URL may carry a token in its query or user part, so neither is shown.
        shown = {
            "path": lambda: str(self.value),
            "url": lambda: _public(self.value),
            "bytes": lambda: f"{len(self.value)} bytes",
            "image": lambda: f"{type(self.value).__name__} {self.value.size}",
        }[self.kind]()
        return f"File({shown})"


class FileInput(NamedTuple):
    """A file and the place that waits for its name on the server."""

    node: str
    input: str
    file: File


def _told_apart(value: Any) -> tuple[Kind, Any]:
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes", bytes(value)
    if isinstance(value, str):
        return ("url", value) if is_url(value) else ("path", Path(value).expanduser())
    if isinstance(value, os.PathLike):
        return "path", Path(os.fsdecode(value))
    if callable(getattr(value, "save", None)) and hasattr(value, "size"):
        return "image", value
    raise WorkflowError(
        f"a {type(value).__name__} cannot be uploaded.",
        hint="Give a path, bytes, a Pillow image or an http(s) URL.",
    )


def is_url(value: object) -> bool:
    """Whether `value` is text that names something on the web."""
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


def _public(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
