"""What a finished job gives."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from async_comfy.errors import CallerError, NodeProblem
from async_comfy.events import ExecutionError
from async_comfy.filenames import safe_name, safe_path

Existing = Literal["rename", "overwrite", "error", "skip"]
"""What to do when a file of that name is there: "rename" saves as ``name (1).png``, and so on."""


class FileSource(Protocol):
    """Where the bytes of an output come from: the server that made it."""

    def stream(self, file: "OutputFile", *, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes of `file` from `start`, in chunks of up to 1 MiB.

        Raises: `errors.NotFound` where the server no longer has it, `errors.Unreachable`.
        """
        ...

    async def save(
        self,
        files: "Sequence[OutputFile]",
        names: "Sequence[PurePosixPath]",
        folder: Path,
        existing: Existing,
    ) -> list[Path]:
        """Streams each file to `folder`/name, all or nothing for each; the paths written, in order."""
        ...


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that a node made. Nothing is downloaded before `read`, `stream` or `save`.

    `node` and `title`: who made it. `kind`: the server's word for it ("images", "gifs", "audio", ...).
    `filename`, `subfolder`, `folder` ("output", "temp" or "input"): where it lies on the server; untrusted.
    `cached`: made by an earlier run. `data`: the bytes themselves, where they came over the socket
    (SaveImageWebsocket). `more`: whatever else the server said of it (frame rate, format, ...).
    """

    node: str
    kind: str
    filename: str
    subfolder: str = ""
    folder: str = "output"
    title: str | None = None
    cached: bool = False
    media_type: str = "application/octet-stream"
    data: bytes | None = field(default=None, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    source: FileSource | None = field(default=None, repr=False, compare=False)

    async def read(self) -> bytes:
        """The whole file in memory. Raises what `FileSource.stream` does."""
        if self.data is not None:
            return self.data
        return b"".join([chunk async for chunk in self.stream()])

    def stream(self, *, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes from `start`, in chunks of up to 1 MiB. Raises what `FileSource.stream` does."""
        return self.origin().stream(self, start=start)

    async def save(self, path: str | Path, *, existing: Existing = "rename") -> Path:
        """Streams the file to `path`, which appears only when it is whole; the path written."""
        path = Path(path)
        return (await self.origin().save([self], [PurePosixPath(path.name)], path.parent, existing))[0]

    def origin(self) -> FileSource:
        """The server that made it. Raises: ValueError where the file is not tied to a session."""
        if self.source is None:
            raise ValueError(f"{self.filename!r} is not tied to a session, so nobody can fetch it")
        return self.source


@dataclass(frozen=True, slots=True)
class Result:
    """What a completed job made.

    `outputs`: per node id what the server said ("images": [...]), verbatim. `files`: every file in it,
    in the order of the outputs. `cached`: the nodes that did not run because the server still had their
    results. `dropped`: outputs that the server refused while it ran the rest (`partial=True`).
    `blocked`: errors that nodes reported without ending the run. `queued_s` and `ran_s`: seconds, by this
    machine's clock; None where events were missed. `seeds`: input path to the seed that was sent.
    `number`: the server's queue number.
    """

    prompt_id: str
    outputs: Mapping[str, Mapping[str, Any]]
    files: tuple[OutputFile, ...] = ()
    cached: frozenset[str] = frozenset()
    dropped: tuple[NodeProblem, ...] = ()
    blocked: tuple[ExecutionError, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict, repr=False)
    seeds: Mapping[str, int] = field(default_factory=dict)
    number: float | None = None
    queued_s: float | None = None
    ran_s: float | None = None
    server: str = ""

    def __getitem__(self, node: str) -> Mapping[str, Any]:
        """The raw output of a node, by id or by title."""
        for key in (node, *(key for key, title in self.titles.items() if title == node)):
            if key in self.outputs:
                return self.outputs[key]
        raise KeyError(f"no output of node {node!r}; there are: {', '.join(self.outputs) or 'none'}")

    def __iter__(self) -> Iterator[OutputFile]:
        return iter(self.files)

    @property
    def images(self) -> tuple[OutputFile, ...]:
        """The files that are pictures."""
        return self._of("image/")

    @property
    def videos(self) -> tuple[OutputFile, ...]:
        """The files that are videos (animated pictures that a node lists as "gifs" too)."""
        return tuple(f for f in self.files if f.media_type.startswith("video/") or f.kind == "gifs")

    @property
    def audio(self) -> tuple[OutputFile, ...]:
        """The files that are sound."""
        return self._of("audio/")

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that nodes showed."""
        found: list[str] = []
        for output in self.outputs.values():
            value = output.get("text")
            items: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
            found.extend(item for item in items if isinstance(item, str))
        return tuple(found)

    async def save(
        self,
        folder: str | Path,
        *,
        name: str = "{filename}",
        existing: Existing = "rename",
        temporary: bool = True,
    ) -> list[Path]:
        """Streams every file into `folder` (made if missing); the paths written, in order of `files`.

        `name` is a template over {filename}, {stem}, {node}, {title}, {index}, {prompt_id}, {seed}; the
        suffix is added where it names none. It may make subfolders and can never leave `folder`, whatever
        the server named its files. A file appears only when it is whole. `temporary=False` leaves out
        previews (folder "temp") where the job has other files.

        Raises: `errors.CallerError` where the folder cannot be written, `errors.NotFound`,
        `errors.Unreachable`.
        """
        files = [f for f in self.files if temporary or f.folder != "temp"] or list(self.files)
        if not files:
            return []
        names = [self._name(name, file, index) for index, file in enumerate(files)]
        return await files[0].origin().save(files, names, Path(folder), existing)

    def _name(self, template: str, file: OutputFile, index: int) -> PurePosixPath:
        """The file's place below the folder. Only the template makes folders; values cannot."""
        kept = PurePosixPath(file.filename.replace("\\", "/")).name
        values = {
            "filename": kept,
            "stem": PurePosixPath(kept).stem,
            "node": file.node,
            "title": file.title or file.node,
            "index": index,
            "prompt_id": self.prompt_id,
            "seed": next(iter(self.seeds.values()), 0),
        }
        flat = {key: safe_name(value) if isinstance(value, str) else value for key, value in values.items()}
        try:
            name = template.format_map(flat)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise CallerError(
                f"The name {template!r} does not fit: {error}.", hint=f"It may use {{{'}, {'.join(values)}}}."
            ) from None
        suffix = PurePosixPath(kept).suffix
        return safe_path(name if name.endswith(suffix) else name + suffix)

    def _of(self, media: str) -> tuple[OutputFile, ...]:
        return tuple(f for f in self.files if f.media_type.startswith(media))


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is right now.

    `state`: "queued", "running", ... `fraction`: 0..1 of the whole, weighted by nodes and steps.
    `ahead`: at most so many prompts run before it (while queued). `node`, `title`, `class_type`: what
    runs now. `step` of `steps`: that node's own. `eta_s`: seconds left at the pace of the current node's
    steps; None while nobody can know. `steps_per_s`: that pace.
    """

    state: str
    fraction: float = 0.0
    ahead: int | None = None
    node: str | None = None
    title: str | None = None
    class_type: str | None = None
    step: float = 0
    steps: float = 0
    steps_per_s: float | None = None
    eta_s: float | None = None
