"""The web example in a process of its own, in front of a simulated ComfyUI."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from async_comfy.testing import SimulatedServer

WEB = Path(__file__).parent.parent.parent / "docs/examples/web"
PATIENCE_S = 30.0  # for a process to end; one that takes longer hangs


UVICORN = [
    *(sys.executable, "-m", "uvicorn", "app:app", "--port", "0"),
    *("--timeout-graceful-shutdown", "1"),
    "--no-access-log",  # nobody reads the pipe once the app has started
]


@contextmanager
def serving(comfy_url: str, folder: Path = WEB, command: list[str] = UVICORN) -> Iterator[str]:
    """The app in `folder`, as its README starts it but on a free port; its URL."""
    environment = {**os.environ, "ASYNC_COMFY_URL": comfy_url, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as app:
        try:
            yield _announced(app)
        finally:
            app.terminate()
            app.communicate(timeout=PATIENCE_S)


def _announced(app: "subprocess.Popen[str]") -> str:
    """What a server says when it listens: ``... running on http://127.0.0.1:40123 (Press ...``."""
    assert app.stdout is not None
    said = []
    for line in app.stdout:
        said.append(line)
        if "running on" in line.lower():
            return line[line.index("http") :].split()[0]
    raise AssertionError("the app did not start:\n" + "".join(said))


@pytest.fixture
def comfy(comfy_server: SimulatedServer) -> SimulatedServer:
    """The simulated ComfyUI behind the app."""
    return comfy_server


@pytest.fixture
def web(comfy: SimulatedServer) -> Iterator[str]:
    """The app's URL."""
    with serving(comfy.url) as url:
        yield url
