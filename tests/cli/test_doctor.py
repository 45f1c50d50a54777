"""`doctor`: each way in which a server cannot be reached has its own line, and says what to do."""

import socket
import ssl
from pathlib import Path

import pytest
import trustme

from async_comfy.testing import SimulatedServer
from tests.cli.gate import at, gate, page, silence, tunnel
from tests.cli.shell import PATIENCE_S, Ended, Shell, started

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
    with gate(comfy_server.url, lambda head: page(status, body.encode())) as url:
        ended = shell.type("doctor", "--json", "--server", url)
    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert words in ended.json[-1]["found"]


STATS = b'{"system": {"comfyui_version": "%s"}}'


@pytest.mark.parametrize(
    ("date", "way"),
    [("Thu, 01 Jan 1970 00:00:00 GMT", "behind"), ("Thu, 01 Jan 2970 00:00:00 GMT", "ahead of")],
)
def test_a_wrong_clock(date: str, way: str, shell: Shell, comfy_server: SimulatedServer) -> None:
    """Told by the Date header; the later steps go on. Exit code 1."""
    said = page(200, STATS % b"0.33.0", f"Date: {date}")
    with gate(comfy_server.url, at("/system_stats", said)) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (1, ["clock"])
    (clock,) = [line for line in ended.json if line["step"] == "clock"]
    assert way in clock["found"]
    assert "NTP" in clock["hint"]


@pytest.mark.parametrize(("version", "code"), [(b"0.2.0", 1), (b"0.3.39", 1), (b"v0.3.40", 0), (b"odd", 0)])
def test_an_old_version(version: bytes, code: int, shell: Shell, comfy_server: SimulatedServer) -> None:
    """Exit code 1; the later steps go on."""
    with gate(comfy_server.url, at("/system_stats", page(200, STATS % version))) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (code, ["version"] if code else [])
    assert ended.json[-1]["step"] == "session"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (page(400), "/ws gave 400"),
        (page(200, b"<html>"), "/ws gave 200"),
        (page(502), "/ws gave 502"),
        (b"", "ends the connection"),
    ],
)
def test_a_proxy_that_drops_upgrades(
    said: bytes, found: str, shell: Shell, comfy_server: SimulatedServer
) -> None:
    """Everything works but the event socket; which headers it needs is said."""
    with gate(comfy_server.url, at("/ws", said)) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (3, ["events"])
    assert found in ended.json[-1]["found"]
    assert "Upgrade" in ended.json[-1]["hint"]


