"""`--json`: every event as one JSON object per line. `run --help` has the schema."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from async_comfy import ComfyError, Event, Job, Result, Session
from async_comfy.cli import exits
from async_comfy.cli.report import Place, PlacedJob, Report


class Ndjson(Report):
    """Lines for programs on stdout; nothing on stderr but what is fatal."""

    def begin(self, name: str, total: int, done: int) -> None:
        """{"type": "begin"}."""
        self._emit("begin", workflow=name, total=total, done=done)

    def submitted(self, index: int, job: PlacedJob, place: Place) -> None:
        """{"type": "submitted"}."""
        self.places.add(place)
        if isinstance(place, Session) and isinstance(job, Job):
            self._emit("submitted", index=index, prompt_id=job.id, number=job.number, server=place.url)

    def placed(self, index: int, prompt_id: str, server: str) -> None:
        """{"type": "submitted"}, of a pool: number is null."""
        self._emit("submitted", index=index, prompt_id=prompt_id, number=None, server=server)

    def left(self, index: int, job: Job, session: Session) -> None:
        """{"type": "submitted"}: with --no-wait the only line of a run."""
        self.submitted(index, job, session)

    async def follow(self, index: int, job: PlacedJob) -> None:
        """An object for each event, with the event's own type and fields."""
        try:
            async for event in job:
                self._emit(event.type, index=index, **_fields(event))
        except ComfyError:
            return  # who awaits the job hears of it

    def saved(self, index: int, result: Result, paths: Sequence[Path]) -> None:
        """{"type": "result"}: the last line of a run that went well."""
        self._emit(
            "result",
            index=index,
            prompt_id=result.prompt_id,
            paths=[str(path) for path in paths],
            seeds=dict(result.seeds),
            cached=sorted(result.cached),
            texts=result.texts,
            dropped=result.dropped,
            queued_s=result.queued_s,
            ran_s=result.ran_s,
        )

    def failed(self, index: int, error: ComfyError) -> None:
        """{"type": "failed"}: the last line of a run that did not."""
        self._emit("failed", index=index, **_told(error))

    def ended(self, made: int, failed: int, left: int, hint: str) -> None:
        """{"type": "end"}: the last line of a batch of many."""
        self._emit("end", done=made, failed=failed, left=left)

    def fatal(self, error: ComfyError) -> None:
        """{"type": "error"}: the last line of all where the command gives up."""
        self._emit("error", **_told(error))

    def note(self, line: str) -> None:
        """{"type": "note"}."""
        self._emit("note", text=line)

    def _emit(self, kind: str, **fields: Any) -> None:
        line = msgspec.json.encode({"type": kind, **fields}, enc_hook=repr)
        super().print(line.decode())


def _told(error: ComfyError) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "message": error.message,
        "hint": exits.hint(error),
        "prompt_id": error.prompt_id,
        "problems": list(getattr(error, "problems", ())),
        "exit": exits.code(error),
    }


def _fields(event: Event) -> dict[str, Any]:
    """The event's fields; bytes as their number only."""
    return {
        name: {"bytes": len(value)} if isinstance(value, bytes) else value
        for name, value in msgspec.structs.asdict(event).items()
    }
