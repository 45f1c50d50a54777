"""Who hangs, fails falsely or succeeds falsely under four faults: this package and three others, one script.

    python -m benchmarks.faults_vs_peers [--write docs/reliability.md]

The peers are installed from the package index into an environment of their own. Every case has a simulated
server of its own; what really became of the prompt is in the server's history.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from async_comfy.testing import SimulatedServer
from benchmarks.rivals import PYTHONS, install
from benchmarks.section import replace_section

PATIENCE_S = 30.0  # promised here: a job resolves within 30 s of its end, whatever became of its events
TURNS = 5  # of each case
HANGS = "**hangs**"
AT_ONCE = 3  # cases at the same time: most of them wait
ONE = Path(__file__).with_name("peer_outcome.py")


class Peer(NamedTuple):
    """Its name for people, its function in `peer_outcome`, and whether it needs a comfy-api-proxy."""

    name: str
    function: str
    proxied: bool = False


PEERS = (
    Peer("async_comfy", "async_comfy"),
    Peer("comfy-sdk + comfy-api-proxy", "comfy_sdk", proxied=True),
    Peer("comfy-api-client (websocket)", "comfy_api_client"),
    Peer("comfy-api-client (http)", "comfy_api_client_http"),
    Peer("comfy-catapult", "comfy_catapult"),
)

PICTURE: dict[str, Any] = {
    "5": {
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 7},
        "_meta": {"title": "Paper"},
    },
    "7": {
        "class_type": "SaveImage",
        "inputs": {"images": ["5", 0], "filename_prefix": "peer"},
        "_meta": {"title": "Out"},
    },
}
FAILING: dict[str, Any] = {
    **PICTURE,
    "6": {
        "class_type": "ProbeFail",
        "inputs": {"image": ["5", 0], "message": "broken"},
        "_meta": {"title": "Bad"},
    },
    "7": {**PICTURE["7"], "inputs": {"images": ["6", 0], "filename_prefix": "peer"}},
}


def late(server: SimulatedServer) -> None:
    """History shows the prompt two seconds after its end."""
    server.faults.history_late_s = 2.0
    server.release()


def nothing(server: SimulatedServer) -> None:
    """The control: a run that goes well."""
    server.release()


def node_error(server: SimulatedServer) -> None:
    """A node raises: nothing is the matter but the workflow."""
    server.release()


def drop(server: SimulatedServer) -> None:
    """The event sockets are cut in the middle of the run, which goes on once somebody is connected again."""
    before = server.connections
    server.call(server.drop_sockets())
    give_up = time.monotonic() + 5.0  # who does not come back within it will not
    while server.connections == before and time.monotonic() < give_up:
        time.sleep(0.05)
    server.release()


def gap(server: SimulatedServer) -> None:
    """The event sockets are cut, and the run ends before anybody is connected again."""
    server.faults.drop(lambda frame: True)
    server.call(server.drop_sockets())
    server.release()
    server.wait(lambda: server.queue_remaining == 0)
    server.faults.clear()


FAULTS: dict[str, tuple[Callable[[SimulatedServer], None], dict[str, Any]]] = {
    "no fault": (nothing, PICTURE),
    "late history": (late, PICTURE),
    "node error": (node_error, FAILING),
    "socket drop": (drop, PICTURE),
    "finished during the gap": (gap, PICTURE),
}


def verdict(said: dict[str, Any] | None, *, good: bool) -> str:
    """In one word, and what was said where it was wrong."""
    if said is None:
        return HANGS
    if "error" in said:
        return "right" if not good else f"**fails falsely** ({said['error'].partition(':')[0]})"
    if not good:
        return "**succeeds falsely**"
    return "right" if said["files"] == 1 else "**succeeds falsely** (no file)"


def case(peer: Peer, fault: str) -> str:
    """One peer under one fault."""
    strike, workflow = FAULTS[fault]
    with SimulatedServer().in_thread() as server, proxied(server.url, needed=peer.proxied) as proxy:
        server.hold("node")
        python = Path(sys.executable) if peer.function == "async_comfy" else PYTHONS / "bin" / "python"
        command = [str(python), str(ONE), peer.function, server.url, proxy, json.dumps(workflow)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": _ours(peer)},
        )
        try:
            server.wait(lambda: server.at == "node" or process.poll() is not None)
            strike(server)
            said = _heard(process)
        finally:
            process.kill()
            process.communicate()
    return verdict(said, good=workflow is PICTURE)


def turns(peer: Peer, fault: str) -> str:
    """The same case over again, since some of it is a race; who hangs has had enough of our time."""
    found: Counter[str] = Counter()
    while found.total() < TURNS and HANGS not in found:
        found[case(peer, fault)] += 1
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{said} {count} of {found.total()}" for said, count in found.most_common())


def _ours(peer: Peer) -> str:
    return str(Path(__file__).parents[1]) if peer.function == "async_comfy" else ""


def _heard(process: subprocess.Popen[str]) -> dict[str, Any] | None:
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return None
    lines = output.strip().splitlines()
    return dict(json.loads(lines[-1])) if lines else {"error": f"exit {process.returncode}:"}


@contextmanager
def proxied(url: str, *, needed: bool) -> Iterator[str]:
    """A comfy-api-proxy before the server, where one is needed."""
    if not needed:
        yield ""
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(PYTHONS / "bin" / "comfy-api-proxy"), "run", "--comfyui", url, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/v2/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url: str) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310  # our own, on loopback
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)
        else:
            return


def table() -> str:
    """Every peer under every fault, as Markdown."""
    cases = [(peer, fault) for peer in PEERS for fault in FAULTS]
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        found = dict(zip(cases, crowd.map(lambda one: turns(*one), cases), strict=True))
    rows = [f"| {peer.name} | {' | '.join(found[peer, fault] for fault in FAULTS)} |" for peer in PEERS]
    note = f"Each case was played {TURNS} times, or until it hung."
    return "\n".join([f"| | {' | '.join(FAULTS)} |", "|---" * (len(FAULTS) + 1) + "|", *rows, "", note])


def main() -> None:
    """Prints the table, and writes it where ``--write`` says."""
    missing = install()
    if "py" in missing:
        raise SystemExit(f"The peers are {missing['py']}.")
    made = table()
    print(made)
    if "--write" in sys.argv:
        replace_section(Path(sys.argv[sys.argv.index("--write") + 1]), "peers", made)


if __name__ == "__main__":
    main()
