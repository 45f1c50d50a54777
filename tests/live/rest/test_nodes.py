"""Node declarations: asked once, decoded one by one, kept on disk for whoever wants that."""

import json
from pathlib import Path
from typing import Any

import pytest

from async_comfy import DeclarationCache, NotFound, Session, UnexpectedAnswer, Workflow
from async_comfy.testing import SimulatedServer
from tests.live.rest.test_recorded import replaying

pytestmark = pytest.mark.anyio

ODD = "Odd / 50% #1? ä"
DECLARED: dict[str, Any] = {
    ODD: {
        "input": {"required": {"x": ["FLOAT", {"max": 1.0}]}},
        "output": ["FLOAT"],
        "output_name": ["FLOAT"],
        "name": ODD,
    }
}
EDITOR = {
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "inputs": [],
            "widgets_values": [8, 8, 1, 7],
            "outputs": [{"links": [1]}],
        },
        {"id": 2, "type": "SaveImage", "inputs": [{"name": "images", "link": 1}], "widgets_values": ["kept"]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "version": 0.4,
}


def asked(server: SimulatedServer) -> int:
    return server.requests.count("GET", "/object_info")


async def test_all_are_asked_for_once_and_each_is_looked_up_without_asking() -> None:
    """Until they are forgotten, as after a reconnect."""
    async with SimulatedServer() as server, Session(server.url) as session:
        every = await session.nodes.all()
        assert await session.nodes.all() is every
        assert await session.nodes.get("SaveImage") == every["SaveImage"]
        assert (asked(server), server.requests.count("GET", "/object_info/SaveImage")) == (1, 0)
        session.nodes.forget()
        assert await session.nodes.all() == every
        assert asked(server) == 2
    assert every.raw.startswith(b"{")


async def test_a_name_with_any_letters_is_found() -> None:
    """A slash, a percent sign, a question mark: custom nodes are called so."""
    async with SimulatedServer(object_info=DECLARED) as server, Session(server.url) as session:
        assert (await session.nodes.get(ODD))["output"] == ["FLOAT"]
        assert set(await session.nodes.some([ODD, "Nobody", "SaveImage"])) == {ODD, "SaveImage"}
        for name in ("", ".", "..", "a/../b", "Nobody"):
            with pytest.raises(NotFound, match="no node class"):
                await session.nodes.get(name)


async def test_a_number_that_json_has_not_is_read_all_the_same() -> None:
    """Infinity as the largest value: one such node must not hide the others."""
    body = json.dumps({**DECLARED, "B": {"input": {"required": {"x": ["FLOAT", {"max": float("inf")}]}}}})
    async with replaying({"status": 200, "type": "application/x-json", "body": body}) as session:
        every = await session.nodes.all()
        assert every["B"]["input"]["required"]["x"][1]["max"] == float("inf")
        assert every[ODD]["output"] == ["FLOAT"]


async def test_an_answer_that_declares_nothing_is_said_to_be() -> None:
    async with replaying({"status": 200, "type": "application/json", "body": {"SaveImage": 3}}) as session:
        with pytest.raises(UnexpectedAnswer, match="no node classes"):
            await session.nodes.all()


async def test_what_was_kept_serves_while_the_server_is_the_same(tmp_path: Path) -> None:
    """Another session asks for two small things instead; other options, or greater age, and it is asked."""
    cache = DeclarationCache(tmp_path)
    async with SimulatedServer() as server:
        async with Session(server.url) as session:
            first = await session.nodes.all(cache=cache, max_age_s=3600)
        async with Session(server.url) as session:
            assert await session.nodes.all(cache=cache, max_age_s=3600) == first
            assert asked(server) == 1
            await session.nodes.all(cache=cache, max_age_s=0)
            await session.nodes.all(cache=cache)
            assert asked(server) == 3
        url, port = server.url, server.port
    assert cache.read(url) == first
    assert cache.read(url, version=first.version) == first
    assert first.version
    async with SimulatedServer(port=port, profile="0.3.40") as other, Session(other.url) as session:
        await session.nodes.all(cache=cache, max_age_s=3600)
        assert asked(other) == 1


async def test_what_was_kept_never_decides_over_a_workflow(tmp_path: Path) -> None:
    """A cache that knows of no class at all: what the server has now is converted and runs."""
    cache = DeclarationCache(tmp_path)
    async with SimulatedServer() as server, Session(server.url) as session:
        await session.nodes.all(cache=cache)
        (file,) = tmp_path.iterdir()
        stale = cache.read(session.url)
        assert stale is not None
        session.nodes.forget()
        keep_nothing_of(cache, session.url, await session.nodes._fingerprint())
        assert await session.nodes.all(cache=cache, max_age_s=3600) == {}
        result = await session.run(Workflow.load(EDITOR))
    assert result.images[0].filename.startswith("kept")
    assert file.exists()


def keep_nothing_of(cache: DeclarationCache, url: str, told: tuple[str, str]) -> None:
    from async_comfy import Declarations

    cache.write(Declarations(b"{}", server=url, version=told[0]), fingerprint=told[1])


async def test_a_disk_that_is_full_costs_the_cache_and_not_the_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    async with SimulatedServer() as server, Session(server.url) as session:
        assert "SaveImage" in await session.nodes.all(cache=DeclarationCache(blocked))
    assert "not kept" in caplog.text


async def test_each_class_comes_as_it_is_read() -> None:
    """The same as all of them at once; a proxy's page is told, not split."""
    async with SimulatedServer() as server, Session(server.url) as session:
        every = await session.nodes.all()
        assert {name: declared async for name, declared in session.nodes.each()} == dict(every)
        server.faults.answer(("GET", "/object_info"), 200, "[1, 2]")
        with pytest.raises(UnexpectedAnswer, match="declares no node classes"):
            _ = [name async for name, _ in session.nodes.each()]
