"""`doctor`: each way in which a server cannot be reached has its own line, and says what to do."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from async_comfy.testing import SimulatedServer
from tests.cli.shell import Ended, Shell

HEALTHY = [
    "address",
    "proxy",
    "name",
    "connection",
    "TLS",
    "HTTP",
    "version",
    "clock",
    "origin",
    "events",
    "session",
]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of whoever runs the tests does not matter."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def failed(ended: Ended) -> list[str]:
    """The steps that failed; that each says what to do is checked on the way."""
    bad = [line for line in ended.json if not line["ok"]]
    assert all(line["hint"] for line in bad)
    return [line["step"] for line in bad]


@pytest.mark.parametrize("profile", ["0.3.40", "0.33"])
def test_a_healthy_server_passes_every_step(
    profile: str, shell: Shell, comfy_server_factory: "type[SimulatedServer]"
) -> None:
    """Each a line; exit code 0."""
    url = comfy_server_factory(profile=profile).url
    ended = shell.type("doctor", "--json", "--server", url)

    assert ended.code == 0
    assert [line["step"] for line in ended.json] == HEALTHY
    assert all(line["ok"] for line in ended.json)
    assert [line.split()[1] for line in shell.type("doctor", "--server", url).out.splitlines()] == ["ok"] * 11


def test_a_closed_port_ends_the_examination(shell: Shell) -> None:
    """Exit code 3; what needs a connection is not tried."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        ended = shell.type("doctor", "--json", "--server", f"127.0.0.1:{nobody.getsockname()[1]}")

    assert (ended.code, failed(ended)) == (3, ["connection"])
    assert ended.json[-1]["step"] == "connection"
    assert "--listen" in ended.json[-1]["hint"]


def test_a_name_that_nobody_has(shell: Shell) -> None:
    """Exit code 3."""
    ended = shell.type("doctor", "--json", "--server", "http://comfy.invalid:8188")
    assert (ended.code, failed(ended)) == (3, ["name"])


def test_what_is_no_address(shell: Shell) -> None:
    """Exit code 2; nothing is tried."""
    ended = shell.type("doctor", "--json", "--server", "ftp://fox")
    assert (ended.code, failed(ended)) == (2, ["address"])


def test_https_where_there_is_http(shell: Shell) -> None:
    """The scheme is wrong, and that is said."""
    ended = shell.type("doctor", "--json", "--server", shell.url.replace("http:", "https:"))
    assert (ended.code, failed(ended)) == (3, ["TLS"])
    assert "http://" in ended.json[-1]["hint"]


def test_denied_access_is_told_without_the_key(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Exit code 4, and the options that say who you are."""
    comfy_server.faults.deny(401)

    ended = shell.type("doctor", "--json", "--api-key", "sesame")
    assert (ended.code, failed(ended)) == (4, ["HTTP"])
    assert "--api-key" in ended.json[-1]["hint"]
    assert "sesame" not in ended.out + ended.err


def test_the_credentials_are_sent(shell: Shell, comfy_server: SimulatedServer) -> None:
    """As every other command sends them."""
    shell.type("doctor", "--bearer", "sesame", "--header", "X-Team: red")

    seen = comfy_server.requests[0].headers
    assert (seen["Authorization"], seen["X-Team"]) == ("Bearer sesame", "red")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [(502, "", "502"), (200, "<html>", "not ComfyUI"), (200, "[]", "not ComfyUI"), (302, "", "redirects")],
)
def test_something_else_answers(
    status: int, body: str, words: str, shell: Shell, comfy_server: SimulatedServer
) -> None:
    """A proxy without a server, a login page, another program: exit code 3."""
    comfy_server.faults.answer(("GET", "/system_stats"), status, body)

    ended = shell.type("doctor", "--json")
    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert words in ended.json[-1]["found"]


class _NoUpgrade(BaseHTTPRequestHandler):
    """A proxy that forgets the Upgrade header, in front of an old server whose clock stands."""

    def do_GET(self) -> None:
        body = b'{"system": {"comfyui_version": "0.2.0"}}'
        self.send_response_only(200 if self.path.startswith("/system_stats") else 400)
        self.send_header("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        return


@pytest.fixture
def careless_proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _NoUpgrade) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_does_not_stop_the_rest_is_told_beside_it(shell: Shell, careless_proxy: str) -> None:
    """Version, clock and upgrade fail, each with its line."""
    ended = shell.type("doctor", "--json", "--server", careless_proxy)

    assert failed(ended) == ["version", "clock", "events"]
    assert ended.code == 1
    assert "Upgrade" in ended.json[-1]["hint"]


def test_the_proxy_of_the_environment_is_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its password; who is tried next is the proxy."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("http_proxy", f"http://fox:sesame@{proxy}")
        ended = shell.type("doctor", "--json", "--server", "http://comfy.example:8188")

    assert (ended.code, failed(ended)) == (3, ["connection"])
    assert proxy in ended.json[1]["found"]
    assert "sesame" not in ended.out + ended.err
