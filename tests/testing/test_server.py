"""A simulated server can be started, watched, held, restarted and asked what it did."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from async_comfy.testing import SimulatedServer
from tests.testing.client import Client, kinds, node, only, stepping, tiny

pytestmark = pytest.mark.anyio


async def test_it_counts_what_it_was_asked_and_what_it_ran() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        frames = await client.run(tiny())
        prompt_id = only(frames, "execution_start")[0]["prompt_id"]
        assert server.requests.count("POST", "/prompt") == server.requests.count() == 1
        assert server.requests[0].json["client_id"] == client.id
        assert server.executions == {prompt_id: 1}
        assert (server.connections, server.open_sockets, server.queue_remaining) == (1, 1, 0)


def test_in_a_thread_it_serves_a_test_without_a_loop() -> None:
    async def talk(url: str) -> list[str]:
        async with Client(url) as client:
            await client.connect()
            return kinds(await client.run(tiny()))

    with SimulatedServer().in_thread() as server:
        assert asyncio.run(talk(server.url))[-1] == "executing"
        server.wait(lambda: server.open_sockets == 0)
        server.call(server.restart())
        assert asyncio.run(talk(server.url))[-1] == "executing"
        assert server.lives == 2


async def test_held_before_a_prompt_it_leaves_the_prompt_in_the_queue() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.hold("prompt")
        first = await client.post(tiny(1))
        await server.until_at("prompt")
        assert [item[1] for item in (await client.json("GET", "/queue"))["queue_pending"]] == [first]
        server.release()
        await server.until_idle()
        assert server.history(first) is not None


async def test_held_in_a_node_it_goes_on_point_by_point() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.hold("node", "step")
        prompt_id = await client.post(stepping(steps=2))
        seen = []
        for expected in ("node", "node", "step", "step", "node"):
            await server.until_at(expected)
            seen.append(server.at)
            server.advance()
        await client.until("executing", node=None, prompt_id=prompt_id)
        assert seen == ["node", "node", "step", "step", "node"]


async def test_success_may_be_told_before_the_history_is_written_and_the_end_mark_never() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.hold("history")
        prompt_id = await client.post(tiny())
        await client.until("execution_success")
        assert await client.json("GET", f"/history/{prompt_id}") == {}
        server.release()
        await client.until("executing", node=None)
        assert prompt_id in await client.json("GET", f"/history/{prompt_id}")


async def test_a_restart_forgets_everything_and_ends_sockets_without_a_close_frame() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        await client.run(tiny())
        server.hold("node")
        running = await client.post(tiny(5))
        await server.until_at("node")
        url = server.url
        await server.restart()
        server.release()
        while not isinstance(frame := await client.frame(), tuple):
            pass
        assert frame == (1006,)
        assert server.url == url
        assert await client.json("GET", "/queue") == {"queue_running": [], "queue_pending": []}
        assert await client.json("GET", "/history") == {}
        assert (await client.json("POST", "/prompt", prompt=tiny(6)))["number"] == 0
        assert server.executions[running] == 1


async def test_dropped_sockets_are_gone_and_one_client_can_be_singled_out() -> None:
    async with SimulatedServer() as server, Client(server) as one, Client(server) as other:
        await one.connect()
        await other.connect()
        await other.frame()
        await server.drop_sockets(one.id)
        assert server.open_sockets == 1
        frame = await one.frame()
        assert (await one.frame() if isinstance(frame, dict) else frame) == (1006,)
        await other.run(tiny())


async def test_the_same_prompt_id_posted_twice_runs_twice_and_says_so() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        prompt_id = client.id
        for color in (1, 2):
            await client.post(tiny(color), prompt_id=prompt_id)
            await server.until_idle()
        assert server.executions[prompt_id] == 2


async def test_interrupt_stops_a_held_run_and_what_waits_runs_next() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        server.hold("node")
        running = await client.post(tiny(1))
        waiting = await client.post(tiny(2))
        await server.until_at("node")
        assert await client.status("POST", "/interrupt", json={"prompt_id": waiting}) == 200
        assert server.at == "node", "the id of a waiting prompt stops nothing"
        await client.status("POST", "/interrupt", json={"prompt_id": running})
        ended = await client.until("executing", node=None, prompt_id=running)
        server.release()
        assert only(ended, "execution_interrupted")[0]["prompt_id"] == running
        assert only(await client.until("executing", node=None, prompt_id=waiting), "execution_success")


async def test_a_model_is_loaded_once_until_it_is_freed() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        load = {
            "1": node("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors"),
            "2": node("PreviewAny", source=["1", 0]),
        }
        await client.post(load)
        await server.until_idle()
        assert server.worker.loaded == {"sd_xl_base_1.0.safetensors"}
        await client.status("POST", "/free", json={"unload_models": True})
        assert server.worker.loaded == set()


async def test_what_runs_is_through_before_its_models_are_unloaded() -> None:
    """POST /free only leaves word; the worker reads it after the prompt that runs, or when it idles."""
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        load = {
            "1": node("CheckpointLoaderSimple", ckpt_name="sd_xl_base_1.0.safetensors"),
            "2": node("PreviewAny", source=["1", 0]),
        }
        server.hold("node")
        await client.post(load)
        await server.until_at("node")
        server.worker.loaded.add("another.safetensors")
        await client.status("POST", "/free", json={"unload_models": True, "free_memory": True})
        assert server.worker.loaded == {"another.safetensors"}
        server.release()
        await server.until_idle()
        await client.until("executing", node=None)
        assert server.worker.loaded == set()


async def test_0_3_40_has_no_ids_of_the_clients_no_jobs_no_flags_and_interrupts_anybody() -> None:
    async with SimulatedServer(profile="0.3.40") as server, Client(server) as client:
        await client.connect({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
        assert await client.post(stepping(), prompt_id=client.id) != client.id
        frames = await client.until("executing", node=None)
        assert not {"feature_flags", "progress_state", "binary:4"} & set(kinds(frames))
        assert "binary:1" in kinds(frames)
        assert await client.status("GET", "/features") == 404
        assert await client.status("GET", "/api/jobs") == 404
        server.hold("node")
        running = await client.post(tiny(9))
        await server.until_at("node")
        await client.status("POST", "/interrupt", json={"prompt_id": client.id})
        assert (
            only(await client.until("executing", node=None), "execution_interrupted")[0]["prompt_id"]
            == running
        )


async def test_next_refuses_an_id_that_it_knows_with_409() -> None:
    async with SimulatedServer(profile="next") as server, Client(server) as client:
        await client.post(tiny(), prompt_id=client.id)
        body = {"prompt": tiny(), "prompt_id": client.id}
        assert await client.status("POST", "/prompt", json=body) == 409
        await server.until_idle()
        assert await client.status("POST", "/prompt", json=body) == 409
        assert server.executions[client.id] == 1


async def test_a_client_id_that_is_no_text_is_nobodys_and_does_no_harm() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        for strange in (5, ["x"], {"a": 1}):
            await client.json(
                "POST", "/prompt", prompt=stepping(seed=len(server.executions)), client_id=strange
            )
        await server.until_idle()
        await client.connect()
        assert only(await client.run(tiny()), "execution_success")
        assert len(server.executions) == 4


async def test_equal_work_is_cached_and_free_forgets_it() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        await client.connect()
        await client.run(tiny())
        assert only(await client.run(tiny()), "execution_cached")[0]["nodes"] == ["1", "2"]
        await client.status("POST", "/free", json={"free_memory": True})
        assert only(await client.run(tiny()), "execution_cached")[0]["nodes"] == []


async def test_a_page_of_another_origin_is_refused() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        for headers, status in (
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": f"http://localhost:{server.port}"}, 403),
            ({"Origin": server.url}, 200),
            ({"Origin": "null"}, 200),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Host": "example.com", "Origin": "http://evil.example"}, 200),
        ):
            assert await client.status("GET", "/queue", headers=headers) == status, headers


async def test_a_body_above_the_limit_is_413() -> None:
    async with SimulatedServer(max_upload_bytes=2**18) as server, Client(server) as client:
        assert (await client.json("GET", "/features"))["max_upload_size"] == 2**18
        body = b'{"prompt": "' + b"x" * 2**18 + b'"}'
        assert await client.status("POST", "/prompt", data=body) == 413


async def test_it_stops_with_work_in_hand_and_leaves_no_thread() -> None:
    async with SimulatedServer() as server, Client(server) as client:
        server.hold("node")
        await client.post(tiny())
        await server.until_at("node")
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection(server.host, server.port)


def test_the_ids_that_were_begun_can_be_logged(
    tmp_path: Path, comfy_server_factory: Callable[..., SimulatedServer]
) -> None:
    log = tmp_path / "executions.log"
    server = comfy_server_factory(executions_log=log)

    async def submit() -> str:
        async with Client(server) as client:
            return await client.post(tiny())

    prompt_id = asyncio.run(submit())
    server.wait(lambda: prompt_id in server.executions and not server.queue_remaining)
    assert log.read_text().split() == [prompt_id]


def test_an_unknown_profile_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no profile '9\.9'; there are: 0\.3\.40, 0\.33, next"):
        SimulatedServer(profile="9.9")


def test_a_file_that_is_no_object_info_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "{", '{"A": 1}'):
        (tmp_path / "info.json").write_text(text)
        with pytest.raises(ValueError, match="no object_info"):
            SimulatedServer(object_info=tmp_path / "info.json")
