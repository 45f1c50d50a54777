"""The same work by the packages that people use today, each in its own environment and process.

Eight servers, 160 prompts, four in flight on each, paced as recorded. Some fetch the pictures unasked
(a picture here is 70 bytes): compare them with our row that does. A peer that fails or hangs shows as that.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks import traffic
from benchmarks.fleet import ROOT, Fleet, cores, pin
from benchmarks.tables import Bars, Table

NAME = "peers"
SCRIPTS = Path(__file__).parent / "peers"
TOOLS = ROOT / ".tools"
PYTHONS = TOOLS / "peers"
NODES = TOOLS / "peers-npm"
PACKAGES = ("comfy-sdk", "comfy-api-proxy", "comfy-api-client[http]", "comfy-catapult", "comfyui-xy")
MODULES = ("@saintno/comfyui-sdk",)
SERVERS, PROMPTS, IN_FLIGHT = 8, 160, 32
PATIENCE_S = 30.0  # the slowest that works needs about 15
_NOTE = (
    "Per prompt, medians of three runs. Latency runs from the server's end mark; the pool of "
    "@saintno/comfyui-sdk gives a prompt back when its output node was executed, so before that."
)
_TICKS = os.sysconf("SC_CLK_TCK")


class Peer(NamedTuple):
    """Its name, its script, whether it fetches the pictures, and whether it needs proxies."""

    name: str
    script: str
    pictures: bool
    proxied: bool = False


PEERS = (
    Peer("async_comfy", "async_comfy_here.py", pictures=False),
    Peer("async_comfy, with pictures", "async_comfy_pictures.py", pictures=True),
    Peer("comfy-sdk + comfy-api-proxy", "with_comfy_sdk.py", pictures=False, proxied=True),
    Peer("comfy-api-client (http)", "with_comfy_api_client.py", pictures=True),
    Peer("comfy-catapult", "with_comfy_catapult.py", pictures=False),
    Peer("comfyui-xy", "with_comfyui_xy.py", pictures=True),
    Peer("@saintno/comfyui-sdk pool", "with_saintno_pool.mjs", pictures=False),
)


def measure(quick: bool) -> dict[str, Any]:
    """Installs the peers where they are missing, then gives each its turn; twice for the median."""
    missing = install()
    found: dict[str, Any] = {}
    with Fleet(SERVERS) as fleet:
        for peer in PEERS:
            if why := missing.get(peer.script.rpartition(".")[2]):
                found[peer.name] = {"failed": why}
                continue
            turns = [turn(fleet, peer) for _ in range(1 if quick else 3)]
            found[peer.name] = _middle(turns)
    return {"rows": found, "versions": _versions()}


def install() -> dict[str, str]:
    """Environments below .tools; why a kind of script cannot run."""
    missing = {}
    python = PYTHONS / "bin" / "python"
    try:
        if not (PYTHONS / "bin" / "comfy-api-proxy").exists():
            venv.create(PYTHONS, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    except subprocess.CalledProcessError as error:
        missing["py"] = f"not installed ({error.returncode})"
    if shutil.which("node") is None or shutil.which("npm") is None:
        missing["mjs"] = "node is not here"
    elif not (NODES / "node_modules" / MODULES[0]).exists():
        NODES.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["npm", "install", "--silent", "--prefix", NODES, *MODULES], check=False)
        if done.returncode:
            missing["mjs"] = f"not installed ({done.returncode})"
    return missing


def turn(fleet: Fleet, peer: Peer) -> dict[str, Any]:
    """One peer's turn; why it failed, if it did."""
    fleet.reset(beat_us=1000)
    work: dict[str, Any] = {
        "urls": fleet.urls,
        "prompts": PROMPTS,
        "in_flight": IN_FLIGHT,
        "workflow": traffic.WORKFLOW,
    }
    with _proxies(fleet.urls if peer.proxied else []) as (proxies, pids):
        before = sum(map(_cpu_s, pids))
        said = _run(peer, {**work, "proxies": proxies})
        proxy_s = sum(map(_cpu_s, pids)) - before
    if "failed" in said and isinstance(said["failed"], str):
        return said
    return _row(said, proxy_s, fleet.counted())


def _row(said: dict[str, Any], proxy_s: float, counted: dict[str, Any]) -> dict[str, Any]:
    done = len(said["back_ns"])
    if not done:
        return {"failed": f"all failed: {(said['failed'] or ['-'])[0]}"}
    ends = counted["ends"]
    late = [(back - ends[prompt]) / 1e6 for prompt, back in said["back_ns"].items() if prompt in ends]
    return {
        "cpu_us": (said["cpu_s"] + proxy_s) / done * 1e6,
        "proxy_us": proxy_s / done * 1e6,
        "wall_s": said["wall_s"],
        "latency_ms": median(late) if late else None,
        "requests": sum(counted["requests"].values()) / (PROMPTS + SERVERS),
        "failures": said["failures"],
        "first_failure": (said["failed"] or [""])[0],
    }


