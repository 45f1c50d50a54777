"""What a batch has done, kept in its output folder, so that the same command goes on where it stopped.

Also after a crash: a prompt is written down before it is sent, so whoever comes later asks the server what
became of it, and sends nothing twice.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from io import FileIO
from pathlib import Path
from typing import Any

from async_comfy import CallerError, ComfyError

NAME = "async-comfy.jsonl"


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt that went to a server and of which no end was written. `digest`: of what it was made of."""

    digest: str
    prompt_id: str
    server: str


@dataclass(frozen=True, slots=True)
class Record:
    """One batch: when it began, and what became of its runs, by their number from 1.

    `root`: what its random seeds are drawn from. `done`, `failed`: the digest of what was run.
    """

    key: str
    began: date
    root: int
    done: dict[int, str] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    sent: dict[int, Sent] = field(default_factory=dict)

    def learn(self, line: dict[str, Any]) -> None:
        """One line about one of its runs. A later one counts more."""
        run, state = line.get("run"), line.get("state")
        digest, prompt_id, server = (str(line.get(name, "")) for name in ("digest", "prompt_id", "server"))
        if not isinstance(run, int):
            return
        for known in (self.done, self.failed, self.sent):
            known.pop(run, None)
        if state == "sent":
            self.sent[run] = Sent(digest, prompt_id, server)
        elif state in {"done", "failed"}:
            (self.done if state == "done" else self.failed)[run] = digest


class Manifest:
    """A file of JSON lines, only ever appended to; a line that is cut off or foreign is passed over.

    A line with "began" begins a batch, one with "run" says what became of one run of it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._made = False  # by this process

    def latest(self, key: str) -> Record | None:
        """The newest batch of that key. Raises: CallerError where the file cannot be read."""
        found = None
        for line in self._lines():
            if line.get("batch") != key:
                continue
            if "began" in line:
                found = _begun(line)
            elif found is not None:
                found.learn(line)
        return found

    def begin(self, record: Record) -> None:
        """A batch begins. Raises: CallerError where nothing can be written there."""
        self._append({"batch": record.key, "began": record.began.isoformat(), "root": record.root})

    def sent(self, key: str, run: int, sent: Sent) -> None:
        """A prompt is about to be sent. Raises: CallerError."""
        where = {"prompt_id": sent.prompt_id, "server": sent.server}
        self._append({"batch": key, "run": run, "state": "sent", "digest": sent.digest, **where})

    def withdrawn(self, key: str, run: int) -> None:
        """It was refused or cancelled: the run is still to be done. Raises: CallerError."""
        self._append({"batch": key, "run": run, "state": "withdrawn"})

    def done(self, key: str, run: int, digest: str, paths: list[Path], **told: Any) -> None:
        """One run is saved. Raises: CallerError."""
        files = [os.path.relpath(path, self.path.parent) for path in paths]
        self._append({"batch": key, "run": run, "state": "done", "digest": digest, **told, "files": files})

    def failed(self, key: str, run: int, digest: str, error: ComfyError, **told: Any) -> None:
        """One run ended badly. Raises: CallerError."""
        problems = [str(problem) for problem in getattr(error, "problems", ())]
        why = {"kind": type(error).__name__, "message": error.message, "problems": problems}
        self._append({"batch": key, "run": run, "state": "failed", "digest": digest, **told, "error": why})

    def unmake(self) -> None:
        """Takes the file away if this process made it, where nothing came of it."""
        if self._made:
            with suppress(OSError):
                self.path.unlink()

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                for line in file:
                    try:
                        decoded = json.loads(line)
                    except (ValueError, RecursionError):
                        continue
                    if isinstance(decoded, dict):
                        yield decoded
        except FileNotFoundError:
            return
        except OSError as error:
            raise unusable(self.path, error) from None

    def _append(self, line: dict[str, Any]) -> None:
        # One write to a file that is opened for appending: lines of two processes do not mix.
        try:
            if not self.path.exists():
                self._made = True
                self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                file.write(_break(file) + json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise unusable(self.path, error) from None


def _break(file: FileIO) -> bytes:
    """A line break where a crash cut the last line off."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _begun(line: dict[str, Any]) -> Record | None:
    try:
        return Record(line["batch"], date.fromisoformat(line["began"]), int(line["root"]))
    except (KeyError, TypeError, ValueError):
        return None


def unusable(path: Path, error: OSError) -> CallerError:
    """The error where a file in the output folder cannot be had."""
    return CallerError(f"Cannot use {path}: {error.strerror}.", hint="Choose another folder with --output.")
