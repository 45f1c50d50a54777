"""Where results go: a folder, with names for the files and a manifest of what is there."""

import hashlib
import os
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from async_comfy import CallerError, Result, Workflow
from async_comfy.cli.manifest import Manifest, Record, Seed
from async_comfy.cli.naming import Naming
from async_comfy.results import Existing


class Album:
    """Saves what the runs of a batch make, and remembers which runs that were, unless told not to."""

    def __init__(
        self,
        folder: Path,
        naming: Naming,
        workflow: str,
        *,
        record: Record,
        remember: bool = True,
        existing: Existing = "rename",
    ) -> None:
        self.folder = folder
        self.naming = naming
        self.workflow = workflow
        self.record = record
        self.existing = existing
        self.manifest = Manifest(folder) if remember else None
        self.begun = False

    @property
    def remembers(self) -> bool:
        """Whether the same command can go on where an earlier one stopped."""
        return self.manifest is not None

    def begin(self) -> None:
        """The server accepts runs of this batch: from now on it is remembered. Raises: CallerError."""
        if self.manifest is not None and not self.begun and not self.record.done:
            self.manifest.begin(self.record)
        self.begun = True

    async def keep(self, index: int, result: Result) -> list[Path]:
        """Saves every file of run number `index`; the paths. Raises: what `Result.save` does."""
        name = self.naming.fill(
            workflow=self.workflow,
            date=self.record.began,
            index=index,
            seed=next(iter(result.seeds.values()), 0),
        )
        if len(result.files) > 1 and "{filename}" not in name:
            name += "_{index:02}"  # the library's index: which file of this run
        paths = await result.save(self.folder, name=name, existing=self.existing, temporary=False)
        if self.manifest is not None:
            self.manifest.done(self.record.key, index, result.prompt_id, dict(result.seeds), paths)
        return [_shown(path) for path in paths]


def batch_key(workflow: Workflow, options: Sequence[object]) -> str:
    """What makes a batch the same batch: the prompt as it is before seeds vary, and the options."""
    files = {(item.node, item.input): repr(item.file) for item in workflow.files()}
    digest = hashlib.sha256(workflow.encode(files=files))
    digest.update(repr(options).encode())
    return digest.hexdigest()[:16]


def open_record(folder: Path, key: str, draw: Callable[[], list[Seed]]) -> Record:
    """The batch to go on with, or a new one with new seeds, which nothing is written of yet.

    Raises: CallerError where the folder cannot be read
    """
    today = date.today()  # noqa: DTZ011 - people look for the folder of their own day
    return Manifest(folder).unfinished(key) or Record(key, today, draw())


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
