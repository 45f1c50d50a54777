"""``python -m async_comfy.testing``: a simulated server until Ctrl-C. The first line it prints is its URL."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from async_comfy.testing.profiles import PROFILES
from async_comfy.testing.server import SimulatedServer


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m async_comfy.testing", description="A simulated ComfyUI server."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8188, help="port to listen on, 0 for any (default: %(default)s)"
    )
    parser.add_argument(
        "--profile", default="0.33", choices=PROFILES, help="version to play (default: %(default)s)"
    )
    parser.add_argument("--step-s", type=float, default=0.0, help="seconds for one step of a sampler")
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds for the first use of a model")
    parser.add_argument("--object-info", type=Path, help="declarations of a real server, .json or .json.gz")
    parser.add_argument(
        "--folder", type=Path, help="where input, output and temp lie (default: removed at the end)"
    )
    parser.add_argument("--executions-log", type=Path, help="append the id of each prompt that is begun")
    return parser


async def serve(server: SimulatedServer) -> None:
    """Runs until it is cancelled."""
    async with server:
        print(server.url, flush=True)  # noqa: T201 - this line is the interface: whoever starts us reads it
        await asyncio.Event().wait()


def main(words: Sequence[str] | None = None) -> int:
    """The command; 2 where an option is no good, with the reason in one line."""
    given = vars(options().parse_args(words))
    try:
        server = SimulatedServer(**given)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(server))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
