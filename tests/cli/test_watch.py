"""`watch`: everybody's jobs, while they come and go."""

import io
import json
import signal
from collections.abc import Callable
from threading import Thread

import pytest
from rich.console import Console

from async_comfy import Session, Workflow
from async_comfy.cli.live_queue import LiveQueue
from async_comfy.cli.watch import LOOKS, Board
from async_comfy.testing import SimulatedServer
from tests.cli import screen
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.cli.test_queue import submit
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]


def test_a_strangers_job_from_running_to_its_end(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Submitted by another process; Ctrl-C is how it is meant to end."""
    comfy_server.hold("step")
    (prompt_id,) = submit(shell, workflow_file(diffusion()), 1)
    comfy_server.wait(lambda: comfy_server.at == "step")
    with started(shell, "watch") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        comfy_server.release()
        second = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)

    assert first.split()[:2] == ["running", prompt_id]
    assert second.split()[:2] == ["completed", prompt_id]
    assert process.returncode == 0


def test_programs_get_the_lines_of_queue(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """An object for each job that is there."""
    comfy_server.hold("step")
    ids = submit(shell, workflow_file(diffusion()), 2)
    comfy_server.wait(lambda: comfy_server.at == "step")
    with started(shell, "watch", "--json") as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]

    assert [line["prompt_id"] for line in lines] == ids
    assert lines == shell.type("queue", "--json").json


@pytest.mark.anyio
async def test_a_job_that_is_taken_out_is_gone() -> None:
    """The server keeps no history of it. Once it is sure: history may be written late."""
    board = Board()
    async with SimulatedServer() as server, Session(server.url) as session:
        server.hold("step")
        running, waiting = [await session.submit(diffusion(seed)) for seed in (1, 2)]
        await server.until_at("step")
        seen = await board.look(session)
        await session.queue.delete([waiting.id])
        later = [await board.look(session) for _ in range(LOOKS + 1)]

    assert [(job["prompt_id"], job["state"]) for job in seen] == [
        (running.id, "running"),
        (waiting.id, "waiting"),
    ]
    gone = [{"state": "gone", "prompt_id": waiting.id}]
    assert later == [[]] * (LOOKS - 1) + [gone, []]


def test_the_queue_stays_at_the_bottom() -> None:
    """What ended is printed once, above it; what finds no room is counted."""
    screen = LiveQueue()
    file = io.StringIO()
    screen.console = Console(file=file, width=80, height=5)
    screen.live.console = screen.console
    board = Board()
    board.jobs = {
        name: {"state": "waiting", "prompt_id": name, "number": 1, "nodes": 2} for name in ("a", "b", "c")
    }
    screen.show([board.jobs["a"], {"state": "gone", "prompt_id": "z"}], board)

    assert file.getvalue() == "gone  z\n"
    assert str(screen.jobs(board)).splitlines() == [
        "3 to do",
        "waiting  a  2 nodes",
        "waiting  b  2 nodes",
        "and 1 more",
    ]
    assert str(screen.jobs(Board())) == "Nothing runs, nothing waits."


@pytest.mark.parametrize("status", [502, 500])
def test_trouble_of_the_server_is_one_line(
    status: int, shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """However long it takes; then it goes on."""
    with started(shell, "watch") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        comfy_server.wait(lambda: comfy_server.requests.count("GET", "/queue") > 0)
        comfy_server.faults.answer(("GET", "/queue"), status, "<html>", times=2)
        lines = [process.stderr.readline() for _ in range(2)]
        comfy_server.hold("step")
        (prompt_id,) = submit(shell, workflow_file(diffusion()), 1)
        comfy_server.wait(lambda: comfy_server.at == "step")
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=PATIENCE_S)

    assert lines == [f"the server answers {status}, trying again\n", "connected again\n"]
    assert first.split()[1] == prompt_id
    assert rest == ""


def test_a_terminal_shows_the_newest_picture(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Below the queue, as the terminal can; gone when it ends."""
    comfy_server.hold("step")
    submit(shell, workflow_file(diffusion()), 1)
    comfy_server.wait(lambda: comfy_server.at == "step")

    def finish() -> None:
        comfy_server.wait(lambda: comfy_server.requests.count("GET", "/queue") > 1)
        comfy_server.release()

    helper = Thread(target=finish)
    helper.start()
    env = screen.environment(shell.own, TERM="xterm-kitty")
    code, said = screen.typed(screen.python("watch"), env, (b"m=0;", b"\x03"))
    helper.join()

    assert code == 0
    head, picture = screen.kitty(said)
    assert head["U"] == "1"
    assert picture.width > 100
    assert screen.keys(screen.KITTY.findall(said)[-1][0]) == {"a": "d", "d": "I", "i": head["i"], "q": "2"}


def test_no_preview_asks_for_no_picture(
    shell: Shell, workflow_file: WriteFile, comfy_server: SimulatedServer
) -> None:
    """Nothing is downloaded."""
    comfy_server.hold("step")
    (prompt_id,) = submit(shell, workflow_file(diffusion()), 1)
    comfy_server.wait(lambda: comfy_server.at == "step")

    def finish() -> None:
        comfy_server.wait(lambda: comfy_server.requests.count("GET", "/queue") > 1)
        comfy_server.release()

    helper = Thread(target=finish)
    helper.start()
    env = screen.environment(shell.own, TERM="xterm-kitty")
    ended = f"completed  {prompt_id}".encode()
    code, said = screen.typed(screen.python("watch", "--no-preview"), env, (ended, b"\x03"))
    helper.join()

    assert code == 0
    assert "\x1b_G" not in said
    assert comfy_server.requests.count("GET", "/view") == 0
