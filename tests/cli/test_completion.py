"""`completion`: what a shell needs to complete commands and options."""

import os
import subprocess
import sys

import pytest

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
