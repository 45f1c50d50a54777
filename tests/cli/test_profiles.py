"""The profile file: servers by name, their credentials from the environment."""

import pytest

from async_comfy.testing import SimulatedServer
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
