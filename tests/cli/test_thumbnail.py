"""Previews in a terminal, as half blocks."""

import io
import json
import os
import pty
import subprocess
import sys
import termios
from contextlib import suppress
from threading import Thread
from typing import Literal

import pytest
from PIL import Image
from rich.console import Console

from async_comfy import Session
from async_comfy.cli.bars import Bars
from async_comfy.cli.thumbnail import ROWS, showable, thumbnail
from async_comfy.testing import SimulatedServer
from tests.cli.shell import PATIENCE_S, Shell
from tests.live.pictures import diffusion


def png(size: tuple[int, int], top: str, rest: str) -> bytes:
    picture = Image.new("RGB", size, rest)
    picture.paste(top, (0, 0, size[0], 1))
    data = io.BytesIO()
    picture.save(data, "PNG")
    return data.getvalue()


def run_in_terminal(words: list[str], shell: Shell) -> int:
    """A command whose stderr is a terminal with colours; its exit code."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    reader = Thread(target=drain, args=(ours,))
    reader.start()
    ended = subprocess.run(
        [sys.executable, "-m", "async_comfy", *words],
        env={**env, **shell.own, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        check=False,
        timeout=PATIENCE_S,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    return ended.returncode


def drain(terminal: int) -> None:
    """Reads what is shown, as a terminal does; whoever writes would have to wait otherwise."""
    with suppress(OSError):  # as Linux says that nobody writes any more
        while os.read(terminal, 4096):
            pass


def test_two_pixels_in_a_character() -> None:
    """The upper one as its colour, the lower one as its ground."""
    shown = thumbnail(png((2, 2), "#ff0000", "#0000ff"), columns=80)

    assert shown is not None
    assert shown.plain == "▀▀"
    assert {str(span.style) for span in shown.spans} == {"#ff0000 on #0000ff"}


@pytest.mark.parametrize(("size", "columns"), [((512, 512), 80), ((2000, 100), 40), ((100, 2000), 80)])
def test_it_fits(size: tuple[int, int], columns: int) -> None:
    """Into the room that there is, and fills it one way."""
    shown = thumbnail(png(size, "#ff0000", "#0000ff"), columns)

    assert shown is not None
    lines = shown.plain.splitlines()
    assert len(lines) <= ROWS
    assert max(map(len, lines)) <= columns
    assert len(lines) == ROWS or len(lines[0]) == columns


@pytest.mark.parametrize(
    "data", [b"", b"a red fox", png((9, 9), "#ff0000", "#0000ff")[:-30], b"\xff\xd8\xff"]
)
def test_what_is_no_picture_is_not_shown(data: bytes) -> None:
    """Servers send what they like."""
    assert thumbnail(data, 80) is None


@pytest.mark.parametrize(
    ("color", "height", "able"), [("truecolor", 30, True), ("truecolor", 10, False), (None, 30, False)]
)
def test_only_a_terminal_with_colours_and_room(
    color: Literal["truecolor"] | None, height: int, able: bool
) -> None:
    """The others are left to the bars."""
    console = Console(file=io.StringIO(), color_system=color, no_color=False, height=height, width=80)
    assert showable(console) is able


def test_who_wants_no_colours_gets_no_previews() -> None:
    """NO_COLOR would leave a wall of white."""
    console = Console(file=io.StringIO(), color_system="truecolor", no_color=True, height=30, width=80)
    assert not showable(console)


@pytest.mark.parametrize(("words", "asked"), [([], "auto"), (["--no-preview"], None)])
def test_a_terminal_that_can_show_them_asks_for_them(
    words: list[str], asked: str | None, shell: Shell, comfy_server: SimulatedServer
) -> None:
    """Most servers make none unless asked; --no-preview does not ask."""
    (shell.folder / "fox.json").write_text(json.dumps(diffusion().to_api()))
    code = run_in_terminal(["run", "fox.json", *words], shell)

    (post,) = [seen for seen in comfy_server.requests if (seen.method, seen.path) == ("POST", "/prompt")]
    assert code == 0
    assert post.json.get("extra_data", {}).get("preview_method") == asked


@pytest.mark.anyio
async def test_a_running_job_shows_its_newest_preview() -> None:
    """Below the bars; gone when the job is saved."""
    bars = Bars()
    bars.previews = True
    async with SimulatedServer() as server, Session(server.url) as session:
        job = await session.submit(diffusion(), preview="auto")
        bars.submitted(1, job, session)
        await bars.follow(1, job)
        assert bars.preview is not None
        assert thumbnail(bars.preview[1], 80) is not None
        bars.saved(1, await job, [])
    assert bars.preview is None
