"""`stats` and `free`: what a server has, and giving it back."""

from typing import Any

import pytest

from async_comfy.testing import SimulatedServer
from tests.cli.shell import Shell


def test_version_memory_and_queue_are_shown(shell: Shell) -> None:
    """A line each."""
    lines = dict(line.split(maxsplit=1) for line in shell.type("stats").out.splitlines())

    assert lines["ComfyUI"].startswith("0.33.0")
    assert lines["RAM"] == "24.0 of 24.0 GiB free"
    assert lines["VRAM"] == "24.0 of 24.0 GiB free  cpu"
    assert lines["Queue"] == "0 to do"


def test_programs_get_what_the_server_says(shell: Shell) -> None:
    """Verbatim, with the length of its queue."""
    (told,) = shell.type("stats", "--json").json
    assert told.keys() == {"system", "devices", "queue_remaining"}
    assert told["system"]["comfyui_version"] == "0.33.0"


@pytest.mark.parametrize("odd", ['{"system": 5, "devices": [null, {}]}', "{}"])
def test_odd_numbers_are_unknown(odd: str, shell: Shell, comfy_server: SimulatedServer) -> None:
    """Not an error: the rest is worth showing."""
    comfy_server.faults.answer(("GET", "/system_stats"), 200, odd)

    ended = shell.type("stats")
    assert ended.code == 0
    assert "RAM      ?" in ended.out


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], {"unload_models": True, "free_memory": True}),
        (["--keep-results"], {"unload_models": True, "free_memory": False}),
    ],
)
def test_free_asks_for_what_was_wished(
    words: list[str], asked: dict[str, Any], shell: Shell, comfy_server: SimulatedServer
) -> None:
    """One POST; stdout is for programs alone."""
    told = {"server": comfy_server.url, "asked": asked, "queue": 0}
    assert shell.type("free", "--json", *words).json == [told]
    assert shell.type("free", *words).out == ""
    assert [seen.json for seen in comfy_server.requests if seen.path == "/free"] == [asked, asked]
