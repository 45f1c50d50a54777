"""The fault proxy carries faithfully, and fails exactly as told."""

import asyncio
import contextlib

import aiohttp
import pytest

from async_comfy.testing import FaultProxy, SimulatedServer
from tests.testing.client import Client, only, tiny

pytestmark = pytest.mark.anyio


async def test_it_carries_a_whole_run_even_byte_by_byte_and_late() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        proxy.segment_bytes, proxy.latency_s = 1, 0.001
        await client.connect()
        assert only(await client.run(tiny()), "execution_success")
        assert proxy.connections == 2
        assert proxy.passed["up"] > 0 < proxy.passed["down"]


@pytest.mark.parametrize("at", [0, 1, 40, 200])
async def test_a_cut_after_so_many_bytes_up_lets_exactly_those_through(at: int) -> None:
    seen = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            seen.extend(data)
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy(f"http://127.0.0.1:{port}") as proxy:
        proxy.cut("up", at)
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.write(bytes(range(256)))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await proxy.until(lambda: proxy.open_connections == 0)
        assert proxy.passed["up"] == at
        writer.close()
    server.close()
    await server.wait_closed()
    assert len(seen) <= at, "an abort may take bytes with it that the server did not read yet"


async def test_a_cut_can_wait_for_a_certain_request() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        proxy.cut("down", 0, after=b"POST /prompt")
        assert await client.status("GET", "/queue") == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(tiny())
        await server.until_idle()
        assert sum(server.executions.values()) == 1, "the request had arrived whole"
        assert await client.post(tiny(1)), "the cut was for once"


async def test_a_request_that_is_cut_before_its_end_is_never_served() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        proxy.cut("up", 100, after=b"POST /prompt")
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(tiny())
        await proxy.until(lambda: proxy.open_connections == 0)
        assert not server.executions


async def test_a_stalled_direction_passes_nothing_until_it_is_cleared() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        assert await client.status("GET", "/queue") == 200
        proxy.stall("down")
        asking = asyncio.create_task(client.status("GET", "/prompt"))
        await server.until(lambda: server.requests.count("GET", "/prompt") == 1)
        assert not asking.done()
        proxy.clear()
        assert await asking == 200


async def test_a_reset_ends_every_connection() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        await client.connect()
        await client.frame()
        proxy.reset()
        assert await client.frame() == (1006,)
        await server.until(lambda: server.open_sockets == 0)


async def test_half_open_the_server_never_hears_that_its_client_is_gone() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        await client.connect()
        await client.frame()
        proxy.half_open("client")
        assert await client.frame() == (1006,)
        assert server.open_sockets == 1
        await client.connect()
        proxy.reset()
        await server.until(lambda: server.open_sockets == 0)


async def test_half_open_the_client_never_hears_that_its_server_is_gone() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        ws = await client.connect()
        await client.frame()
        proxy.half_open("server")
        await server.until(lambda: server.open_sockets == 0)
        with pytest.raises(TimeoutError):
            await ws.receive(timeout=0.1)  # only time can show that nothing comes
        proxy.reset()


async def test_it_can_refuse_and_accept_again_on_the_same_port() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        await proxy.refuse()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.status("GET", "/queue")
        await proxy.accept()
        assert await client.status("GET", "/queue") == 200


async def test_a_server_that_is_down_looks_down_through_it() -> None:
    async with SimulatedServer() as server, FaultProxy(server.url) as proxy, Client(proxy.url) as client:
        await server.crash()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.status("GET", "/queue")


def test_it_runs_in_a_thread_too() -> None:
    async def ask(url: str) -> int:
        async with Client(url) as client:
            return await client.status("GET", "/queue")

    with SimulatedServer().in_thread() as server, FaultProxy(server.url).in_thread() as proxy:
        assert asyncio.run(ask(proxy.url)) == 200
