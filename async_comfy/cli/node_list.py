"""What nodes a server has, from itself or from a file of its /object_info."""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from async_comfy import CallerError, ComfyError
from async_comfy.cli.server import Server

if TYPE_CHECKING:
    from async_comfy import Workflow

_HINT = "Save one with: curl SERVER/object_info -o object_info.json"


def object_info_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --object-info."""
    return click.option(
        "--object-info",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="GET /object_info of a server, saved (.json or .json.gz); then no server is asked.",
    )(command)


def node_list(workflow: "Workflow", server: Server, file: Path | None) -> Mapping[str, Any]:
    """The declarations of the workflow's classes, as far as they are known.

    Raises: CallerError for a file that is no object_info; what connecting raises
    """
    from async_comfy.cli.interrupt import drive

    return drive(_ask(workflow, server)) if file is None else _read(file)


async def _ask(workflow: "Workflow", server: Server) -> Mapping[str, Any]:
    async with server.session() as session:
        return await session.nodes.some(sorted(workflow.class_types))


def every_node(server: Server, file: Path | None) -> Mapping[str, Any]:
    """The declarations of all classes. Raises: as `node_list`."""
    from async_comfy.cli.interrupt import drive

    return drive(_ask_all(server)) if file is None else _read(file)


async def _ask_all(server: Server) -> Mapping[str, Any]:
    async with server.session() as session:
        return await session.nodes.all()


def _read(file: Path) -> Mapping[str, Any]:
    try:
        raw = file.read_bytes()
        found = json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
    except (ValueError, RecursionError, EOFError, zlib.error):
        raise _not_one(file) from None
    except OSError as error:
        raise CallerError(f"{file}: cannot be read: {error.strerror}.", hint=_HINT) from None
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise _not_one(file)
    return found


def _not_one(file: Path) -> ComfyError:
    return CallerError(f"{file}: this is no object_info.", hint=_HINT)
