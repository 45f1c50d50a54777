"""One process at a time for a batch. The lock is the system's: it ends with its holder, also in a crash."""

import errno
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from async_comfy import CallerError
from async_comfy.cli.manifest import unusable

if sys.platform == "win32":
    import msvcrt

    def _take(file: FileIO) -> None:
        file.seek(1 << 20)  # what is locked there cannot be read: not the words of the holder
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: FileIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK}
_MOST = 200  # bytes that a holder says of itself


@contextmanager
def locked(folder: Path, key: str) -> Iterator[None]:
    """The batch of that key is this process's, in that folder, which is made; it stays if it is used.

    Raises: CallerError, saying who has the batch, or why nothing can be written there.
    """
    path = folder / f".async-comfy.{key}.lock"
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        file = _held(path)
    except OSError as error:
        raise unusable(path, error) from None
    try:
        with suppress(OSError):  # of a full disk others will tell
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"{os.getpid()} on {socket.gethostname()}, since {since}".encode())
        yield
    finally:
        if sys.platform == "win32":
            file.close()  # which removes no file that is open
        with suppress(OSError):
            path.unlink()
            for place in made:
                place.rmdir()
        file.close()


def _held(path: Path) -> FileIO:
    """The file, locked: the one that still lies there, as its last holder may just have removed it."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
        try:
            _lock(file)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def _lock(file: FileIO) -> None:
    """Raises: CallerError where another process has it."""
    try:
        _take(file)
    except OSError as error:
        if error.errno not in _HELD:
            return  # this file system has no locks
        file.seek(0)
        holder = file.read(_MOST).decode(errors="replace")
        raise CallerError(
            f"Another process runs this batch already{holder and f': {holder}'}.",
            hint="Let it end, or end it: then the same command goes on. Another --output makes all anew.",
        ) from None
