"""A server to run against, and a folder of its own for each test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from async_comfy import Workflow
from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell


@pytest.fixture
def shell(comfy_server: SimulatedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Where commands are typed: in an empty folder, with ASYNC_COMFY_URL set to the simulated server."""
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, comfy_server.url)


@pytest.fixture
def workflow_file(tmp_path: Path) -> Callable[[Workflow], str]:
    """Writes a workflow as fox.json; its name."""

    def write(workflow: Workflow) -> str:
        (tmp_path / "fox.json").write_text(json.dumps(workflow.to_api()))
        return "fox.json"

    return write
