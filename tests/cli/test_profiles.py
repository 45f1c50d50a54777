"""The profile file: servers by name, their credentials from the environment or a keyring."""

import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import pytest

from async_comfy.testing import SimulatedServer
from tests.cli import screen
from tests.cli.shell import Shell


@pytest.fixture
def profile(shell: Shell) -> Shell:
    """A server "gpu1" that wants a token."""
    write(
        shell,
        f"""
        [servers.gpu1]
        url = "{shell.url}"
        bearer_env = "GPU1_TOKEN"
        headers = {{ X-Team = "red" }}
        headers_env = {{ X-Pass = "GPU1_PASS" }}
        """,
    )
    return Shell(shell.folder, "http://127.0.0.1:1")  # where ASYNC_COMFY_URL leads: to nobody


def write(shell: Shell, text: str) -> None:
    file = shell.folder / ".config/async-comfy/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)


def test_a_server_by_its_name(profile: Shell, comfy_server: SimulatedServer) -> None:
    """Its address, and its credentials out of the environment."""
    ended = profile.type("queue", "--server", "gpu1", GPU1_TOKEN="sesame", GPU1_PASS="open")

    assert ended.code == 0
    headers = comfy_server.requests[0].headers
    assert [headers[name] for name in ("Authorization", "X-Team", "X-Pass")] == [
        "Bearer sesame",
        "red",
        "open",
    ]


def test_what_is_typed_counts_more_and_the_environment_less(
    profile: Shell, comfy_server: SimulatedServer
) -> None:
    """Option, profile, environment."""
    env = {"GPU1_TOKEN": "profile", "GPU1_PASS": "x", "ASYNC_COMFY_BEARER": "environment"}
    profile.type("queue", "--server", "gpu1", **env)
    profile.type("queue", "--server", "gpu1", "--bearer", "typed", **env)

    assert [seen.headers["Authorization"] for seen in comfy_server.requests] == [
        "Bearer profile",
        "Bearer typed",
    ]


def test_a_profiles_credentials_go_to_its_server_alone(profile: Shell, comfy_server: SimulatedServer) -> None:
    """By its address it is a server like any other."""
    profile.type("queue", "--server", comfy_server.url, GPU1_TOKEN="sesame", GPU1_PASS="open")
    assert "Authorization" not in comfy_server.requests[0].headers


def test_the_environments_server_counts_more_than_the_default(shell: Shell) -> None:
    """And without either, the default is asked."""
    write(shell, 'default = "down"\n[servers.down]\nurl = "http://127.0.0.1:1"')

    assert shell.type("queue").code == 0
    ended = shell.type("queue", ASYNC_COMFY_URL="")
    assert ended.code == 3
    assert "http://127.0.0.1:1:" in ended.err


