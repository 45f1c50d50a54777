"""What people see before they have read anything."""

import subprocess
import sys

import click
import pytest

from async_comfy import __version__
from tests.cli.shell import Shell
from tests.cli.stage import LEAVES


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_is_explained(name: str) -> None:
    """No option without a word of help."""
    options = [param for param in LEAVES[name].params if isinstance(param, click.Option)]
    assert all(option.help for option in options)


def test_the_exit_codes_are_listed(shell: Shell) -> None:
    """In the help of the whole."""
    shown = shell.type("--help").out
    assert [line.split()[0] for line in shown.partition("Exit codes:")[2].splitlines() if line.strip()] == [
        "0", "1", "2", "3", "4", "130", "143",
    ]  # fmt: skip


def test_version(shell: Shell) -> None:
    """One line with the package's own version."""
    assert shell.type("--version").out == f"async-comfy, version {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    """What takes its time to import is left alone until a command needs it."""
    code = (
        "import sys, contextlib\n"
        "sys.argv = ['async-comfy', '--help']\n"
        "from async_comfy.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "heavy = {'aiohttp', 'websockets', 'rich', 'PIL', 'asyncio', 'tomlkit', 'keyring'}\n"
        "heavy |= {'async_comfy.workflow'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ended.stdout.startswith("Usage: async-comfy")
    assert ended.stdout.splitlines()[-1] == "[]"
