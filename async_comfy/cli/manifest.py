"""What a batch has done, kept in its output folder, so that the same command goes on where it stopped."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from io import FileIO
from pathlib import Path
from typing import Any

from async_comfy import CallerError

NAME = "async-comfy.jsonl"

Seed = int | str
"""What `Workflow.with_seed` takes."""


@dataclass(frozen=True, slots=True)
class Record:
    """One batch: when it began, the seed of each run, and which runs (from 1) are done."""

    key: str
    began: date
    seeds: Sequence[Seed]
    done: set[int] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return len(self.done) == len(self.seeds)


class Manifest:
    """A file of JSON lines, only ever appended to; a line that is cut off or foreign is passed over.

    A line with "seeds" begins a batch, one with "index" says that one run of it is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def unfinished(self, key: str) -> Record | None:
        """The newest batch of that key, if something of it is left to do. Raises: CallerError."""
        found = None
        for line in self._lines():
            if line.get("batch") != key:
                continue
            if "seeds" in line:
                found = _begun(line)
            elif found is not None and line.get("index") in range(1, len(found.seeds) + 1):
                found.done.add(line["index"])
        return None if found is None or found.complete else found

    def begin(self, record: Record) -> None:
        """A batch begins. Raises: CallerError where nothing can be written there."""
        self._append({"batch": record.key, "began": record.began.isoformat(), "seeds": list(record.seeds)})

    def done(self, key: str, index: int, prompt_id: str, seeds: dict[str, int], paths: list[Path]) -> None:
        """One run is saved. Raises: CallerError."""
        files = [os.path.relpath(path, self.path.parent) for path in paths]
        self._append(
            {"batch": key, "index": index, "prompt_id": prompt_id, "seeds_sent": seeds, "files": files}
        )

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unusable(self.path, error) from None
        for line in text.splitlines():
            try:
                decoded = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(decoded, dict):
                yield decoded

    def _append(self, line: dict[str, Any]) -> None:
        # One write to a file that is opened for appending: lines of two processes do not mix.
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+", buffering=0) as file:
                file.write(_break(file) + json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise _unusable(self.path, error) from None


def _break(file: FileIO) -> bytes:
    """A line break where a crash cut the last line off."""
    if file.seek(0, os.SEEK_END) == 0:
        return b""
    file.seek(-1, os.SEEK_END)
    return b"" if file.read(1) == b"\n" else b"\n"


def _begun(line: dict[str, Any]) -> Record | None:
    try:
        seeds = [seed if isinstance(seed, int) else str(seed) for seed in line["seeds"]]
        return Record(line["batch"], date.fromisoformat(line["began"]), seeds)
    except (KeyError, TypeError, ValueError):
        return None


def _unusable(path: Path, error: OSError) -> CallerError:
    return CallerError(f"Cannot use {path}: {error.strerror}.", hint="Choose another folder with --output.")
