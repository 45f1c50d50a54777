"""Who receives what, and which sockets are deaf, as on the real server."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from async_comfy.testing import SimulatedServer
from tests.testing.client import FLAGS, Client, kinds, only, stepping, tiny

pytestmark = pytest.mark.anyio


async def test_after_a_reconnect_the_running_node_is_told_without_a_prompt_id() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect(FLAGS)
        server.hold("node")
        prompt_id = await client.post(stepping())
        await client.until("executing", node="1")
        await server.until_at("node")
        await server.drop_sockets(client.id)
        await client.connect()
        assert only([await client.frame()], "status")[0]["sid"] == client.id
        assert await client.frame() == {"type": "executing", "data": {"node": "1"}}
        server.release()
        frames = await client.until("executing", node=None, prompt_id=prompt_id)
        assert "binary:1" in kinds(frames), "the flags belonged to the connection that is gone"
        assert "binary:4" not in kinds(frames)


async def test_nothing_is_replayed_to_a_socket_that_comes_after_the_end() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.post(tiny())
        await server.until_idle()
        await client.connect()
        assert kinds([await client.frame()]) == ["status"]
        frames = await client.run(tiny(1))
        assert only(frames, "execution_start")[0]["prompt_id"] == only(frames, "executing")[-1]["prompt_id"]


async def test_the_end_of_an_older_socket_makes_the_newer_one_deaf() -> None:
    async with (
        SimulatedServer() as server,
        Client(server) as older,
        Client(server) as client,
        Client(server) as third,
    ):
        older.id = third.id = client.id
        await older.connect()
        await client.connect()
        await client.frame()
        assert older.ws is not None
        await older.ws.close()
        await server.until(lambda: server.open_sockets == 1)
        await client.post(tiny())
        await server.until_idle()
        assert client.ws is not None
        assert not client.ws.closed
        await client.ws.ping()
        assert server.open_sockets == 1
        await third.connect()
        assert only(await third.run(tiny(1)), "executing"), "a third socket hears again"


async def test_next_does_not_forget_the_newer_socket() -> None:
    async with SimulatedServer(profile="next") as server, Client(server) as client, Client(server) as older:
        await older.connect(client_id=client.id)
        key = (await older.frame())["data"]["credential_key"]
        await client.connect({"type": "credential_auth", "data": {"credential_key": key}})
        await client.frame()
        assert older.ws is not None
        await older.ws.close()
        await server.until(lambda: server.open_sockets == 1)
        assert only(await client.run(tiny()), "execution_success")


async def test_next_closes_a_known_client_that_does_not_show_its_key() -> None:
    async with SimulatedServer(profile="next") as server, Client(server) as client:
        await client.connect()
        assert len((await client.frame())["data"]["credential_key"]) >= 16
        await server.drop_sockets()
        await client.connect({"type": "credential_auth", "data": {"credential_key": "wrong"}})
        assert await client.frame() == (1008,)


async def test_next_negotiates_flags_after_the_key() -> None:
    async with SimulatedServer(profile="next") as server, Client(server) as client:
        await client.connect()
        key = (await client.frame())["data"]["credential_key"]
        await server.drop_sockets()
        await client.connect({"type": "credential_auth", "data": {"credential_key": key}}, FLAGS)
        await client.until("feature_flags")
        assert "binary:4" in kinds(await client.run(stepping()))


async def test_flags_as_a_second_frame_are_ignored() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect({"type": "hello", "data": {}}, FLAGS)
        frames = await client.run(stepping())
        assert "feature_flags" not in kinds(frames)
        assert "binary:1" in kinds(frames)


async def test_frames_that_are_no_json_do_no_harm() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        ws = await client.connect()
        for text in ("{", "[]", "null", '"x"', ""):
            await ws.send_str(text)
        await ws.send_bytes(b"\x00\x01")
        assert only(await client.run(tiny()), "execution_success")


async def test_prompts_without_a_client_show_their_progress_to_everybody() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect(FLAGS)
        await client.until("feature_flags")
        await client.json("POST", "/prompt", prompt=stepping())
        await server.until_idle()
        await client.post(tiny(77))
        frames = await client.until("execution_start")
        stranger = kinds(frames)[:-1]
        assert {"progress_state", "progress", "binary:1"} <= set(stranger)
        assert not {"executing", "executed", "execution_start", "execution_success", "binary:4"} & set(
            stranger
        )


async def test_a_credential_is_not_shown_in_any_repr() -> None:
    async with SimulatedServer(profile="next") as server, Client(server) as client:
        await client.connect()
        key = (await client.frame())["data"]["credential_key"]
        assert key not in repr(server) + repr(server.requests) + repr(server.faults)


async def test_frames_are_written_as_pythons_json_writes_them() -> None:
    """Byte for byte: separators, order of keys, escapes."""
    async with SimulatedServer() as server, aiohttp.ClientSession(server.url) as http:
        ws = await http.ws_connect("/ws?clientId=plain")
        server.say("probe", {"text": "é✓", "list": [1, 2.0]})
        await ws.receive_str()
        assert (
            await ws.receive_str()
            == '{"type": "probe", "data": {"text": "\\u00e9\\u2713", "list": [1, 2.0]}}'
        )
        await ws.close()


async def test_a_client_that_does_not_read_holds_up_everybody() -> None:
    """The one publisher waits for the slowest: what the real server does after some megabytes."""
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=1024)
        handshake = (
            "GET /ws?clientId=slow HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        writer.write(handshake.encode())
        await reader.readuntil(b"\r\n\r\n")
        await server.until(lambda: server.open_sockets == 2)
        await client.frame()
        load: dict[str, Any] = {"x": "y" * 1_000_000}
        for _ in range(30):
            server.say("load", load, "slow")
        server.say("after", {}, client.id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(
                0.3
            ):  # nothing can show that a frame never comes but a time without it
                await client.frame()
        writer.transport.abort()
        assert json.dumps(await client.frame()) == '{"type": "after", "data": {}}'
