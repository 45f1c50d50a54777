"""What servers last said of their node classes, on disk: to look things up while no server is there."""

import contextlib
import os
import tempfile
import time
from pathlib import Path

import msgspec
from blake3 import blake3

from async_comfy.errors import CallerError
from async_comfy.workflow.object_info import Declarations


class _Head(msgspec.Struct, frozen=True):
    """The second line of a file. The first is a digest of all that follows it."""

    server: str
    version: str
    asked_at: float
    fingerprint: str


class DeclarationCache:
    """The last GET /object_info of each server, a file each.

    `folder`: where; without, ``async-comfy/object_info`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. Files
    appear only when they are whole, and one that is damaged counts as absent. Several processes may share
    a folder.

    What is kept was true when the server said it and may be no longer: the choices of an input list the
    model files of that moment, and custom nodes come and go without any version changing. So nothing that
    is submitted is ever judged or converted by it; it serves who asks for it.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = _default() if folder is None else Path(folder)

    def __repr__(self) -> str:
        return f"<DeclarationCache {self.folder}>"

    def read(
        self,
        server: str,
        *,
        version: str | None = None,
        fingerprint: str | None = None,
        max_age_s: float | None = None,
    ) -> Declarations | None:
        """What `server` (its address, as `Session.url` has it) last said; None where that is not known.

        With `version`, only if it was that ComfyUI; with `fingerprint`, only if it was written with the same;
        with `max_age_s`, only if it was said no longer ago (in seconds).
        """
        try:
            data = self._file(server).read_bytes()
            digest, _, rest = data.partition(b"\n")
            if digest != blake3(rest).hexdigest().encode():
                return None
            line, _, raw = rest.partition(b"\n")
            head = msgspec.json.decode(line, type=_Head)
            found = Declarations(raw, server=server, version=head.version, asked_at=head.asked_at)
        except (OSError, ValueError, RecursionError):
            return None
        wrong = (
            head.server != server
            or version not in {None, head.version}
            or fingerprint not in {None, head.fingerprint}
        )
        old = max_age_s is not None and not 0 <= time.time() - head.asked_at <= max_age_s
        return None if wrong or old else found

    def write(self, found: Declarations, *, fingerprint: str = "") -> None:
        """Keeps what a server said, in place of what it said before. `fingerprint`: what `read` may ask for.

        Raises: CallerError where nothing can be written there
        """
        asked_at = time.time() if found.asked_at is None else found.asked_at
        head = _Head(found.server, found.version, asked_at, fingerprint)
        rest = msgspec.json.encode(head) + b"\n" + found.raw
        target = self._file(found.server)
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(prefix=".", dir=target.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(blake3(rest).hexdigest().encode() + b"\n" + rest)
                Path(part).replace(target)
            except BaseException:
                Path(part).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise CallerError(
                f"{self.folder}: cannot be written: {error.strerror}.", hint="Name another folder."
            ) from None

    def forget(self, server: str) -> None:
        """Drops what is kept of a server."""
        with contextlib.suppress(OSError):
            self._file(server).unlink()

    def _file(self, server: str) -> Path:
        return self.folder / f"{blake3(server.encode()).hexdigest(length=16)}.object_info"


def _default() -> Path:
    named = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(named) if Path(named).is_absolute() else Path.home() / ".cache"  # relative ones are invalid
    return cache / "async-comfy" / "object_info"
