"""The command line, ``async-comfy``: written with the public names, as anybody could."""

import os
import sys
from io import TextIOWrapper
from pathlib import Path

NEEDS_CLI = """error: The command line needs click and rich.
Install them: pip install 'async-comfy[cli]'
"""


def main() -> None:
    """Runs the command line and ends the process with one of the codes in `exits`."""
    _reopen()
    try:
        from async_comfy.cli.commands import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(NEEDS_CLI)
        sys.exit(2)
    commands(prog_name="async-comfy")


def _reopen() -> None:
    """Where the shell closed a stream (`>&-`), what goes there goes nowhere; odd letters stop no output."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
