"""The programs in the docs do what their pages say, against a simulated server."""

import ast
import asyncio
import inspect
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from async_comfy import Session, Workflow
from async_comfy.testing import SimulatedServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
EXAMPLE = "docs/examples/sdxl_text_to_image.json"
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FEWER = {"range(1000)": "range(3)", "range(20)": "range(2)"}


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SimulatedServer]:
    """A simulated server; the example workflow lies where the pages name it."""
    (tmp_path / EXAMPLE).parent.mkdir(parents=True)
    shutil.copy(ROOT / EXAMPLE, tmp_path / EXAMPLE)
    monkeypatch.chdir(tmp_path)
    async with SimulatedServer() as server:
        yield server


def programs(page: str) -> list[str]:
    return FENCE.findall((ROOT / "docs" / page).read_text())


async def run(code: str, server: SimulatedServer) -> dict[str, Any]:
    """What the program defines, after it ran: at this server, with fewer jobs, in this event loop."""
    code = code.replace("http://127.0.0.1:8188", server.url).replace("Session()", f"Session({server.url!r})")
    code = code.replace("asyncio.run(main())", "await main()")
    for many, few in FEWER.items():
        code = code.replace(many, few)
    place: dict[str, Any] = {}
    running = eval(compile(code, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), place)  # noqa: S307  # our own page
    if inspect.isawaitable(running):
        await running
    return place


async def test_the_batch_makes_a_file_for_each_seed(server: SimulatedServer, tmp_path: Path) -> None:
    """Named by its seed."""
    await run(programs("batch.md")[0], server)
    assert sorted(path.name[:2] for path in (tmp_path / "out").iterdir()) == ["0_", "1_", "2_"]


async def test_the_benchmark_tells_seconds(
    server: SimulatedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A median and the slowest."""
    await run(programs("batch.md")[1], server)
    assert re.search(r"^median [\d.]+ s, slowest [\d.]+ s$", capsys.readouterr().out, re.MULTILINE)


async def test_nodes_are_timed_and_thumbnails_made(server: SimulatedServer) -> None:
    """The last two programs of the page about batches."""
    per_node = (await run(programs("batch.md")[2], server))["per_node"]
    thumbnail = (await run(programs("batch.md")[3], server))["thumbnail"]
    workflow = Workflow.load(EXAMPLE)
    async with Session(server.url) as session:
        assert workflow["KSampler"].id in await per_node(session, workflow)
        assert (await thumbnail(await session.run(workflow))).size == (128, 128)


async def test_the_polling_script_and_ours_get_the_same(server: SimulatedServer) -> None:
    """Byte by byte, from the same prompt."""
    theirs, ours = [(await run(code, server))["make"] for code in programs("migrating.md")[:2]]
    prompt = json.loads(Path(EXAMPLE).read_text())
    polled = await asyncio.to_thread(theirs, prompt)
    assert polled
    assert polled == await ours(prompt)


async def test_a_refused_workflow_is_explained_and_nothing_raised(
    server: SimulatedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the page about errors has it; a good workflow gives its result."""
    make = (await run(programs("errors.md")[0], server))["make"]
    workflow = Workflow.load(EXAMPLE)
    async with Session(server.url) as session:
        assert (await make(session, workflow)).images
        workflow.set("CheckpointLoaderSimple.ckpt_name", "nowhere.safetensors")
        assert await make(session, workflow) is None
    assert "ckpt_name" in capsys.readouterr().out


async def test_the_routes_of_the_reference_answer(
    server: SimulatedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three groups of them."""
    await (await run(programs("reference/routes.md")[0], server))["look_around"](server.url)
    assert "KSampler" in capsys.readouterr().out


async def test_the_overview_saves_a_picture(server: SimulatedServer, tmp_path: Path) -> None:
    """The first program that a reader sees."""
    shutil.copy(EXAMPLE, "workflow_api.json")
    await run(programs("index.md")[0], server)
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".png"]
