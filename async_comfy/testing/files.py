"""The folders of a server: input, output, temp. Names from clients never lead out of them."""

import os
import random
import re
import string
import tempfile
from pathlib import Path
from typing import Literal

FolderKind = Literal["input", "output", "temp"]
KINDS: tuple[FolderKind, ...] = ("input", "output", "temp")


class Outside(Exception):
    """A name leads out of its folder."""


class Folders:
    """Three folders under one root. Without a `root` they live in a temporary one, removed by `close`."""

    def __init__(self, root: Path | None = None) -> None:
        self._temporary = None if root is not None else tempfile.TemporaryDirectory(prefix="simulated-comfy-")
        self.root = Path(root if self._temporary is None else self._temporary.name)  # type: ignore[arg-type]  # one of the two is set
        for kind in KINDS:
            (self.root / kind).mkdir(parents=True, exist_ok=True)
        self._numbers: dict[Path, int] = {}
        self._chance = random.Random()  # noqa: S311 - file names, no secret

    def __getitem__(self, kind: FolderKind) -> Path:
        return self.root / kind

    def within(self, kind: FolderKind, *parts: str) -> Path:
        """A path inside a folder. Raises: `Outside`."""
        folder = self[kind].resolve()
        path = Path(os.path.normpath(folder.joinpath(*parts)))
        if path != folder and folder not in path.parents:
            raise Outside(str(path))
        return path

    def annotated(self, name: str, default: FolderKind = "input") -> tuple[str, FolderKind]:
        """A name that may end in " [output]", " [input]" or " [temp]", and the folder that it means."""
        for kind in KINDS:
            if name.endswith(f"[{kind}]"):
                return name[: -len(kind) - 2].rstrip(), kind
        return name, default

    def find(self, name: str) -> Path | None:
        """The input file of that (annotated) name, if there is one."""
        plain, kind = self.annotated(name)
        try:
            path = self.within(kind, plain)
        except Outside:
            return None
        return path if path.is_file() else None

    def inputs(self) -> list[str]:
        """The files in the input folder itself, as LoadImage offers them."""
        return sorted(path.name for path in self["input"].iterdir() if path.is_file())

    def next(
        self, kind: FolderKind, prefix: str, suffix: str, width: int = 0, height: int = 0
    ) -> tuple[Path, str]:
        """The next free numbered file of a prefix ("sub/name" makes sub), and its subfolder."""
        prefix = prefix.replace("%width%", str(width)).replace("%height%", str(height))
        target = self.within(kind, prefix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target not in self._numbers:
            self._numbers[target] = _last(target)
        self._numbers[target] += 1
        subfolder = target.parent.relative_to(self[kind].resolve()).as_posix()
        path = target.parent / f"{target.name}_{self._numbers[target]:05}_{suffix}"
        return path, "" if subfolder == "." else subfolder

    def temp_prefix(self) -> str:
        """A prefix for previews, as the real server makes one for each PreviewImage node."""
        return "ComfyUI_temp_" + "".join(self._chance.choices(string.ascii_lowercase, k=5))

    def clear_temp(self) -> None:
        """Empties the temp folder, as a server does when it starts, and forgets the numbers it gave."""
        self._numbers.clear()
        for path in sorted(self["temp"].rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Removes the folders, if they are temporary."""
        if self._temporary is not None:
            self._temporary.cleanup()


def _last(target: Path) -> int:
    """The highest number that a file of that name has, beside it, already."""
    taken = re.compile(re.escape(target.name) + r"_(\d+)_?\..*", re.IGNORECASE)
    return max(
        (int(m[1]) for path in target.parent.iterdir() if (m := taken.fullmatch(path.name))), default=0
    )
