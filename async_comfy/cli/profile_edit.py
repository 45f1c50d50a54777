"""Changes to the profile file: its comments and its order stay."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from async_comfy import CallerError
from async_comfy.cli import profile_file


class Edit:
    """The file while it is changed."""

    def __init__(self, written: str) -> None:
        import tomlkit

        self.document = tomlkit.parse(written)

    @property
    def servers(self) -> Any:
        """The table of servers, made where there is none."""
        import tomlkit

        if "servers" not in self.document:
            self.document["servers"] = tomlkit.table(is_super_table=True)
        return self.document["servers"]

    def put(self, name: str, said: Mapping[str, Any], *, replace: bool) -> None:
        """Raises: CallerError where the name is taken."""
        if name in self.servers and not replace:
            raise CallerError(
                f"There is a server {name!r} already.", hint="Choose another name, or --replace it."
            )
        self.servers[name] = dict(said)

    def take(self, name: str) -> dict[str, Any]:
        """Takes a server out: what was said of it. Raises: CallerError."""
        self._known(name)
        said = dict(self.servers.pop(name))
        if self.document.get("default") == name:
            del self.document["default"]
        return said

    def default(self, name: str) -> None:
        """Raises: CallerError."""
        self._known(name)
        if "default" in self.document:
            self.document["default"] = name
            return
        import tomlkit

        rest = self.document.as_string()  # a value of the whole must stand before the first table
        self.document = tomlkit.parse(f"default = {tomlkit.item(name).as_string()}\n\n{rest.lstrip()}")

    def _known(self, name: str) -> None:
        if name not in self.servers:
            there = ", ".join(self.servers) or "none yet"
            raise CallerError(f"There is no server {name!r}.", hint=f"There are: {there}.")


@contextmanager
def editing() -> Iterator[Edit]:
    """The file to change; written, whole or not at all, when the block ends well.

    Raises: CallerError where the file is not as it should be, or cannot be written.
    """
    profile_file.read()
    edit = Edit(profile_file.text())
    yield edit
    _write(edit.document.as_string().encode())


def _write(data: bytes) -> None:
    """For the user alone to read: there may be secrets in it."""
    target = profile_file.path().resolve()
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.touch(mode=0o600, exist_ok=False)
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise CallerError(
            f"{target}: cannot be written: {error.strerror}.", hint="Check who may write there."
        ) from None
