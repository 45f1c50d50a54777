"""Servers by name: ``~/.config/async-comfy/config.toml``. A name's credentials go to its address alone.

    default = "gpu1"

    [servers.gpu1]
    url = "https://gpu1.example.org/comfy/"
    bearer_env = "GPU1_TOKEN"
    headers = { X-Team = "red" }

`bearer_env`, `api_key_env`, `partner_key_env` and the table `headers_env` name environment variables, so that
the file holds no secret; `bearer`, `api_key` and `partner_key` would hold it in the open.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from async_comfy import CallerError

_TEXTS = {"url", "api_key", "bearer", "partner_key"}
_VARIABLES = {"api_key_env", "bearer_env", "partner_key_env"}
_TABLES = {"headers", "headers_env"}
_KNOWN = sorted(_TEXTS | _VARIABLES | _TABLES)


def path() -> Path:
    """Where the file lies, or would (the XDG base directories)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "async-comfy" / "config.toml"


def profile(name: str | None) -> dict[str, Any]:
    """What the file says of that server, or for None of its default one; as the fields of `Server`.

    Empty where it says nothing: then the name is an address.

    Raises: CallerError where the file is not as it should be, or a variable is not set.
    """
    file = _read(path())
    servers = _table(file.get("servers", {}), "servers")
    if name is None:
        name = file.get("default")
        if name is not None and not (isinstance(name, str) and name in servers):
            raise _wrong(f"its default {name!r} is none of its servers")
    if name is None or name not in servers:
        return {}
    return _fields(name, _table(servers[name], f"servers.{name}"))


def _read(file: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"not TOML: {error}") from None
    except OSError as error:
        raise _wrong(f"cannot be read: {error.strerror}") from None


def _fields(name: str, said: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in said.items():
        if key not in _KNOWN:
            raise _wrong(f"servers.{name} has an unknown {key!r}; there are {', '.join(_KNOWN)}")
        if key in _TABLES:
            _texts(f"servers.{name}.{key}", _table(value, f"servers.{name}.{key}"))
    _texts(f"servers.{name}", {key: said[key] for key in said if key not in _TABLES})
    if "url" not in said:
        raise _wrong(f"servers.{name} has no url")
    plain = {key: said[key] for key in _TEXTS & said.keys()}
    looked_up = {key.removesuffix("_env"): _variable(name, said[key]) for key in _VARIABLES & said.keys()}
    secret = {key: _variable(name, value) for key, value in said.get("headers_env", {}).items()}
    return {**plain, **looked_up, "headers": {**said.get("headers", {}), **secret}}


def _variable(name: str, variable: str) -> str:
    try:
        return os.environ[variable]
    except KeyError:
        raise CallerError(
            f"The server {name!r} takes its credentials from {variable}, which is not set.",
            hint=f"Set it: export {variable}=...",
        ) from None


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(f"{where} is no table")
    return value


def _texts(where: str, said: Mapping[str, Any]) -> None:
    for key, value in said.items():
        if not isinstance(value, str):
            raise _wrong(f"{where}.{key} is no text")


def _wrong(what: str) -> CallerError:
    hint = 'A server is written: [servers.gpu1], then url = "http://gpu1:8188".'
    return CallerError(f"{path()}: {what}.", hint=hint)
