"""The programs of docs/web.md run as they stand there."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from async_comfy.testing import SimulatedServer
from tests.examples.conftest import UVICORN, WEB, serving
from tests.examples.stream import heard

DOCS = WEB.parent.parent
AIOHTTP = [
    sys.executable,
    "-c",
    "from aiohttp import web; from app import app; web.run_app(app, host='127.0.0.1', port=0)",
]


def program(framework: str, folder: Path) -> None:
    """Writes the one program of the page that imports `framework` as app.py, beside a workflow."""
    page = (DOCS / "web.md").read_text()
    blocks = re.findall(r'^```python title="app.py"\n(.*?)^```', page, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if f"\nfrom {framework} import" in block]
    (folder / "app.py").write_text(code)
    workflow = (DOCS / "examples/sdxl_text_to_image.json").read_text()
    (folder / "workflow_api.json").write_text(workflow)


@pytest.fixture
def fastapi(comfy: SimulatedServer, tmp_path: Path) -> Iterator[str]:
    """The FastAPI program's URL."""
    program("fastapi", tmp_path)
    with serving(comfy.url, tmp_path, UVICORN) as url:
        yield url


@pytest.fixture
def litestar(comfy: SimulatedServer, tmp_path: Path) -> Iterator[str]:
    """The Litestar program's URL."""
    program("litestar", tmp_path)
    with serving(comfy.url, tmp_path, UVICORN) as url:
        yield url


@pytest.fixture
def socket_url(comfy: SimulatedServer, tmp_path: Path) -> Iterator[str]:
    """The aiohttp program's WebSocket."""
    program("aiohttp", tmp_path)
    with serving(comfy.url, tmp_path, AIOHTTP) as url:
        yield f"{url}/studio"


def interrupted(comfy: SimulatedServer, prompt_id: str) -> bool:
    entry = comfy.history(prompt_id)
    return entry is not None and entry["status"]["messages"][-1][0] == "execution_interrupted"


def test_fastapi_streams_progress_previews_and_the_picture(fastapi: str) -> None:
    """All in the one response; the picture is the last thing in it."""
    with httpx.stream("POST", f"{fastapi}/generate", json={"text": "a fox"}, trust_env=False) as stream:
        told = list(heard(stream))
    assert {name for name, _ in told} == {"progress", "preview", "image"}
    name, picture = told[-1]
    assert (name, picture[:22]) == ("image", "data:image/png;base64,")


def test_fastapi_cancels_when_the_visitor_goes_away(comfy: SimulatedServer, fastapi: str) -> None:
    """The response is cut in the middle."""
    comfy.hold("step")
    comfy.advance()
    with httpx.stream("POST", f"{fastapi}/generate", json={"text": "a fox"}, trust_env=False) as stream:
        next(heard(stream))
        (prompt_id,) = comfy.running
    comfy.wait(lambda: interrupted(comfy, prompt_id))


def test_litestar_streams_progress_previews_and_the_picture(litestar: str) -> None:
    """Events of the same names; what is no JSON there is told as it is."""
    wish = {"text": "a fox"}
    with httpx.stream("GET", f"{litestar}/generate", params=wish, trust_env=False) as stream:
        lines = [line for line in stream.iter_lines() if line]
    names = {line.removeprefix("event: ") for line in lines if line.startswith("event: ")}
    assert names == {"progress", "preview", "image"}
    assert lines[-1].startswith("data: data:image/png;base64,")


def test_litestar_cancels_when_the_visitor_goes_away(comfy: SimulatedServer, litestar: str) -> None:
    """The response is cut in the middle."""
    comfy.hold("step")
    comfy.advance()
    wish = {"text": "a fox"}
    with httpx.stream("GET", f"{litestar}/generate", params=wish, trust_env=False) as stream:
        next(stream.iter_lines())
        (prompt_id,) = comfy.running
    comfy.wait(lambda: interrupted(comfy, prompt_id))


@pytest.mark.anyio
async def test_aiohttp_streams_progress_previews_and_the_picture(socket_url: str) -> None:
    """Text is progress, bytes are pictures; the last one is whole."""
    async with aiohttp.ClientSession() as client, client.ws_connect(socket_url) as socket:
        await socket.send_str("a fox")
        heard = [message async for message in socket]
    texts = [message.json() for message in heard if message.type is aiohttp.WSMsgType.TEXT]
    pictures = [message.data for message in heard if message.type is aiohttp.WSMsgType.BINARY]
    assert all(text.keys() == {"fraction"} for text in texts)
    assert pictures[0].startswith(b"\xff\xd8")
    assert pictures[-1].startswith(b"\x89PNG")


@pytest.mark.anyio
@pytest.mark.parametrize("stop", [True, False])
async def test_aiohttp_cancels_when_told_or_left(comfy: SimulatedServer, socket_url: str, stop: bool) -> None:
    """By the word "stop", or by closing the socket."""
    comfy.hold("step")
    comfy.advance()
    async with aiohttp.ClientSession() as client, client.ws_connect(socket_url) as socket:
        await socket.send_str("a fox")
        await socket.receive()
        (prompt_id,) = comfy.running
        if stop:
            await socket.send_str("stop")
            await comfy.until(lambda: interrupted(comfy, prompt_id))
    await comfy.until(lambda: interrupted(comfy, prompt_id))


@pytest.mark.anyio
async def test_aiohttp_refuses_what_is_too_long(comfy: SimulatedServer, socket_url: str) -> None:
    """The socket is closed with a reason, and nothing reaches the ComfyUI."""
    async with aiohttp.ClientSession() as client, client.ws_connect(socket_url) as socket:
        await socket.send_str("x" * 1001)
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert comfy.requests.count("POST", "/prompt") == 0
