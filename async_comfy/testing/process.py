"""A simulated server in a process of its own, that can be killed and frozen as one."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Self

READY_S = 30.0  # a start takes half a second; a busy machine may take its time


class ServerProcess:
    """A `SimulatedServer` in a child process: ``with ServerProcess(step_s=0.1) as server``.

    Takes the options of ``python -m async_comfy.testing`` by name. `kill` is SIGKILL, `stop` SIGSTOP, `cont`
    SIGCONT; a restart keeps the port and the files, and forgets what a process forgets. `executions` outlives
    the process: it counts, for each prompt id, how many times it was begun in any life.

    Raises: `RuntimeError` where the child does not come up.
    """

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self.port = port
        self.options = options
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._child: subprocess.Popen[str] | None = None

    def __repr__(self) -> str:
        return f"ServerProcess({self.url}, pid {self.pid})"

    def __enter__(self) -> Self:
        self._home = tempfile.TemporaryDirectory(prefix="simulated-comfy-")
        try:
            self.start()
        except BaseException:
            self._home.cleanup()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()
        if self._home is not None:
            self._home.cleanup()

    @property
    def url(self) -> str:
        """The base URL; the same in every life."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id, or None when there is none."""
        return None if self._child is None else self._child.pid

    @property
    def executions(self) -> Counter[str]:
        """How many times each prompt id was begun."""
        log = self._log()
        return Counter(log.read_text().split()) if log.exists() else Counter()

    def start(self) -> None:
        """Starts the process and waits until it listens."""
        log = self._log()
        given = {"port": self.port, "folder": log.parent, "executions_log": log, **self.options}
        words = [
            word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        self._child = subprocess.Popen(  # noqa: S603 - our own module, our own words
            [sys.executable, "-m", "async_comfy.testing", *words],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        line = self._child.stdout.readline().strip() if self._child.stdout is not None else ""
        if not line.startswith("http://"):
            self.kill()
            raise RuntimeError(f"the simulated server did not start with the options {self.options}")
        self.port = int(line.rsplit(":", 1)[1])

    def kill(self) -> None:
        """SIGKILL: gone at once, no close frames, nothing written."""
        if self._child is None:
            return
        self._child.kill()
        self._child.wait(READY_S)
        if self._child.stdout is not None:
            self._child.stdout.close()
        self._child = None

    def stop(self) -> None:
        """SIGSTOP: frozen; connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT: goes on where it was."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kills it, if it lives, and starts it on the same port."""
        self.kill()
        self.start()

    def _signal(self, number: int) -> None:
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def _log(self) -> Path:
        if self._home is None:
            raise RuntimeError("this server process has no home yet: use it in a with block")
        return Path(self._home.name) / "executions.log"
