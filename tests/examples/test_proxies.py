"""The configurations of docs/proxy.md, in the proxies that they are for, in front of a simulated ComfyUI."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from async_comfy import NotComfyUI, Preview, Session
from async_comfy.testing import SimulatedServer
from tests.reader.page import ROOT, blocks
from tests.reader.reader import EXAMPLE

NGINX = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        {block}
    }}
}}
"""
pytestmark = pytest.mark.anyio


def configuration(language: str) -> str:
    """The one of the page."""
    (block,) = [b for b in blocks(ROOT / "docs/proxy.md") if b.language == language]
    return block.code


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture
def comfy(comfy_server: SimulatedServer) -> SimulatedServer:
    """What stands behind the proxy."""
    return comfy_server


def start_nginx(comfy: SimulatedServer, folder: Path, block: str) -> tuple[str, list[str]]:
    """Its address, and the command that stops it. The call returns once it listens."""
    port = free_port()
    block = block.replace("http://127.0.0.1:8188", comfy.url)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, block=block))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run(command, check=True, capture_output=True)
    return f"http://127.0.0.1:{port}/comfy/", [*command, "-s", "stop"]


@pytest.fixture
def nginx_url(comfy: SimulatedServer, tmp_path: Path) -> Iterator[str]:
    """As the page has it."""
    url, stop = start_nginx(comfy, tmp_path, configuration("nginx"))
    yield url
    subprocess.run(stop, check=True, capture_output=True)


@pytest.fixture
def bare_nginx(comfy: SimulatedServer, tmp_path: Path) -> Iterator[str]:
    """Without the two headers of an upgrade."""
    lines = [line for line in configuration("nginx").splitlines() if "pgrade" not in line.partition("#")[0]]
    url, stop = start_nginx(comfy, tmp_path, "\n".join(lines))
    yield url
    subprocess.run(stop, check=True, capture_output=True)


def caddy(*words: str) -> None:
    """Runs it. No pipes: the proxy that it leaves behind would keep them open."""
    null = subprocess.DEVNULL
    subprocess.run(["caddy", *words], check=True, stdin=null, stdout=null, stderr=null)


@pytest.fixture
def caddy_url(comfy: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """As the page has it, but without a certificate."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    port, admin = free_port(), free_port()
    block = configuration("caddyfile").replace("127.0.0.1:8188", comfy.url.removeprefix("http://"))
    block = block.replace("host.example", f"http://127.0.0.1:{port}")
    file = tmp_path / "Caddyfile"
    file.write_text(f"{{\n    admin 127.0.0.1:{admin}\n}}\n{block}")
    caddy("start", "--config", str(file), "--adapter", "caddyfile")
    yield f"http://127.0.0.1:{port}/comfy/"
    caddy("stop", "--address", f"127.0.0.1:{admin}")


@pytest.mark.parametrize(
    "proxy",
    [pytest.param("nginx_url", marks=needs("nginx")), pytest.param("caddy_url", marks=needs("caddy"))],
)
async def test_a_session_works_through_the_proxy(
    proxy: str, request: pytest.FixtureRequest, comfy: SimulatedServer
) -> None:
    """A large upload, a run with previews, and the picture."""
    url: str = request.getfixturevalue(proxy)
    async with Session(url) as session:
        await session.upload(b"\x89PNG\r\n\x1a\n" + bytes(5_000_000))
        job = await session.submit(ROOT / EXAMPLE, preview="auto")
        previews = [event async for event in job if isinstance(event, Preview)]
        (image,) = (await job).images
        assert previews
        assert (await image.read()).startswith(b"\x89PNG")
    assert comfy.connections == 1


@needs("nginx")
async def test_without_the_headers_of_an_upgrade_it_says_so(bare_nginx: str) -> None:
    """What the page says of an nginx that does not pass upgrades on."""
    with pytest.raises(NotComfyUI, match="upgrade"):
        async with Session(bare_nginx):
            pass