def _run(peer: Peer, work: dict[str, Any]) -> dict[str, Any]:
    process = subprocess.Popen(
        [*_command(peer), json.dumps(work)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=NODES if peer.script.endswith(".mjs") else ROOT,
        text=True,
    )
    pin(process.pid, cores()[0])
    try:
        said, moaned = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"failed": f"hangs: not done after {PATIENCE_S:.0f} s"}
    lines = [line for line in said.splitlines() if line.startswith("{")]
    if not lines:
        last = (moaned.strip().splitlines() or ["said nothing"])[-1]
        return {"failed": f"ended with {process.returncode}: {last[:160]}"}
    return dict(json.loads(lines[-1]))


def _command(peer: Peer) -> list[str]:
    script = SCRIPTS / peer.script
    if script.suffix == ".mjs":
        here = NODES / script.name  # node looks for modules where the script lies
        shutil.copyfile(script, here)
        return ["node", str(here)]
    ours = peer.name.startswith("async_comfy")
    python = sys.executable if ours else str(PYTHONS / "bin" / "python")
    return [python, "-m", f"benchmarks.peers.{script.stem}"]


@contextmanager
def _proxies(urls: list[str]) -> Iterator[tuple[dict[str, str], list[int]]]:
    """A comfy-api-proxy before each server, on the servers' core; their process ids."""
    running: list[subprocess.Popen[bytes]] = []
    addresses: dict[str, str] = {}
    try:
        for url in urls:
            port = _free_port()
            proxy = str(PYTHONS / "bin" / "comfy-api-proxy")
            command = [proxy, "run", "--comfyui", url, "--port", str(port)]
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen(command, stdout=quiet, stderr=quiet))
            pin(running[-1].pid, cores()[-1])
            addresses[url] = f"http://127.0.0.1:{port}"
        for address in addresses.values():
            _wait_for(f"{address}/api/v2/health")
        yield addresses, [process.pid for process in running]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=1):  # noqa: S310  # loopback
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _middle(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the turns that came to an end, and what went wrong in any."""
    ended = [each for each in turns if "failed" not in each]
    if not ended:
        return turns[0]
    found: dict[str, Any] = {}
    for key in ("cpu_us", "proxy_us", "wall_s", "latency_ms", "requests"):
        known = [each[key] for each in ended if each[key] is not None]
        found[key] = median(known) if known else None
    worst = max(ended, key=lambda each: each["failures"])
    troubles = [f"{worst['failures']} of {PROMPTS} failed ({worst['first_failure']})"] * bool(
        worst["failures"]
    )
    stuck = [each["failed"] for each in turns if "failed" in each]
    troubles += [f"{len(stuck)} of {len(turns)} runs: {stuck[0]}"] if stuck else []
    return found | {"trouble": "; ".join(troubles)}


def _versions() -> dict[str, str]:
    python = PYTHONS / "bin" / "python"
    found: dict[str, str] = {}
    if python.exists():
        asked = [str(python), "-m", "pip", "list", "--format", "json"]
        listed = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        found = {each["name"]: each["version"] for each in listed if "comfy" in each["name"]}
    about = NODES / "node_modules" / MODULES[0] / "package.json"
    if about.exists():
        found[MODULES[0]] = json.loads(about.read_text())["version"]
    return found


def tables(result: dict[str, Any]) -> list[Table]:
    """For the report."""
    header = ["", "CPU, us", "of it proxies", "makespan, s", "latency, ms", "requests", "pictures", "trouble"]
    keys = ("cpu_us", "proxy_us", "wall_s", "latency_ms", "requests")
    rows: list[tuple[Any, ...]] = []
    words = []
    for peer in PEERS:
        row = result["rows"][peer.name]
        values = [row.get(key) for key in keys]
        said = row.get("failed") or row["trouble"]
        rows.append((peer.name, *values, "yes" if peer.pictures else "no", "yes" if said else "no"))
        if said:
            words.append(f"{peer.name}: {said}.")
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    note = " ".join([_NOTE, *words, f"Measured: {versions}."])
    good = {name: row for name, row in result["rows"].items() if "failed" not in row}
    bars = {
        "CPU per prompt, ms": {name: row["cpu_us"] / 1e3 for name, row in good.items()},
        "makespan, s": {name: row["wall_s"] for name, row in good.items()},
        "latency, ms": {name: row["latency_ms"] for name, row in good.items() if row["latency_ms"]},
    }
    title = f"{SERVERS} servers, {PROMPTS} prompts, {IN_FLIGHT} in flight"
    found = [Table(title, header, rows, note)]
    for group, figures in bars.items():
        name, _, unit = group.partition(", ")
        plot = Bars("peers_" + name.split()[0].lower(), name, unit, {"": figures})
        found.append(Table(group, ["", unit], list(figures.items()), "", plot))
    return found
