"""The command line, ``async-comfy``: written with the public names, as anybody could."""

import sys

NEEDS_CLI = """error: The command line needs click and rich.
Install them: pip install 'async-comfy[cli]'
"""


def main() -> None:
    """Runs the command line and ends the process with one of the codes in `exits`."""
    try:
        from async_comfy.cli.commands import commands
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write(NEEDS_CLI)
        sys.exit(2)
    commands(prog_name="async-comfy")
