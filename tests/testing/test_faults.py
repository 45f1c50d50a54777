"""Each fault does what it says, as often as it says, and no more once it is cleared."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from async_comfy.testing import SimulatedServer
from tests.testing.client import Client, kinds, node, only, stepping, tiny

pytestmark = pytest.mark.anyio


async def frames_of(client: Client, server: SimulatedServer) -> list[Any]:
    """All frames of one run, whatever became of the end mark: a marker follows the last."""
    await client.post(tiny(len(server.executions)))
    await server.until_idle()
    server.say("marker", {})
    return (await client.until("marker"))[:-1]


async def test_sockets_can_be_deaf_from_the_start() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.deaf = True
        await client.connect()
        await client.frame()
        await client.post(tiny())
        await server.until_idle()
        server.faults.clear()
        await client.connect()
        assert kinds([await client.frame()]) == ["status"]


async def test_open_sockets_can_be_made_deaf() -> None:
    async with SimulatedServer() as server, Client(server) as deaf, Client(server) as well:
        await deaf.connect()
        await well.connect()
        await deaf.frame()
        server.deafen(deaf.id)
        await well.run(tiny())
        server.inject("late", deaf.id)
        await server.drop_sockets(deaf.id)
        assert await deaf.frame() == (1006,)


async def test_a_stalled_publisher_sends_nothing_and_later_everything_in_order() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        ws = await client.connect()
        await client.frame()
        server.faults.stalled_publisher = True
        prompt_id = await client.post(tiny())
        await server.until(lambda: server.history(prompt_id) is not None)
        await ws.ping()
        server.faults.stalled_publisher = False
        frames = await client.until("executing", node=None, prompt_id=prompt_id)
        assert kinds(frames)[:3] == ["status", "status", "execution_start"]


async def test_frames_can_be_dropped_duplicated_and_delayed_by_index_and_kind() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        await client.frame()
        plain = kinds(await frames_of(client, server))
        server.faults.drop("execution_success")
        assert kinds(await frames_of(client, server)) == [
            kind for kind in plain if kind != "execution_success"
        ]
        server.faults.clear()
        server.faults.drop({0, 2})
        assert kinds(await frames_of(client, server)) == [plain[1], *plain[3:]]
        server.faults.clear()
        server.faults.duplicate(2, times=1)
        assert kinds(await frames_of(client, server)) == [*plain[:3], *plain[2:]]
        server.faults.clear()
        server.faults.delay("execution_start", behind=2, times=1)
        late = kinds(await frames_of(client, server))
        assert late.index("execution_start") == plain.index("execution_start") + 2


async def test_reordering_loses_nothing_and_is_the_same_for_the_same_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        async with SimulatedServer() as server, Client(server) as client:
            await client.connect()
            await client.frame()
            plain = kinds(await frames_of(client, server))
            server.faults.clear()
            server.faults.reorder(window=5, seed=seed)
            orders.append(kinds(await frames_of(client, server)))
            assert sorted(orders[-1]) == sorted(plain)
    assert orders[0] != plain


async def test_history_can_be_late_or_never_come() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.history_late_s = float("inf")
        never = await client.post(tiny(1))
        await server.until_idle()
        assert await client.json("GET", f"/history/{never}") == {}
        assert await client.status("GET", f"/api/jobs/{never}") == 404
        assert server.history(never) is not None
        server.faults.history_late_s = 0.05
        late = await client.post(tiny(2))
        await server.until_idle()
        began = time.monotonic()
        while not await client.json("GET", f"/history/{late}"):
            assert time.monotonic() - began < 20


async def test_a_cancel_can_say_true_and_be_lost() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.faults.lost_cancels = 1
        server.hold("node")
        prompt_id = await client.post(tiny())
        await server.until_at("node")
        assert await client.json("POST", f"/api/jobs/{prompt_id}/cancel") == {"cancelled": True}
        assert server.at == "node"
        assert await client.json("POST", f"/api/jobs/{prompt_id}/cancel") == {"cancelled": True}
        assert only(await client.until("executing", node=None), "execution_interrupted")


async def test_a_dead_worker_leaves_its_prompt_running_for_ever() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.dead_worker = True
        prompt_id = await client.post(tiny())
        await server.until(lambda: server.running == [prompt_id])
        await client.post(tiny(1))
        assert (await client.json("GET", f"/api/jobs/{prompt_id}"))["status"] == "in_progress"
        assert await client.json("POST", f"/api/jobs/{prompt_id}/cancel") == {"cancelled": True}
        assert server.queue_remaining == 2
        assert server.executions == {prompt_id: 1}


async def test_a_node_that_exits_kills_the_worker_and_nothing_else() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        prompt = {
            **tiny(),
            "3": node("ProbeFail", image=["1", 0], message="bye", kind="SystemExit"),
            "4": node("PreviewImage", images=["3", 0]),
        }
        prompt_id = await client.post(prompt)
        await client.until("executing", node="3")
        assert (await client.json("GET", "/prompt"))["exec_info"]["queue_remaining"] == 1
        assert (await client.json("GET", f"/api/jobs/{prompt_id}"))["status"] == "in_progress"


async def test_an_output_that_is_no_json_ends_the_process_until_a_restart() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        await client.post({"1": node("ProbeUI", ui_json="{}", evil="bytes")})
        while not isinstance(frame := await client.frame(), tuple):
            pass
        assert frame == (1006,)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.status("GET", "/queue")
        await server.restart()
        assert await client.status("GET", "/queue") == 200


async def test_a_crash_refuses_connections() -> None:
    async with SimulatedServer() as server:
        await server.crash()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, server.port)
        await server.restart()


async def test_a_prompt_can_be_refused_with_a_time_to_wait() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.refuse_prompts(429, retry_after="soon", times=2)
        for _ in range(2):
            async with client.http.post("/prompt", json={"prompt": tiny()}) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (429, "soon")
        assert await client.post(tiny())
        await server.until_idle()
        assert sum(server.executions.values()) == 1


async def test_a_500_or_a_cut_can_hide_that_a_prompt_was_queued() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.fail_but_queue()
        assert await client.status("POST", "/prompt", json={"prompt": tiny(1)}) == 500
        server.faults.cut_after_queueing()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(tiny(2))
        server.faults.cut(("POST", "/prompt"), served=False)
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.post(tiny(3))
        await server.until_idle()
        assert sum(server.executions.values()) == 2


async def test_a_login_page_or_a_denial_answers_everything_the_socket_too() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.demand_login()
        async with client.http.get("/queue") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await client.connect()
        for status in (401, 403):
            server.faults.clear()
            server.faults.deny(status)
            assert await client.status("GET", "/api/jobs") == status
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.connect()
            assert refused.value.status == status
        server.faults.clear()
        await client.connect()


async def test_a_slow_answer_is_the_right_one() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.faults.slow(("GET", "/queue"), 0.02)
        assert await client.json("GET", "/queue") == {"queue_running": [], "queue_pending": []}


async def test_garbage_goes_out_as_it_is() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        ws = await client.connect()
        await client.frame()
        for payload in ("{", '{"type": 5}', b"", b"\x00\x00", b"\x00\x00\x00\x09rest", "x" * 5_000_000):
            server.inject(payload)
            assert (await ws.receive()).data == payload


async def test_a_node_may_be_deaf_to_interrupts() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.faults.ignores_interrupts = True
        server.hold("node")
        await client.post(stepping())
        await server.until_at("node")
        await client.status("POST", "/interrupt")
        server.release()
        assert only(await client.until("executing", node=None), "execution_success")


async def test_cleared_history_is_gone() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        prompt_id = await client.post(tiny())
        await server.until_idle()
        server.clear_history()
        assert await client.json("GET", f"/history/{prompt_id}") == {}
