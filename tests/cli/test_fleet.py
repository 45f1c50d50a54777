"""`fleet`, `run --fleet`, `drain`, `warm` and `free`: many servers from the command line."""

import io
import json
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import pytest
from rich.console import Console

from async_comfy import Workflow
from async_comfy.cli import drain as drain_command
from async_comfy.cli.fleet_table import table
from async_comfy.cli.observer import Sight
from async_comfy.testing import SimulatedServer
from tests.cli import screen
from tests.cli.shell import PATIENCE_S, Shell, started
from tests.cli.test_bad_input import assert_clear
from tests.cli.test_each import ended, write
from tests.cli.test_run import failing, seeds_posted
from tests.live.pictures import diffusion

WriteFile = Callable[[Workflow], str]

FLEET = """\
# our fleet
depth = 1

[[server]]
name = "gpu1"
url = "{0}"   # the quick one
labels = [ "24gb" ]

[[server]]
url = "{1}"
name = "gpu2"

[[lane]]
name = "image"

[[lane]]
name = "video"
"""


@dataclass
class TwoServers:
    """gpu1 and gpu2 of fleet.toml."""

    gpu1: SimulatedServer
    gpu2: SimulatedServer
    file: Path

    @property
    def all(self) -> list[SimulatedServer]:
        return [self.gpu1, self.gpu2]

    @property
    def executions(self) -> int:
        return sum(sum(server.executions.values()) for server in self.all)

    @property
    def seeds(self) -> list[int]:
        return sorted(seed for server in self.all for seed in seeds_posted(server))


@pytest.fixture
def fleet(shell: Shell, comfy_server_factory: Callable[..., SimulatedServer]) -> TwoServers:
    one, two = comfy_server_factory(), comfy_server_factory()
    file = shell.folder / "fleet.toml"
    file.write_text(FLEET.format(one.url, two.url))
    return TwoServers(one, two, file)


def post(server: SimulatedServer, workflow: Workflow) -> str:
    """A prompt of somebody else's, without a client id."""
    body = json.dumps({"prompt": workflow.to_api()}).encode()
    with urlopen(Request(f"{server.url}/prompt", body, {"Content-Type": "application/json"})) as answer:  # noqa: S310  # loopback
        return str(json.load(answer)["prompt_id"])


def until_busy(server: SimulatedServer) -> None:
    """A prompt is there."""
    server.wait(lambda: server.queue_remaining == 1)


def test_the_table_names_every_server(shell: Shell, fleet: TwoServers) -> None:
    """Idle ones, and those that are away, with the reason; no colours where stdout is no terminal."""
    fleet.gpu2.call(fleet.gpu2.crash())
    ended = shell.type("fleet", "--once")

    assert ended.code == 0
    assert ended.out.splitlines()[0] == "2 servers: 1 away, 1 idle; 0 prompts to do"
    first, second = (line.split() for line in ended.out.splitlines() if "gpu" in line)
    assert first[:5] == ["gpu1", "idle", "all", "0", "-"]
    assert second[:4] == ["gpu2", "away", "all", "-"]
    assert "connection refused" in " ".join(second)
    assert "\x1b" not in ended.out


def test_without_any_server_there_is_nothing_to_see(shell: Shell, fleet: TwoServers) -> None:
    for server in fleet.all:
        server.call(server.crash())

    assert shell.type("fleet", "--once").code == 3


def test_what_runs_is_told_of_whoever_it_is(shell: Shell, fleet: TwoServers) -> None:
    """Prompt, models, queue; and of a prompt without a client id, whose events everybody hears, the steps."""
    fleet.gpu1.hold("step")
    prompt_id = post(fleet.gpu1, diffusion(steps=30))
    post(fleet.gpu1, diffusion(seed=2))
    fleet.gpu1.wait(lambda: fleet.gpu1.at == "step")

    with started(shell, "fleet", "--json", "--every", "0.1") as process:
        assert process.stdout is not None
        seen = next(one for one in map(first_server, process.stdout) if one["running"] is not None)
        assert (seen["server"], seen["state"], seen["queue"]) == ("gpu1", "busy", 2)
        assert seen["running"] == prompt_id
        assert seen["models"] == ["sd_xl_base_1.0.safetensors"]
        assert seen["vram_total"] > 0
        assert seen["fraction"] is None, "no event of it was heard yet"
        for heard in map(first_server, process.stdout):
            if heard["fraction"] is not None:
                break
            fleet.gpu1.advance()  # one step; what it says is heard
        assert heard["doing"].endswith("/30")
        assert 0 < heard["fraction"] < 1
        fleet.gpu1.release()
        idle = next(one for one in map(first_server, process.stdout) if one["done"] >= 1)
        assert idle["ms_per_step"] > 0
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
    assert fleet.gpu1.requests.count("POST", "/prompt") == 2, "nothing was sent by us"