@pytest.mark.parametrize("command", ["queue", "doctor"])
def test_a_misspelt_name_is_told_the_names_that_there_are(
    command: str, profile: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no host has that name, either; what looks like an address is taken for one."""
    resolved = socket.getaddrinfo

    def look_up(host: Any, *about: Any, **more: Any) -> Any:
        if "gpu9" in str(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolved(host, *about, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    said = "No server is called 'gpu9' in"
    ended = profile.type(command, "--server", "gpu9")
    assert ended.code == 3
    assert said in ended.out + ended.err
    assert "there are: gpu1." in ended.out + ended.err
    for address in ("gpu9.example", "gpu9:8188", "http://gpu9"):
        ended = profile.type(command, "--server", address)
        assert ended.code == 3
        assert said not in ended.out + ended.err


def test_a_variable_that_is_not_set_is_named(profile: Shell) -> None:
    """Exit code 2."""
    ended = profile.type("queue", "--server", "gpu1", GPU1_PASS="open")
    assert ended.code == 2
    assert "GPU1_TOKEN, which is not set" in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("servers = ", "not TOML"),
        ("servers = 5", "servers is no table"),
        ("[servers]\ngpu1 = 5", "servers.gpu1 is no table"),
        ("[servers.gpu1]", "has no url"),
        ("[servers.gpu1]\nurl = 5", "servers.gpu1.url is no text"),
        ('[servers.gpu1]\nurl = "x"\nheaders = { A = 5 }', "servers.gpu1.headers.A is no text"),
        ('[servers.gpu1]\nurl = "x"\ntoken = "sesame"', "unknown 'token'"),
        ('[servers.gpu1]\nurl = "x"\nbearer_keyring = 5', "servers.gpu1.bearer_keyring is no table"),
        ('[servers.gpu1]\nurl = "x"\nbearer_keyring = { user = "a" }', "service = ..., username = ..."),
        ('default = "gpu2"\n[servers.gpu1]\nurl = "x"', "default 'gpu2'"),
    ],
)
def test_a_wrong_file_is_explained(text: str, said: str, shell: Shell) -> None:
    """One line with file and place, exit code 2, no secret."""
    write(shell, text)

    words = ["queue"] if "default" in text else ["queue", "--server", "gpu1"]
    ended = shell.type(*words, ASYNC_COMFY_URL="")
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "config.toml" in ended.err
    assert "sesame" not in ended.err


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # it has no types
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("the user said no")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


@pytest.fixture
def ring() -> Iterator[Ring]:
    before = keyring.get_keyring()
    made = Ring()
    keyring.set_keyring(made)
    yield made
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("said", "entry"),
    [
        ('"gpu1"', ("async-comfy", "gpu1")),
        ('{ service = "work", username = "fox" }', ("work", "fox")),
    ],
)
def test_a_token_from_the_keyring(
    said: str, entry: tuple[str, str], shell: Shell, comfy_server: SimulatedServer, ring: Ring
) -> None:
    """An entry of our own service, or of another."""
    write(shell, f'[servers.gpu1]\nurl = "{shell.url}"\nbearer_keyring = {said}')
    ring.entries[entry] = "sesame"

    assert shell.type("queue", "--server", "gpu1").code == 0
    assert comfy_server.requests[0].headers["Authorization"] == "Bearer sesame"


def test_keys_from_the_keyring(shell: Shell, comfy_server: SimulatedServer, ring: Ring) -> None:
    """api_key_keyring; the rest of the file as ever."""
    write(shell, f'[servers.gpu1]\nurl = "{shell.url}"\napi_key_keyring = "a"\npartner_key_keyring = "b"')
    ring.entries = {("async-comfy", "a"): "open", ("async-comfy", "b"): "pay"}

    assert shell.type("queue", "--server", "gpu1").code == 0
    assert comfy_server.requests[0].headers["X-API-Key"] == "open"


def test_an_entry_that_is_not_there_is_named(shell: Shell, ring: Ring) -> None:
    """Exit code 2, and how to make it."""
    write(shell, '[servers.gpu1]\nurl = "x"\nbearer_keyring = "gpu1"')

    ended = shell.type("queue", "--server", "gpu1")
    assert (ended.code, ended.out) == (2, "")
    assert "no entry 'gpu1' of 'async-comfy'" in ended.err
    assert "keyring set async-comfy gpu1" in ended.err


def test_a_keyring_that_is_locked_is_said_to_be(shell: Shell, ring: Ring) -> None:
    """Exit code 2."""
    write(shell, '[servers.gpu1]\nurl = "x"\nbearer_keyring = "gpu1"')
    ring.locked = True

    ended = shell.type("queue", "--server", "gpu1")
    assert (ended.code, ended.out) == (2, "")
    assert "does not open (KeyringLocked)" in ended.err
    assert "Unlock" in ended.err


def test_a_machine_without_a_keyring(shell: Shell, ring: Ring) -> None:
    """The package's own backend for that case: exit code 2, and another way."""
    write(shell, '[servers.gpu1]\nurl = "x"\nbearer_keyring = "gpu1"')

    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]  # keyring has no types there
    ended = shell.type("queue", "--server", "gpu1")
    assert (ended.code, ended.out) == (2, "")
    assert "bearer_env" in ended.err


