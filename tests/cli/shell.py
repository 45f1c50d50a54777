"""Typing commands: in this process where that is enough, else in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from async_comfy.cli.commands import commands

PATIENCE_S = 20.0  # a broken promise fails the test instead of hanging it
CREDENTIALS = ("ASYNC_COMFY_API_KEY", "ASYNC_COMFY_BEARER", "ASYNC_COMFY_PARTNER_KEY")


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Shell:
    """A folder, and the server that commands mean when they name none."""

    folder: Path
    url: str

    @property
    def own(self) -> dict[str, str]:
        """What the environment says here: the profiles of whoever runs the tests do not matter."""
        return {"ASYNC_COMFY_URL": self.url, "XDG_CONFIG_HOME": str(self.folder / ".config")}

    def type(self, *words: str, typed: str = "", **env: str) -> Ended:
        """One command, to its end, with `typed` on stdin. What it raises but its exit code fails the test."""
        environment = {**dict.fromkeys(CREDENTIALS), **self.own, **env}
        ended = CliRunner().invoke(
            commands,
            list(words),
            input=typed,
            env=environment,
            catch_exceptions=False,
            prog_name="async-comfy",
        )
        return Ended(ended.exit_code, ended.stdout, ended.stderr)

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """One command in a process of its own, which can be interrupted."""
        return subprocess.Popen(
            [sys.executable, "-m", "async_comfy", *words],
            cwd=self.folder,
            env={**os.environ, **self.own, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def files(self, pattern: str = "**/*") -> list[str]:
        """The files in the folder, by their paths from it, without what the test itself put there."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.glob(pattern)
            if path.is_file() and path.parent != self.folder
        )


@contextmanager
def started(shell: Shell, *words: str) -> "Iterator[subprocess.Popen[str]]":
    """A command that runs in the block, and not after it."""
    with shell.start(*words) as process:
        try:
            yield process
        finally:
            process.kill()
