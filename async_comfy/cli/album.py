"""Where results go: a folder, with names for the files and a manifest of what is there."""

import hashlib
import os
from contextlib import suppress
from datetime import date
from pathlib import Path
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from async_comfy import CallerError, ComfyError, Result
from async_comfy.cli.manifest import Manifest, Record, Sent
from async_comfy.cli.naming import Naming
from async_comfy.results import Existing

if TYPE_CHECKING:
    from async_comfy.cli.order import Variant


class Album:
    """Saves what the runs of a batch make, and remembers what became of each, unless told not to."""

    def __init__(
        self,
        folder: Path,
        naming: Naming,
        *,
        record: Record,
        remember: bool = True,
        existing: Existing = "rename",
    ) -> None:
        self.folder = folder
        self.naming = naming
        self.record = record
        self.existing = existing
        self.manifest = Manifest(folder) if remember else None
        self.begun = bool(record.done or record.failed or record.sent)
        self.accepted = self.begun

    @property
    def remembers(self) -> bool:
        """Whether the same command can go on where an earlier one stopped."""
        return self.manifest is not None

    def sending(self, variant: "Variant", prompt_id: str, server: str) -> None:
        """A run is about to be sent. Raises: CallerError, where that cannot be written down."""
        if self.manifest is None:
            return
        if not self.begun:
            self.manifest.begin(self.record)
            self.begun = True
        self.manifest.sent(self.record.key, variant.index, Sent(variant.digest, prompt_id, server))

    def withdrawn(self, variant: "Variant") -> None:
        """It did not come to run: refused, or cancelled. Unwritten, the next call asks the server."""
        if self.manifest is not None and self.begun:
            with suppress(CallerError):
                self.manifest.withdrawn(self.record.key, variant.index)

    def failed(self, variant: "Variant", error: ComfyError, server: str) -> None:
        """It ended badly."""
        self.accepted = True
        if self.manifest is not None and self.begun:
            self.manifest.failed(
                self.record.key,
                variant.index,
                variant.digest,
                error,
                **_where(variant),
                prompt_id=error.prompt_id,
                server=server,
            )

    async def keep(self, variant: "Variant", result: Result, server: str) -> list[Path]:
        """Saves every file of a run; the paths. Raises: what `Result.save` does."""
        self.accepted = True
        name = self.naming.fill(
            workflow=variant.name,
            date=self.record.began,
            index=variant.index,
            seed=next(iter(result.seeds.values()), 0),
        )
        if len(result.files) > 1 and "{filename}" not in name:
            name += "_{index:02}"  # the library's index: which file of this run
        paths = await result.save(self.folder, name=name, existing=self.existing, temporary=False)
        if self.manifest is not None:
            self.manifest.done(
                self.record.key,
                variant.index,
                variant.digest,
                paths,
                **_where(variant),
                prompt_id=result.prompt_id,
                server=server,
                seeds=dict(result.seeds),
            )
        return [_shown(path) for path in paths]

    def close(self) -> None:
        """Leaves nothing behind where no server took anything."""
        if self.manifest is not None and not self.accepted:
            self.manifest.unmake()


def _where(variant: "Variant") -> dict[str, Any]:
    return {"workflow": variant.name, **({} if variant.row is None else {"row": variant.row})}


def digest(*parts: object) -> str:
    """A short name for what was asked for: equal for equal parts. Bytes count as they are."""
    made = hashlib.sha256()
    for part in parts:
        made.update(part if isinstance(part, bytes) else repr(part).encode())
        made.update(b"\0")
    return made.hexdigest()[:16]


def new_record(key: str) -> Record:
    """A batch that begins today; nothing is written of it yet."""
    today = date.today()  # noqa: DTZ011 - people look for the folder of their own day
    return Record(key, today, SystemRandom().getrandbits(64))


def check_writable(folder: Path) -> None:
    """Raises: CallerError where files could not be saved, before a GPU works in vain. Makes nothing."""
    folder = folder.absolute()
    there = next(place for place in (folder, *folder.parents) if _exists(place))
    if not there.is_dir():
        raise CallerError(f"Cannot write to {folder}: {there} is a file.", hint="Choose another --output.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CallerError(
            f"Cannot write to {folder}: {there} is not writable for you.", hint="Choose another --output."
        )


def _exists(place: Path) -> bool:
    try:
        return os.path.lexists(place)
    except ValueError:
        raise CallerError("The output folder's name holds a zero byte.", hint="Choose another.") from None


def _shown(path: Path) -> Path:
    """The path as short as it is true: from here, where it lies below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