def test_the_package_may_be_missing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and which extra has it."""
    write(shell, '[servers.gpu1]\nurl = "x"\nbearer_keyring = "gpu1"')
    for name in ("keyring", "keyring.errors"):
        monkeypatch.setitem(sys.modules, name, None)

    ended = shell.type("queue", "--server", "gpu1")
    assert (ended.code, ended.out) == (2, "")
    assert "pip install 'async-comfy[keyring]'" in ended.err


def config(shell: Shell) -> Path:
    return shell.folder / ".config/async-comfy/config.toml"


def test_they_are_listed_without_secrets(shell: Shell) -> None:
    """The default one with a star; where credentials come from, never what they are."""
    write(
        shell,
        """
        default = "b"
        [servers.a]
        url = "http://fox:sesame@a:8188"
        bearer = "sesame"
        headers = { X-Team = "sesame" }
        [servers.b]
        url = "http://b"
        api_key_env = "B_KEY"
        partner_key_keyring = "b"
        """,
    )
    said = shell.type("profiles")
    assert said.out.splitlines() == [
        "  a  http://a:8188  bearer from this file, header X-Team from this file",
        "* b  http://b       api_key from $B_KEY, partner_key from keyring async-comfy b",
    ]
    assert shell.type("profiles", "list").out == said.out
    listed = shell.type("profiles", "--json").json
    assert [(one["name"], one["url"], one["default"]) for one in listed] == [
        ("a", "http://a:8188", False),
        ("b", "http://b", True),
    ]
    assert "sesame" not in said.out + str(listed)


def test_none_yet(shell: Shell) -> None:
    """Not an error; how to make one."""
    ended = shell.type("profiles")
    assert (ended.code, ended.out) == (0, "")
    assert "profiles add" in ended.err


def test_one_that_is_added_works_by_its_name(shell: Shell, comfy_server: SimulatedServer) -> None:
    """The file is for its owner alone to read."""
    said = shell.type(
        "profiles", "add", "gpu1", shell.url, "--bearer-env", "TOKEN", "--header-env", "X-Pass=PASS"
    )

    assert (said.code, said.out) == (0, f"gpu1: {shell.url}\n")
    assert stat.S_IMODE(config(shell).stat().st_mode) == 0o600
    assert shell.type("queue", "--server", "gpu1", TOKEN="sesame", PASS="open").code == 0
    headers = comfy_server.requests[0].headers
    assert (headers["Authorization"], headers["X-Pass"]) == ("Bearer sesame", "open")


def test_comments_and_order_stay(shell: Shell) -> None:
    """Of what was written by hand."""
    write(shell, '# mine\n[servers.b]\nurl = "http://b"  # the old one\n')
    shell.type("profiles", "add", "a", "http://a", "--default")
    text = config(shell).read_text()

    assert "# mine" in text
    assert 'url = "http://b"  # the old one' in text
    assert text.index("default") < text.index("[servers.b]") < text.index("[servers.a]")
    assert [one["name"] for one in shell.type("profiles", "--json").json if one["default"]] == ["a"]
    assert shell.type("profiles", "default", "b").code == 0
    assert [one["name"] for one in shell.type("profiles", "--json").json if one["default"]] == ["b"]


def test_a_name_that_is_taken_is_kept(shell: Shell) -> None:
    """Unless it is to be replaced."""
    shell.type("profiles", "add", "a", "http://a")
    ended = shell.type("profiles", "add", "a", "http://b")
    assert (ended.code, ended.out) == (2, "")
    assert "--replace" in ended.err
    assert shell.type("profiles", "add", "a", "http://b", "--replace").code == 0
    assert [one["url"] for one in shell.type("profiles", "--json").json] == ["http://b"]


def test_one_that_is_removed_is_gone_with_its_secret(shell: Shell, ring: Ring) -> None:
    """And is the default no longer. Entries of others stay."""
    ring.entries = {("async-comfy", "a.bearer"): "sesame", ("work", "a.bearer"): "other"}
    write(shell, 'default = "a"\n[servers.a]\nurl = "http://a"\nbearer_keyring = "a.bearer"')

    assert shell.type("profiles", "remove", "a", "--yes").out == "a forgotten\n"
    assert ring.entries == {("work", "a.bearer"): "other"}
    assert shell.type("profiles", "--json").out == ""
    assert shell.type("queue").code == 0


def test_a_secret_is_piped_into_the_keyring(
    shell: Shell, comfy_server: SimulatedServer, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file says where it is."""
    said = shell.type("profiles", "add", "a", shell.url, "--keyring", "bearer", typed="sesame\n")

    assert said.code == 0
    assert ring.entries == {("async-comfy", "a.bearer"): "sesame"}
    assert "sesame" not in config(shell).read_text() + said.out + said.err
    assert shell.type("queue", "--server", "a").code == 0
    assert comfy_server.requests[0].headers["Authorization"] == "Bearer sesame"


def test_nothing_to_keep_is_an_error(shell: Shell, ring: Ring) -> None:
    """Exit code 2; no server is made."""
    ended = shell.type("profiles", "add", "a", shell.url, "--keyring", "bearer", typed="")
    assert (ended.code, ended.out) == (2, "")
    assert not config(shell).exists()


@pytest.mark.parametrize(("key", "kept", "code"), [(b"n\n", True, 1), (b"y\n", False, 0), (b"\x04", True, 1)])
def test_removing_asks_first(key: bytes, kept: bool, code: int, shell: Shell) -> None:
    """In a terminal; Ctrl-D is no."""
    shell.type("profiles", "add", "a", "http://a")
    words = screen.python("profiles", "remove", "a")
    ended, said = screen.typed(words, screen.environment(shell.own), (b"[y/N]: ", key))

    assert ended == code
    assert "Forget a, http://a?" in said
    assert bool(shell.type("profiles", "--json").out) == kept


def test_a_folder_that_cannot_be_written(shell: Shell) -> None:
    """Exit code 2; one line."""
    (shell.folder / ".config").write_text("a file")
    ended = shell.type("profiles", "add", "a", "http://a")
    assert (ended.code, ended.out) == (2, "")
    assert "config.toml: cannot be" in ended.err
    assert [path.name for path in shell.folder.iterdir()] == [".config"]
