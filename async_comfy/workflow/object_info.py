"""GET /object_info kept as it came: a class is decoded when somebody looks at it.

A server with many custom nodes says a dozen megabytes, of which a workflow needs some tens of classes.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from async_comfy.errors import CallerError

_SIGN = {sign: re.compile(rf"[ \t\n\r]*{re.escape(sign)}[ \t\n\r]*") for sign in "{}:,"}
_HINT = "Save one with: curl SERVER/object_info -o object_info.json"


class Declarations(Mapping[str, dict[str, Any]]):
    """What a server says of its node classes, by class: a mapping over the answer itself.

    The answer stays the bytes that came, and a class is decoded each time it is looked up; so the whole
    never stands in memory as Python objects, which take several times its size. `raw`: the bytes.
    `server`: its address; `version`: of ComfyUI, as the server writes it; `asked_at`: seconds since 1970.
    Each is empty or None where nobody knows it.

    Raises: ValueError, RecursionError where `raw` is no JSON object of objects
    """

    __slots__ = ("_parts", "asked_at", "raw", "server", "version")

    def __init__(
        self, raw: bytes, *, server: str = "", version: str = "", asked_at: float | None = None
    ) -> None:
        self.raw = raw
        self.server = server
        self.version = version
        self.asked_at = asked_at
        self._parts = _parts(raw)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Those of a file: GET /object_info, saved (.json or .json.gz).

        Raises: CallerError where it cannot be read, or is something else
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise CallerError(f"{path}: cannot be read: {error.strerror}.", hint=_HINT) from None
        try:
            return cls(gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data)
        except (OSError, ValueError, RecursionError, EOFError, zlib.error):
            raise CallerError(f"{path}: this is no object_info.", hint=_HINT) from None

    def __getitem__(self, class_type: str) -> dict[str, Any]:
        part = self._parts[class_type]
        found: dict[str, Any]
        try:
            found = msgspec.json.decode(part)
        except (msgspec.MsgspecError, UnicodeError):
            found = json.loads(part if isinstance(part, str) else bytes(part))  # NaN, lone surrogates
        return found

    def __contains__(self, class_type: object) -> bool:
        return class_type in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        origin = f" of {self.server}" if self.server else ""
        return f"<Declarations{origin}, {len(self)} classes>"


def _parts(raw: bytes) -> Mapping[str, msgspec.Raw | str]:
    """Each class's JSON, cut out and not decoded."""
    try:
        cut = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return dict(_cut(raw.decode("utf-8", "surrogatepass")))
    if not all(bytes(memoryview(part)[:1]) == b"{" for part in cut.values()):
        raise ValueError("a class is declared by no object")
    return cut


def _cut(text: str) -> Iterator[tuple[str, str]]:
    """The members of a JSON object, one at a time, by Python's own reader: it takes NaN and Infinity."""
    read = json.JSONDecoder().raw_decode
    at = _past(text, 0, "{")
    more = text[at : at + 1] != "}"
    while more:
        name, end = read(text, at)
        begin = _past(text, end, ":")
        declared, end = read(text, begin)
        if not isinstance(declared, dict):
            raise ValueError("a class is declared by no object")
        yield str(name), text[begin:end]
        more = _SIGN[","].match(text, end) is not None
        at = _past(text, end, ",") if more else end
    if _past(text, at, "}") != len(text):
        raise ValueError("more than one JSON value")


def _past(text: str, at: int, sign: str) -> int:
    """Where the next thing begins after a sign, which has to come now."""
    match = _SIGN[sign].match(text, at)
    if match is None:
        raise ValueError(f"no {sign!r} at {at}")
    return match.end()