def test_a_proxy_that_holds_back_events(
    shell: Shell, comfy_server: SimulatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket opens, and nothing arrives."""
    monkeypatch.setattr("async_comfy.cli.examination.PATIENCE_S", 1.0)
    with gate(comfy_server.url, silence) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (3, ["events"])
    assert "nothing arrives" in ended.json[-1]["found"]
    assert "buffering" in ended.json[-1]["hint"]


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Whom nobody trusts yet; ca.pem in the folder says who it is."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    """What a server shows that calls itself so."""
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(shown)
    return shown


def test_a_certificate_that_nobody_vouches_for(
    shell: Shell, comfy_server: SimulatedServer, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 3; how to trust it is said, and doing so helps, from the start of the process on."""
    with gate(comfy_server.url, tls=context(authority, "127.0.0.1")) as url:
        ended = shell.type("doctor", "--json", "--server", url)
        monkeypatch.setenv("SSL_CERT_FILE", "ca.pem")
        with started(shell, "doctor", "--server", url) as process:
            trusted, _ = process.communicate(timeout=PATIENCE_S)

    assert (ended.code, failed(ended)) == (3, ["TLS"])
    assert "not trusted" in ended.json[-1]["found"]
    assert "SSL_CERT_FILE" in ended.json[-1]["hint"]
    assert process.returncode == 0
    assert [line.split()[:2] for line in trusted.splitlines()] == [[step, "ok"] for step in HEALTHY]


def test_a_certificate_for_another_name(
    shell: Shell, comfy_server: SimulatedServer, authority: trustme.CA
) -> None:
    """The names are told apart."""
    with gate(comfy_server.url, tls=context(authority, "comfy.example")) as url:
        ended = shell.type("doctor", "--json", "--server", url, SSL_CERT_FILE="ca.pem")

    assert (ended.code, failed(ended)) == (3, ["TLS"])
    assert "mismatch" in ended.json[-1]["found"]


def test_an_origin_that_the_server_refuses(shell: Shell) -> None:
    """Exit code 4: the header that the user gave is the reason, not the key."""
    ended = shell.type("doctor", "--json", "--header", "Origin: http://elsewhere.example")

    assert (ended.code, failed(ended)) == (4, ["HTTP"])
    assert "http://elsewhere.example" in ended.json[-1]["found"]
    assert "--enable-cors-header" in ended.json[-1]["hint"]


def test_a_redirect_says_where_to(shell: Shell, comfy_server: SimulatedServer) -> None:
    """Without what may be secret."""
    said = page(302, b"", "Location: https://login.example/start?token=sesame")
    with gate(comfy_server.url, lambda head: said) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert "https://login.example/start" in ended.json[-1]["found"]
    assert "sesame" not in ended.out + ended.err


@pytest.mark.parametrize(
    ("number", "found"),
    [(socket.EAI_NONAME, "no such host: comfy.example"), (socket.EAI_AGAIN, "no name server says")],
)
def test_a_name_server_that_does_not_help(
    number: int, found: str, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that there is not, and a resolver that is away, are told apart."""

    def refuse(*words: object, **named: object) -> None:
        raise socket.gaierror(number, "said the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    ended = shell.type("doctor", "--json", "--server", "http://comfy.example:8188")

    assert (ended.code, failed(ended)) == (3, ["name"])
    assert found in ended.json[-1]["found"]


@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_of_the_environment_that_lets_nothing_through(
    status: int, shell: Shell, comfy_server: SimulatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way to an https server goes through CONNECT."""
    with gate(comfy_server.url, lambda head: page(status)) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        ended = shell.type("doctor", "--json", "--server", "https://comfy.example")

    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert f"the proxy does not let through ({status})" in ended.json[-1]["found"]
    assert "HTTPS_PROXY" in ended.json[-1]["hint"]


def test_a_certificate_behind_a_proxy(
    shell: Shell, comfy_server: SimulatedServer, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by the step after."""
    with gate(comfy_server.url, tls=context(authority, "127.0.0.1")) as url, tunnel() as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert "not trusted" in ended.json[-1]["found"]


def test_a_proxy_that_serves_api_alone(shell: Shell, comfy_server: SimulatedServer) -> None:
    """It is found, and what to do about it."""

    def answer(head: str) -> bytes | None:
        return None if head.split(" ")[1].startswith("/api/") else page(404)

    with gate(comfy_server.url, answer) as url:
        ended = shell.type("doctor", "--json", "--server", url)

    assert (ended.code, failed(ended)) == (3, ["HTTP"])
    assert "below /api alone" in ended.json[-1]["found"]
    assert f"{url}/api" in ended.json[-1]["hint"]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://cloud.comfy.org", ("Comfy Cloud", "")),
        ("https://cloud.comfy.org/api", ("Comfy Cloud", "Leave /api out")),
        ("http://comfy.example:8188/api", ("comfy.example", "Leave /api out")),
    ],
)
def test_the_prefix_of_comfy_cloud(
    address: str, said: tuple[str, str], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is said when it is seen."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **named: [])
    first = shell.type("doctor", "--json", "--server", address).json[0]

    assert (first["step"], first["ok"]) == ("address", True)
    assert said[0] in first["found"]
    assert said[1] in first["hint"]
    assert bool(said[1]) == bool(first["hint"])


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