@pytest.mark.parametrize("width", [40, 60, 76, 100, 120, 160])
def test_the_table_fits_the_terminal(width: int) -> None:
    """What matters most has room in a narrow one: names, states, queues, failures; then how far a job is."""
    busy = Sight(
        "gpu-of-a-long-name.example.org:8188",
        "http://gpu1",
        state="busy",
        queue=12,
        running="c1887f3e-5b7c",
        running_s=123.0,
        fraction=0.42,
        doing="KSampler 12/30",
        models=("sd_xl_base_1.0.safetensors", "detail.safetensors"),
        vram_free=1 << 30,
        vram_total=24 << 30,
        failed=7,
    )
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as said:
        console.print(table([busy] * 20, width, "trouble", height=12))
    lines = [line.rstrip() for line in said.get().splitlines()]

    assert all(len(line) <= width for line in lines)
    assert len(lines) <= 12 + (width == 40), "the summary is wrapped there"
    assert lines[-1] == "and 15 more"
    assert "trouble" in lines
    row = next(line for line in lines if "gpu-" in line)
    assert [word for word in row.split()[1:4] if word != "all"][:2] == ["busy", "12"]
    assert row.endswith(" 7")
    assert ("42%" in row) == (width >= 60)


def test_the_table_is_drawn_apart_and_the_last_one_stays(shell: Shell, fleet: TwoServers) -> None:
    """Lines that a terminal wraps while it is made narrower do not stay behind."""
    env = screen.environment(shell.own)
    code, said = screen.typed(screen.python("fleet", str(fleet.file)), env, (b"2 idle", b"\x03"))

    live, left, stays = said.rpartition("\x1b[?1049l")
    assert code == 0
    assert left
    assert "\x1b[?1049h" in live
    assert "2 servers: 2 idle; 0 prompts to do" in stays


def first_server(line: str) -> dict[str, Any]:
    found = json.loads(line)
    return dict(found["servers"][0])


def test_failures_are_counted_and_the_file_is_followed(shell: Shell, fleet: TwoServers) -> None:
    """A failed prompt of anybody; a file that is wrong for a while; a server with another name."""
    with started(shell, "fleet", "--json", "--every", "0.1") as process:
        assert process.stdout is not None
        next(one for one in map(first_server, process.stdout) if one["state"] == "idle")
        held = fleet.gpu1
        held.hold("node")
        post(held, failing())
        next(one for one in map(first_server, process.stdout) if one["running"] is not None)
        held.release()
        next(one for one in map(first_server, process.stdout) if one["failed"] == 1)
        text = fleet.file.read_text()
        fleet.file.write_text("[[server]")
        fleet.file.write_text(text.replace("gpu1", "other"))
        next(one for one in map(first_server, process.stdout) if one["server"] == "other")


