"""The pytest plugin serves any kind of test, and costs nothing before a fixture is asked for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from async_comfy.testing import SimulatedServer
from tests.testing.client import Client, tiny


def test_each_test_gets_a_fresh_server(comfy_server: SimulatedServer) -> None:
    assert comfy_server.requests.count() == 0
    assert comfy_server.url.startswith("http://127.0.0.1:")


@pytest.mark.anyio
async def test_the_fixture_serves_asynchronous_tests(comfy_server: SimulatedServer) -> None:
    async with Client(comfy_server) as client:
        await client.post(tiny())
        await comfy_server.until_idle()
        comfy_server.hold("node")
        await client.post(tiny(1))
        await comfy_server.until_at("node")
        comfy_server.release()
        await comfy_server.until_idle()
        await comfy_server.restart()
        assert await client.status("GET", "/queue") == 200
        await comfy_server.crash()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.status("GET", "/queue")


def test_a_test_may_have_several_servers(comfy_server_factory: Callable[..., SimulatedServer]) -> None:
    one, two = comfy_server_factory(), comfy_server_factory(profile="next")
    assert one.url != two.url
    assert two.profile.credential_key


@pytest.mark.parametrize("module", ["async_comfy.testing", "async_comfy.testing.pytest_plugin"])
def test_importing_it_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('aiohttp', 'PIL', 'websockets') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
