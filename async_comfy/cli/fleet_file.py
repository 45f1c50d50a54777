"""A fleet file as commands read it, and the one thing that they write to it."""

import os
from pathlib import Path
from typing import Any

from async_comfy import CallerError, Fleet, Server


def load(file: Path) -> Fleet:
    """The fleet. Raises: CallerError for a file that is none, or that names no server."""
    fleet = Fleet.load(file)
    if not fleet.servers:
        hint = 'Begin one with [[server]], then url = "http://host:8188".'
        raise CallerError(f"{file} names no server.", hint=hint)
    return fleet


def meant(fleet: Fleet, name: str, file: Path) -> Server:
    """The server of that name or url. Raises: CallerError, saying which there are."""
    for server in fleet.servers:
        if name in (server.name, server.url, server.url.rstrip("/")):
            return server
    there = ", ".join(server.name for server in fleet.servers) or "none"
    raise CallerError(f"{file} has no server {name!r}.", hint=f"There are: {there}.")


def write(file: Path, server: Server, *, draining: bool) -> None:
    """Says in the file that this server drains, or does not. All else stays. Raises: CallerError."""
    import tomlkit

    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8"))
        names = [one.name for one in load(file).servers]  # in the order of the file
        entry: Any = document["server"][names.index(server.name)]
        if draining:
            entry["drain"] = True
        else:
            entry.pop("drain", None)
        part = file.with_name(f".{file.name}.{os.getpid()}.part")
        part.write_text(tomlkit.dumps(document), encoding="utf-8")
        part.chmod(file.stat().st_mode)
        part.replace(file.resolve())
    except OSError as error:
        raise CallerError(f"Cannot write {file}: {error.strerror}.", hint="Check its permissions.") from None
