"""Where files lie on a server: a folder, a subfolder of it, a name. What leads elsewhere is not sent."""

from typing import NamedTuple

from async_comfy.errors import CallerError

FOLDERS = ("input", "output", "temp")


class Place(NamedTuple):
    """A file on the server, by name."""

    name: str
    subfolder: str
    folder: str

    def query(self) -> dict[str, str]:
        """What GET /view takes."""
        return {"filename": self.name, "subfolder": self.subfolder, "type": self.folder}


def place(path: str, subfolder: str, folder: str) -> Place:
    """The place of a file whose name may have a subfolder before it, which GET /view itself would ignore.

    Raises: CallerError where that leads elsewhere, or for a folder that no server has
    """
    before, _, name = path.rpartition("/")
    if not name or leads_elsewhere(path):
        raise CallerError(
            f"{path!r} is no name of a file on the server.", hint="Use a relative one, without `..`."
        )
    below = "/".join(part for part in (checked_subfolder(subfolder), before) if part)
    return Place(name, below, checked_folder(folder))


def checked_folder(folder: str) -> str:
    """One of the server's folders. Raises: CallerError for any other (the server: 500 for an upload)."""
    if folder not in FOLDERS:
        raise CallerError(f"The server has no folder {folder!r}.", hint=f"It is one of {', '.join(FOLDERS)}.")
    return folder


def checked_subfolder(subfolder: str) -> str:
    """A folder below one of those. Raises: CallerError where it leads elsewhere (the server: 400, or 403)."""
    if leads_elsewhere(subfolder):
        raise CallerError(
            f"The subfolder {subfolder!r} leads elsewhere.", hint="Use a relative one, without `..`."
        )
    return subfolder


def leads_elsewhere(path: str) -> bool:
    """Whether a path could leave the folder that it should be relative to."""
    return path.startswith(("/", "\\")) or bool({".", ".."} & set(path.replace("\\", "/").split("/")))
