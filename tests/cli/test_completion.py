"""`completion`: what a shell needs to complete commands and options."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli import screen
from tests.cli.shell import Shell


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_script_asks_this_command(kind: str, shell: Shell) -> None:
    """By the variable that the command answers to."""
    ended = shell.type("completion", kind)
    assert ended.code == 0
    assert f"_ASYNC_COMFY_COMPLETE={kind}_complete" in ended.out


def test_what_the_script_asks_is_answered(shell: Shell) -> None:
    """`async-comfy hist<TAB>`."""
    asked = {"_ASYNC_COMFY_COMPLETE": "bash_complete", "COMP_WORDS": "async-comfy hist", "COMP_CWORD": "1"}
    words = [sys.executable, "-m", "async_comfy"]
    ended = subprocess.run(words, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert ended.stdout.split() == ["plain,history"]


def test_another_shell_is_no_choice(shell: Shell) -> None:
    """Exit code 2, and which ones there are."""
    ended = shell.type("completion", "csh")
    assert ended.code == 2
    assert "'bash', 'zsh', 'fish'" in ended.err


@pytest.fixture
def profiles(shell: Shell) -> Shell:
    """Two servers have names."""
    for name in ("gpu1", "gpu2"):
        assert shell.type("profiles", "add", name, f"http://{name}:8188").code == 0
    return shell


def asked(shell: Shell, kind: str, *words: str) -> list[str]:
    """What completes the last word, as the script of that kind asks for it."""
    line = " ".join(words)
    env = {
        **os.environ,
        **shell.own,
        "_ASYNC_COMFY_COMPLETE": f"{kind}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": words[-1] if kind == "fish" else str(len(words) - 1),
    }
    command = [sys.executable, "-m", "async_comfy"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, cwd=shell.folder)
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("kind", "found"),
    [("bash", ["plain,gpu1", "plain,gpu2"]), ("zsh", ["plain", "gpu1", "_", "plain", "gpu2", "_"])],
)
def test_names_of_servers_are_completed(kind: str, found: list[str], profiles: Shell) -> None:
    """After --server of any command."""
    for command in (("queue",), ("templates", "run", "x")):
        assert asked(profiles, kind, "async-comfy", *command, "--server", "gp") == found
    assert asked(profiles, kind, "async-comfy", "profiles", "remove", "gp") == found


def test_a_broken_profile_file_completes_nothing(shell: Shell) -> None:
    """And says nothing: it would end up in the line that is being typed."""
    file = shell.folder / ".config/async-comfy/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("servers = ")
    assert asked(shell, "bash", "async-comfy", "queue", "--server", "gp") == []


def test_files_are_completed(shell: Shell) -> None:
    """By the shell itself, where a command takes one."""
    for command in ("run", "rerun", "check", "convert", "params", "upload"):
        assert asked(shell, "bash", "async-comfy", command, "fo") == ["file,fo"]


def test_a_real_bash_completes(profiles: Shell) -> None:
    """The script is sourced, Tab is pressed."""
    script = profiles.folder / "complete.sh"
    script.write_text(profiles.type("completion", "bash").out)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = screen.environment(profiles.own, PS1="ready> ", PATH=path, TERM="dumb")
    code, said = screen.typed(
        ["bash", "--norc", "--noprofile", "-i"],
        env,
        (b"ready> ", f". {script}\n".encode()),
        (b"ready> ", b"async-comfy prof\t"),
        (b"profiles ", b"remove gp\t"),
        (b"u", b"1\t --y\t"),  # what both begin with
        (b"--yes ", b"\n"),
        (b"ready> ", b"exit\n"),
    )

    assert code == 0, said
    assert "gpu1 forgotten" in said
    assert [one["name"] for one in profiles.type("profiles", "--json").json] == ["gpu2"]


@pytest.mark.parametrize("kind", ["zsh", "fish"])
def test_the_script_is_one_of_that_shell(kind: str, shell: Shell) -> None:
    """Where there is one here, it reads the script without a complaint."""
    program = shutil.which(kind)
    if program is None:
        pytest.skip(f"{kind} is not installed")
    script = shell.folder / "complete"
    script.write_text(shell.type("completion", kind).out)
    before = "autoload -Uz compinit; compinit -u; " if kind == "zsh" else ""
    words = [program, "-c", f"{before}source {script}"]
    env = {**os.environ, "HOME": str(shell.folder)}
    ended = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert (ended.returncode, ended.stderr) == (0, "")
