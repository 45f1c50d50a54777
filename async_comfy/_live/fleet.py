"""Which servers there are, and how jobs share them: as objects, or as a `fleet.toml`.

depth = 2                       # prompts at one server: one that runs, one that waits

[[server]]
url = "http://gpu1:8188"
labels = ["24gb"]
bearer_env = "GPU1_TOKEN"       # secrets stay in the environment
# drain = true                  # nothing new goes there until this line is gone

[[lane]]
name = "video"
ceiling = 0.75                  # of the servers at most
"""

import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from async_comfy._live.access import access
from async_comfy.errors import CallerError
from async_comfy.protocol.lanes import Lane
from async_comfy.protocol.scheduler import AHEAD_S, DEPTH
from async_comfy.workflow.spelling import nearest

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a fleet.

    `url`: as `Session` takes it. `name`: what to call it; without, host and port. `labels`: what jobs can
    ask for. `lanes`: it takes jobs of these lanes alone. `models`: how many sets of models it holds at once;
    None: to be learned. `vram_gb`: None: asked. `drain`: it is given nothing new. `options`: of its `Session`
    (credentials, ssl, proxy).

    Raises: CallerError for what no server can be.
    """

    url: str
    name: str = ""
    labels: AbstractSet[str] = frozenset()
    lanes: AbstractSet[str] | None = None
    models: int | None = None
    vram_gb: float | None = None
    drain: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", address(self.url))
        for key in ("labels", "lanes"):
            names = getattr(self, key)
            if isinstance(names, str):
                raise CallerError(
                    f"{key} is {names!r}; it must be a set of names.", hint=f"Write {{{names!r}}}."
                )
            if names is not None:
                object.__setattr__(self, key, frozenset(names))
        if self.models is not None and not self.models >= 1:
            raise CallerError(f"models is {self.models}; a server holds at least one set.")
        if self.vram_gb is not None and not 0.0 <= self.vram_gb < math.inf:
            raise CallerError(f"vram_gb is {self.vram_gb}; it must be a size.", hint="Drop it: it is asked.")

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    def reached_alike(self, other: "Server") -> bool:
        """Whether one connection does for both: the same address, and the same credentials."""
        asked = (self.vram_gb is None) == (other.vram_gb is None)
        return asked and (self.url, self.options) == (other.url, other.options)


def as_server(server: "Server | str", options: Mapping[str, Any] | None = None) -> Server:
    """A `Server`, or one at that address with these options. Raises: CallerError for no address."""
    if isinstance(server, Server):
        return replace(server, options={**(options or {}), **server.options}) if options else server
    return Server(server, options=dict(options or {}))


@dataclass(frozen=True, slots=True)
class Fleet:
    """The servers, the lanes, and the limits."""

    servers: tuple[Server, ...] = ()
    lanes: tuple[Lane, ...] = ()
    depth: int = DEPTH
    ahead_s: float = AHEAD_S

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Fleet":
        """The fleet in a TOML file. Raises: CallerError, saying which file, which entry, and what to do."""
        place = str(path)
        try:
            document = tomllib.loads(Path(path).read_text("utf-8-sig"))  # Windows' editors mark their texts
        except OSError as error:
            raise CallerError(f"Cannot read {place}: {error.strerror}.", hint="Check the path.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CallerError(f"{place} is no TOML: {error}.", hint="Mend the line that it names.") from None
        return cls.read(document, place)

    @classmethod
    def read(cls, document: Mapping[str, Any], place: str = "the fleet") -> "Fleet":
        """The fleet in a decoded TOML document. Raises: CallerError."""
        _only(document, ("server", "lane", "depth", "ahead_s"), place)
        servers = tuple(
            _server(entry, f"{place}, server {number}")
            for number, entry in enumerate(_tables(document, "server", place), 1)
        )
        lanes = tuple(
            _lane(entry, f"{place}, lane {number}")
            for number, entry in enumerate(_tables(document, "lane", place), 1)
        )
        _distinct([server.name for server in servers], "server", place)
        _distinct([lane.name for lane in lanes], "lane", place)
        depth = _value(document, "depth", int, place, DEPTH)
        ahead_s = _value(document, "ahead_s", (int, float), place, AHEAD_S)
        if depth < 1 or not 0 <= ahead_s < math.inf:
            raise CallerError(f"{place}: depth is at least 1, and ahead_s a number of seconds.")
        return cls(servers, lanes, depth, float(ahead_s))


_SERVER_KEYS = (
    *("url", "name", "labels", "lanes", "models", "vram_gb", "drain"),
    *("bearer_env", "basic_env", "api_key_env", "partner_key_env", "proxy"),
)
_FROM_ENVIRONMENT: Mapping[str, Callable[[str], Any]] = {
    "bearer_env": str,
    "basic_env": lambda text: (text.partition(":")[0], text.partition(":")[2]),
    "api_key_env": str,
    "partner_key_env": str,
}


def _server(entry: Mapping[str, Any], place: str) -> Server:
    _only(entry, _SERVER_KEYS, place)
    url = _value(entry, "url", str, place, "")
    if not url:
        raise CallerError(f"{place} has no url.", hint='Write url = "http://host:8188".')
    options: dict[str, Any] = {
        key.removesuffix("_env"): read(_environment(entry, key, place))
        for key, read in _FROM_ENVIRONMENT.items()
        if key in entry
    }
    if "proxy" in entry:
        options["proxy"] = _value(entry, "proxy", str, place, "")
    said = {
        "name": _value(entry, "name", str, place, ""),
        "labels": _names(entry, "labels", place) or frozenset(),
        "lanes": _names(entry, "lanes", place),
        "models": _value(entry, "models", int, place, None),
        "vram_gb": _value(entry, "vram_gb", (int, float), place, None),
        "drain": _value(entry, "drain", bool, place, False),
    }
    try:
        return Server(url, **said, options=options)
    except CallerError as error:
        raise CallerError(f"{place}: {error.message}", hint=error.hint) from None


def _lane(entry: Mapping[str, Any], place: str) -> Lane:
    _only(entry, ("name", "weight", "ceiling"), place)
    name = _value(entry, "name", str, place, "")
    if not name:
        raise CallerError(f"{place} has no name.", hint='Write name = "video".')
    try:
        return Lane(
            name,
            float(_value(entry, "weight", (int, float), place, 1.0)),
            _value(entry, "ceiling", (int, float), place, None),
        )
    except ValueError as error:
        raise CallerError(f"{place}: {error}.") from None


def _environment(entry: Mapping[str, Any], key: str, place: str) -> str:
    name = _value(entry, key, str, place, "")
    value = os.environ.get(name)
    if not value:
        raise CallerError(f"{place}: the environment has no {name!r}.", hint=f"Set it, or drop {key}.")
    return value


def _value(entry: Mapping[str, Any], key: str, kind: Any, place: str, default: Any) -> Any:
    value = entry.get(key, default)
    if key in entry and (not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool)):
        wanted = {str: "text", int: "a whole number", bool: "true or false"}.get(kind, "a number")
        raise CallerError(f"{place}: {key} is {value!r}; it must be {wanted}.")
    return value


def _names(entry: Mapping[str, Any], key: str, place: str) -> frozenset[str] | None:
    value = entry.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise CallerError(f'{place}: {key} must be a list of names, such as ["24gb"].')
    return frozenset(value)


def _tables(document: Mapping[str, Any], key: str, place: str) -> list[Mapping[str, Any]]:
    value = document.get(key, [])
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise CallerError(f"{place}: {key} must be tables.", hint=f"Begin each with [[{key}]].")
    return value


def _only(entry: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in entry:
        if key not in known:
            near = nearest(key, list(known), 1, 0.6)
            hint = f"Did you mean {near[0]!r}?" if near else f"It may have: {', '.join(known)}."
            raise CallerError(f"{place} has an unknown {key!r}.", hint=hint)


def _distinct(names: Sequence[str], kind: str, place: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise CallerError(f"{place} has two {kind}s called {name!r}.", hint="Give each its own name.")


def address(url: str) -> str:
    """Host, port and path: what a server is called that has no other name. Raises: CallerError."""
    base = access(url).url
    return f"{base.host}:{base.port}{base.path.rstrip('/')}"
