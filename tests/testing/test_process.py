"""A server in a process of its own dies and freezes as a process does."""

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from async_comfy.testing import ServerProcess
from tests.testing.client import Client, only, tiny

pytestmark = pytest.mark.anyio


async def test_killed_it_is_gone_and_restarted_it_is_empty_on_the_same_port() -> None:
    with ServerProcess() as server:
        async with Client(server.url) as client:
            await client.connect()
            assert only(await client.run(tiny()), "execution_success")
            server.kill()
            while not isinstance(frame := await client.frame(), tuple):
                pass
            assert frame == (1006,)
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.status("GET", "/queue")
            url = server.url
            server.restart()
            assert server.url == url
            assert await client.json("GET", "/history") == {}
            assert sum(server.executions.values()) == 1


async def test_frozen_it_answers_nobody_and_goes_on_later() -> None:
    with ServerProcess() as server:
        async with Client(server.url) as client:
            server.stop()
            asking = asyncio.create_task(client.status("GET", "/queue"))
            done, _ = await asyncio.wait([asking], timeout=0.2)  # only time can show that no answer comes
            assert not done
            server.cont()
            assert await asking == 200


def test_a_server_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="did not start"), ServerProcess(profile="bogus"):
        pass


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "async_comfy.testing",
        "--port",
        "0",
        "--object-info",
        str(tmp_path / "nope.json"),
    ]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "nope.json" in done.stderr