def test_a_job_goes_to_whichever_server_has_room(
    shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """Both work; each picture is saved, and the manifest names its server."""
    for server in fleet.all:
        server.hold("prompt")
    words = ("run", workflow_file(diffusion()), "--count", "6", "--seed", "1", "--fleet", "fleet.toml")
    with started(shell, *words) as process:
        for server in fleet.all:
            until_busy(server)
            server.release()
        out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, err
    assert len(out.split()) == len(shell.files("**/*.png")) == 6
    assert fleet.seeds == [1, 2, 3, 4, 5, 6]
    assert {line["server"] for line in ended(shell)} == {"gpu1", "gpu2"}
    assert "sent as" in err


def test_one_server_of_the_fleet_can_be_asked_for(
    shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """With lane, key, priority, deadline and retry, which the pool takes."""
    more = ("--lane", "video", "--key", "me", "--priority", "2", "--deadline", "60", "--retry", "if_lost")
    ended = shell.type(
        "run", workflow_file(diffusion()), "--fleet", "fleet.toml", "--server", "gpu2", *more, "--json"
    )

    assert ended.code == 0
    assert [line["server"] for line in ended.json if line["type"] == "submitted"] == ["gpu2"]
    assert fleet.gpu1.requests.count("POST", "/prompt") == 0


def test_a_crash_in_the_middle_of_a_fleet_runs_nothing_twice(
    shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """Kill -9 with a job at each server: both are picked up where they are."""
    rows = write(shell, "p.csv", "seed\n" + "".join(f"{seed}\n" for seed in range(1, 9)))
    words = ("run", workflow_file(diffusion()), "--each", rows, "--fleet", "fleet.toml")
    for server in fleet.all:
        server.hold("prompt")
    with started(shell, *words) as process:
        for server in fleet.all:
            until_busy(server)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    fleet.gpu1.release()
    fleet.gpu1.wait(lambda: fleet.gpu1.queue_remaining == 0)

    with started(shell, *words) as process:
        assert process.stderr is not None
        assert "was sent before" in process.stderr.readline()
        fleet.gpu2.release()
        out, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0, err
    assert len(out.split()) == 8
    assert Counter(fleet.seeds) == dict.fromkeys(range(1, 9), 1)
    assert {line["server"] for line in ended(shell)} == {"gpu1", "gpu2"}
    assert fleet.executions == 8


def test_a_server_that_cannot_be_asked_keeps_its_rows(
    shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """Nobody knows whether they ran: it is to be started, or taken out of the file."""
    rows = write(shell, "p.csv", "seed\n" + "".join(f"{seed}\n" for seed in range(1, 9)))
    words = ("run", workflow_file(diffusion()), "--each", rows, "--fleet", "fleet.toml")
    for server in fleet.all:
        server.hold("prompt")
    with started(shell, *words) as process:
        for server in fleet.all:
            until_busy(server)
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_S)
    fleet.gpu1.release()
    fleet.gpu2.call(fleet.gpu2.crash())

    assert_clear(shell.type(*words), 3, "gpu2", "take it out of fleet.toml")
    assert len(fleet.seeds) == 2
    text = fleet.file.read_text()
    fleet.file.write_text(text.replace(f'[[server]]\nurl = "{fleet.gpu2.url}"\nname = "gpu2"\n', ""))
    again = shell.type(*words)
    assert again.code == 0, again.err
    assert "gpu2, which is not used now: it is run again" in again.err
    assert sorted(seeds_posted(fleet.gpu1)) == list(range(1, 9))


def test_what_does_not_stop_is_told_by_the_id_that_its_server_knows(
    shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """So that it can be looked for there."""
    for server in fleet.all:
        server.faults.lost_cancels = 10**9
        server.hold("step")
    with started(shell, "run", workflow_file(diffusion()), "--fleet", "fleet.toml") as process:
        assert process.stderr is not None
        prompt_id = re.findall("sent as (.+) to", process.stderr.readline())[0]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 130
    assert f"asked but not stopped yet: {prompt_id};" in err


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process reads the file here."""
    monkeypatch.setattr(drain_command, "SETTLE_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_drain_marks_the_file_and_waits(shell: Shell, fleet: TwoServers) -> None:
    """Comments and layout stay; --undo gives the file back byte by byte."""
    before = fleet.file.read_text()
    drained = shell.type("drain", "gpu1")

    assert (drained.code, drained.err.splitlines()[-1]) == (0, "gpu1 is empty")
    assert fleet.file.read_text() == before.replace('"24gb" ]\n', '"24gb" ]\ndrain = true\n')
    states = [line.split()[1] for line in shell.type("fleet").out.splitlines() if "gpu" in line]
    assert states == ["drained", "idle"]
    assert shell.type("drain", "gpu1", "--undo").code == 0
    assert fleet.file.read_text() == before
    assert [path.name for path in shell.folder.iterdir()] == ["fleet.toml"]


@pytest.mark.usefixtures("at_once")
def test_drain_returns_when_the_queue_is_empty(shell: Shell, fleet: TwoServers) -> None:
    """It says what is left; --no-wait does not wait for that."""
    server = fleet.gpu2
    server.hold("prompt")
    post(server, diffusion())
    assert shell.type("drain", server.url, "--no-wait").code == 0

    def go_on() -> None:
        server.wait(lambda: server.open_sockets == 1)
        server.release()

    other = Thread(target=go_on)
    other.start()
    drained = shell.type("drain", "gpu2")
    other.join()

    assert (drained.code, drained.err.splitlines()[-1]) == (0, "gpu2 is empty")
    assert server.queue_remaining == 0


def test_a_drained_server_gets_nothing(shell: Shell, fleet: TwoServers, workflow_file: WriteFile) -> None:
    """Of a pool that reads the file afterwards, either."""
    shell.type("drain", "gpu1", "--no-wait")

    assert shell.type("run", workflow_file(diffusion()), "--count", "3", "--fleet", "fleet.toml").code == 0
    assert fleet.gpu1.requests.count("POST", "/prompt") == 0


def test_warm_loads_at_as_many_servers(shell: Shell, fleet: TwoServers, workflow_file: WriteFile) -> None:
    """One step, nothing saved; the names of the servers on stdout."""
    ended = shell.type("warm", workflow_file(diffusion()), "--servers", "2")

    assert (ended.code, sorted(ended.out.split())) == (0, ["gpu1", "gpu2"])
    for server in fleet.all:
        prompt = next(request.json["prompt"] for request in server.requests if request.method == "POST")
        assert prompt["5"]["inputs"]["steps"] == 1
        assert "SaveImage" not in {node["class_type"] for node in prompt.values()}
    more = shell.type("warm", "fox.json", "--servers", "3", "--json")
    assert more.code == 1
    assert sorted(more.json[0]["servers"]) == ["gpu1", "gpu2"]
    assert "Only 2 of 3 hold them" in more.err


def test_free_leaves_servers_alone_that_work(shell: Shell, fleet: TwoServers) -> None:
    """Their next prompt would load again; --force asks them, too."""
    fleet.gpu1.hold("prompt")
    post(fleet.gpu1, diffusion())
    freed = shell.type("free", "--fleet", "fleet.toml")

    assert freed.code == 1
    assert "gpu1: left alone, it has 1 to do; --force" in freed.err
    assert [server.requests.count("POST", "/free") for server in fleet.all] == [0, 1]
    assert shell.type("free", "--fleet", "fleet.toml", "--force").code == 0
    assert [server.requests.count("POST", "/free") for server in fleet.all] == [1, 2]
    assert shell.type("free", "--server", fleet.gpu1.url).code == 1
    fleet.gpu1.release()
    fleet.gpu2.call(fleet.gpu2.crash())
    fleet.gpu1.wait(lambda: fleet.gpu1.queue_remaining == 0)
    away = shell.type("free", "--fleet", "fleet.toml")
    assert away.code == 3
    assert "gpu2: error: Cannot reach" in away.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fleet", "none.toml"], ["none.toml", "No such file"]),
        (["fleet", "bad.toml"], ["bad.toml is no TOML"]),
        (["fleet", "odd.toml"], ["odd.toml", "unknown 'server_url'"]),
        (["fleet", "empty.toml", "--once"], ["empty.toml", "no server"]),
        (["run", "fox.json", "--fleet", "none.toml"], ["none.toml", "No such file"]),
        (["run", "fox.json", "--fleet", "empty.toml"], ["server"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--lane", "fast"], ["'fast'", "image, video"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--server", "gpu9"], ["'gpu9'", "gpu2"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--no-wait"], ["--no-wait", "--fleet"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--front"], ["--front", "--priority"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--bearer", "secret"], ["--bearer", "--fleet"]),
        (["run", "fox.json", "--lane", "image"], ["--lane needs --fleet"]),
        (["run", "fox.json", "--retry", "2"], ["--retry needs --fleet"]),
        (["run", "fox.json", "--fleet", "fleet.toml", "--retry", "often"], ["'often'", "if_lost"]),
        (["drain", "gpu9"], ["fleet.toml has no server 'gpu9'", "gpu1, gpu2"]),
        (["drain", "gpu1", "--fleet", "bad.toml"], ["bad.toml is no TOML"]),
        (["warm", "none.json"], ["none.json: no such file"]),
        (["warm", "fox.json", "--fleet", "none.toml"], ["none.toml", "No such file"]),
        (["warm", "fox.json", "--servers", "0"], ["--servers"]),
        (["free", "--fleet", "none.toml"], ["none.toml", "No such file"]),
    ],
    ids=" ".join,
)
def test_bad_input_is_explained(
    words: list[str], said: list[str], shell: Shell, fleet: TwoServers, workflow_file: WriteFile
) -> None:
    """What is wrong and what to do; nothing is sent and no secret shown."""
    workflow_file(diffusion())
    write(shell, "bad.toml", "[[server]\n")
    write(shell, "odd.toml", '[[server]]\nserver_url = "http://gpu1"\n')
    write(shell, "empty.toml", "")
    ended = shell.type(*words)

    assert_clear(ended, 2, *said)
    assert "secret" not in ended.err
    assert all(server.requests.count("POST", "/prompt") == 0 for server in fleet.all)
