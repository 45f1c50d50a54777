"""Console blocks: run as bash runs them, in a folder of their own, with the simulator as the server."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from async_comfy.testing import SimulatedServer
from tests.reader.page import ROOT

PATIENCE_S = 60.0  # for a command to end; one that takes longer hangs

# What is not run, and why. A command that cannot run fails its page until it has a line here.
NOT_RUN = {
    r"pip install ": "it would fetch from the network; that what it names exists is checked",
    r"make [a-z-]+": "the whole house would run inside its own test; that the target exists is checked",
    r"\.venv/bin/pytest tests/conformance": "it wants a real server; `make test` has the rest of it",
}
SERVING = re.compile(r"\b(uvicorn|python app\.py|async-comfy simulate|python -m async_comfy\.testing)\b")
FOLLOWING = re.compile(r"\basync-comfy (watch|logs (-f|--follow))\b")
ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|0\.0\.0\.0):\d+")
INSTALLED = re.compile(r"'async-comfy\[([a-z,]+)\]'|-r ([\w./-]+)")
PICTURE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


class Shell:
    """Runs commands one by one in `folder`. What serves goes on until the end of the page."""

    def __init__(self, folder: Path, comfy: SimulatedServer) -> None:
        self._folder = folder
        self._comfy = comfy
        self._serving: list[subprocess.Popen[str]] = []
        self.heard: list[tuple[str, str]] = []
        """Commands that ran to their end, and what they said."""
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ASYNC_COMFY_URL": comfy.url,
            "PYTHONUNBUFFERED": "1",
            "UVICORN_PORT": "0",
        }
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nmax-time = 60\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._serving:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)

    def run(self, command: str) -> str:
        """What it says; for one that serves, its address."""
        if why := next((why for known, why in NOT_RUN.items() if re.search(known, command)), None):
            self._check(command)
            return why
        if SERVING.search(command):
            return self._serve(command)
        if FOLLOWING.search(command):
            return self._follow(command)
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.returncode}: {ended.stdout[-2000:]}{ended.stderr}"
        self.heard.append((command, ended.stdout))
        return ended.stdout

    def _check(self, command: str) -> None:
        """What can be seen of a command without running it."""
        for extras, requirements in INSTALLED.findall(command):
            project = (ROOT / "pyproject.toml").read_text()
            assert all(f"\n{extra} = [" in project for extra in filter(None, extras.split(",")))
            assert not requirements or (self._folder / requirements).is_file()
        for target in re.findall(r"\bmake ([a-z-]+)", command):
            planned = ["make", "--dry-run", "--silent", target]
            subprocess.run(planned, cwd=ROOT, check=True, capture_output=True)

    def _serve(self, command: str) -> str:
        process = self._started(command)
        self._serving.append(process)
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if address := ADDRESS.search(line):
                return address[0]
        raise AssertionError(f"{command} does not serve:\n{''.join(said)}")

    def _follow(self, command: str) -> str:
        """Until it has said something about a prompt that comes meanwhile, and about the log; then Ctrl-C."""
        sockets = self._comfy.connections
        process = self._started(command)
        impatience = threading.Timer(PATIENCE_S, process.kill)
        impatience.start()
        self._comfy.hold("prompt")
        try:
            self._comfy.wait(lambda: self._comfy.connections > sockets)
            if "logs" in command:
                self._comfy.wait(lambda: self._comfy.logs.listeners)
            httpx.post(f"{self._comfy.url}/prompt", json={"prompt": PICTURE}, trust_env=False)
            self._comfy.log("a line")
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said, f"{command} said nothing"
        finally:
            self._comfy.release()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_S)
            impatience.cancel()
        assert process.returncode in {0, 130}, f"{command}\n{process.returncode}: {said}"
        return said

    def _started(self, command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", "-c", f"exec env {command}"],
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
