"""Servers by name: ``~/.config/async-comfy/config.toml``. A name's credentials go to its address alone.

    default = "gpu1"

    [servers.gpu1]
    url = "https://gpu1.example.org/comfy/"
    bearer_env = "GPU1_TOKEN"
    headers = { X-Team = "red" }

`bearer_env`, `api_key_env`, `partner_key_env` and the table `headers_env` name environment variables,
`bearer_keyring`, `api_key_keyring` and `partner_key_keyring` entries of the system's keyring, so that the
file holds no secret; `bearer`, `api_key` and `partner_key` would hold it in the open. An entry is a user name
of the service "async-comfy", or a table { service = ..., username = ... }.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from async_comfy import CallerError
from async_comfy.cli import keyring_entry

if TYPE_CHECKING:
    import click

NAME = re.compile(r"[^\s/:=@]+")
SECRETS = ("bearer", "api_key", "partner_key")
_TEXTS = {"url", *SECRETS}
_VARIABLES = {f"{kind}_env" for kind in SECRETS}
_TABLES = {"headers", "headers_env"}
_ENTRIES = {f"{kind}_keyring" for kind in SECRETS}
_KNOWN = sorted(_TEXTS | _VARIABLES | _TABLES | _ENTRIES)


def path() -> Path:
    """Where the file lies, or would (the XDG base directories)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "async-comfy" / "config.toml"


def profile(name: str | None) -> dict[str, Any]:
    """What the file says of that server, or for None of its default one; as the fields of `Server`.

    Empty where it says nothing: then the name is an address.

    Raises: CallerError where the file is not as it should be, a variable is not set, or the keyring has no
        such entry.
    """
    servers, default = read()
    chosen = default if name is None else name
    if chosen is None or chosen not in servers:
        return {}
    return _fields(chosen, servers[chosen])


def read() -> tuple[dict[str, Mapping[str, Any]], str | None]:
    """The servers by name, as they are written, and the name of the default one. Raises: CallerError."""
    file = parsed(text())
    servers = _table(file.get("servers", {}), "servers")
    default = file.get("default")
    if default is not None and not (isinstance(default, str) and default in servers):
        raise _wrong(f"its default {default!r} is none of its servers")
    return {name: _table(said, f"servers.{name}") for name, said in servers.items()}, default


def names(context: "click.Context | None", option: "click.Parameter | None", begun: str) -> list[str]:
    """Those that begin so, for a shell's completion; none where the file is not as it should be."""
    try:
        return sorted(name for name in read()[0] if name.startswith(begun))
    except CallerError:
        return []


def misspelt(name: str) -> str:
    """What to do about a name that no host has: which names there are. Empty for what is no such name."""
    there = ", ".join(names(None, None, ""))
    if not there or not NAME.fullmatch(name) or "." in name:
        return ""
    return f"No server is called {name!r} in {path()}; there are: {there}."


def text() -> str:
    """The file as it is; empty where there is none. Raises: CallerError."""
    try:
        return path().read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise _wrong(f"not TOML: {error}") from None
    except OSError as error:
        raise _wrong(f"cannot be read: {error.strerror}") from None


def parsed(written: str) -> Mapping[str, Any]:
    """The file's values. Raises: CallerError where that is no TOML."""
    import tomllib

    try:
        return tomllib.loads(written)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(f"not TOML: {error}") from None


def check(name: str, said: Mapping[str, Any]) -> None:
    """Raises: CallerError where a server is not written as it should be."""
    for key, value in said.items():
        where = f"servers.{name}.{key}"
        if key not in _KNOWN:
            raise _wrong(f"servers.{name} has an unknown {key!r}; there are {', '.join(_KNOWN)}")
        if key in _TABLES:
            for inner, one in _table(value, where).items():
                _text(one, f"{where}.{inner}")
        elif key in _ENTRIES:
            _entry(value, where)
        else:
            _text(value, where)
    if "url" not in said:
        raise _wrong(f"servers.{name} has no url")


def credentials(said: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a server is given, and from where; never the secret itself."""
    for kind in SECRETS:
        if kind in said:
            yield kind, "this file"
        if f"{kind}_env" in said:
            yield kind, f"${said[f'{kind}_env']}"
        if f"{kind}_keyring" in said:
            yield kind, f"keyring {' '.join(_entry(said[f'{kind}_keyring'], kind))}"
    yield from ((f"header {name}", "this file") for name in said.get("headers", {}))
    yield from ((f"header {name}", f"${variable}") for name, variable in said.get("headers_env", {}).items())


def _fields(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    check(name, said)
    plain = {key: said[key] for key in _TEXTS & said.keys()}
    looked_up = {key.removesuffix("_env"): _variable(name, said[key]) for key in _VARIABLES & said.keys()}
    kept = {
        key.removesuffix("_keyring"): keyring_entry.read(name, *_entry(said[key], f"servers.{name}.{key}"))
        for key in _ENTRIES & said.keys()
    }
    secret = {key: _variable(name, value) for key, value in said.get("headers_env", {}).items()}
    return {**plain, **looked_up, **kept, "headers": {**said.get("headers", {}), **secret}}


def _variable(name: str, variable: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise CallerError(
            f"The server {name!r} takes its credentials from {variable}, which is not set.",
            hint=f"Set it: export {variable}=...",
        ) from None


def _entry(value: Any, where: str) -> tuple[str, str]:
    """Service and user name of a keyring's entry: as a table, or the user name of our own service alone."""
    if isinstance(value, str):
        return keyring_entry.SERVICE, value
    said = _table(value, where)
    if said.keys() != {"service", "username"}:
        raise _wrong(f"{where} is neither a user name nor {{ service = ..., username = ... }}")
    for key, one in said.items():
        _text(one, f"{where}.{key}")
    return said["service"], said["username"]


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{where} is no table")
    return value


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _wrong(f"{where} is no text")


def _wrong(what: str) -> CallerError:
    hint = 'A server is written: [servers.gpu1], then url = "http://gpu1:8188".'
    return CallerError(f"{path()}: {what}.", hint=hint)
